"""What runs in the process of the gate: lock down, judge the files, write the verdict.

    stdin    {"files": {role: path below the scratch folder}, "memory_bytes", "cpu_s", "verdict_bytes",
             "sandbox", "runner_uid", "confined"}
    stdout   what "confined" was, then JSON: null, or the problem's code, detail, hint, layer and pointer

No file of a caller is opened before the process is confined. What may be imported is imported afterwards:
only then is the process sure to have one thread.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tasks.sandbox.lockdown import Limits, Sandbox, chosen_user, lock_down

__all__ = ["main"]


def main(scratch: Path, parent: int) -> int:
    """Exit code: 0 with a verdict; EX_CONFIG where the process cannot be confined, and nothing was opened."""
    task = json.load(sys.stdin)
    limits = Limits(
        memory_bytes=task["memory_bytes"],
        file_bytes=task["verdict_bytes"],
        open_files=64,
        cpu_s=task["cpu_s"],
    )
    sandbox = Sandbox(kind=task["sandbox"], uid=chosen_user(task["runner_uid"], scratch.parent))
    try:
        lock_down(
            scratch, limits, parent=parent, keep_fds=frozenset({0, 1, 2}), sandbox=sandbox, writable=False
        )
    except (OSError, RuntimeError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - the parent logs it
        return os.EX_CONFIG
    print(task["confined"], end="", flush=True)  # noqa: T201 - the parent reads it
    json.dump(_verdict(scratch, task["files"]), sys.stdout)
    return 0


def _verdict(scratch: Path, files: dict[str, str]) -> dict[str, Any] | None:
    from tasks.compression.errors import CompressionError
    from tasks.sandbox.gate import check

    for role, name in files.items():
        try:
            check(scratch / name, role)  # type: ignore[arg-type]
        except CompressionError as error:
            return {
                "code": error.code,
                "detail": error.detail[:1000],
                "hint": error.hint,
                "layer": error.layer,
                "pointer": (error.pointer or "")[:1000],
            }
    return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
