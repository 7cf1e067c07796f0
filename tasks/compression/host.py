"""The machine and the libraries a result was made with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from featherweight.report import Host

__all__ = ["host", "library_versions"]


def host() -> Host:
    """What confines this process is told by whoever confined it, in the environment."""
    return Host(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        platform=f"{platform.system()} {platform.machine()}",
        sandbox=os.environ.get("FEATHERWEIGHT_SANDBOX"),
    )


def library_versions(*names: str) -> dict[str, str]:
    """The installed versions of distributions, and Python's."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()
