"""``make audit``: are there known vulnerabilities in what requirements.lock pins? Asked of PyPI by pip-audit.

pip-audit answers "No known vulnerabilities found" as well when it found nothing *out*, because the database
does not know the package or is not there. So what was looked up is counted here, and said.

Exit code 0: none is known, or nobody could be asked (the first line says which); 1: some are, and are listed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.lock import LOCK

__all__ = ["ACCEPTED", "Findings", "ask", "findings", "released", "verdict"]

# Advisories that do not concern us, by id, each with the reason why.
ACCEPTED: dict[str, str] = {}

_TIMEOUT_S = 300
_NAMED = 10


@dataclass(frozen=True)
class Findings:
    """`audited` and `unknown` are packages, `vulnerable` lines to read."""

    audited: Sequence[str]
    unknown: Sequence[str]
    vulnerable: Sequence[str]


def findings(answer: Mapping[str, Any], accepted: Mapping[str, str] = ACCEPTED) -> Findings:
    """What an answer of ``pip-audit --format json`` says."""
    packages = answer["dependencies"]
    return Findings(
        audited=[each["name"] for each in packages if "skip_reason" not in each],
        unknown=[each["name"] for each in packages if "skip_reason" in each],
        vulnerable=[
            _line(each, known)
            for each in packages
            for known in each.get("vulns", ())
            if not {known["id"], *known.get("aliases", ())} & accepted.keys()
        ],
    )


def verdict(found: Findings | None) -> tuple[str, int]:
    """What to print, and the exit code. None: pip-audit had no answer."""
    if found is None or not found.audited:
        return (
            "NOT AUDITED: the database of known vulnerabilities cannot be reached from here. Nothing is\n"
            "known about the packages of requirements.lock, for better or worse. Run 'make audit' where\n"
            "PyPI's JSON API answers.",
            0,
        )
    lines = []
    if found.vulnerable:
        lines += [f"{len(found.vulnerable)} known vulnerabilities:", *found.vulnerable]
    else:
        lines.append(f"AUDITED: no vulnerability is known of {len(found.audited)} packages.")
    if found.unknown:
        named = ", ".join(found.unknown[:_NAMED]) + (", ..." if len(found.unknown) > _NAMED else "")
        lines.append(f"NOT AUDITED, because the database does not know them: {len(found.unknown)} ({named})")
    return "\n".join(lines), int(bool(found.vulnerable))


def ask(lock: Path = LOCK) -> Findings | None:
    """pip-audit's answer about a lock file; None when it has none, with its reason on standard error."""
    command = [sys.executable, "-m", "pip_audit", "--require-hashes"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(released(lock.read_text()))
            file.flush()
            done = subprocess.run(  # noqa: S603 - our own arguments
                [*command, "--requirement", file.name], capture_output=True, text=True, timeout=_TIMEOUT_S
            )
        return findings(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"pip-audit had no answer within {_TIMEOUT_S} s\n")
    except (ValueError, LookupError, TypeError):
        sys.stderr.write("\n".join(done.stderr.splitlines()[-3:]) + "\n")
    return None


def released(lock: str) -> str:
    """The lock with ``2.13.0`` for ``2.13.0+cpu``: the database knows releases, not the builds of one."""
    return re.sub(r"^(\S+==[^\s+]+)\+\S+", r"\1", lock, flags=re.MULTILINE)


def _line(package: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    fixed = ", ".join(known.get("fix_versions") or ["no version yet"])
    also = " ".join(known.get("aliases") or [])
    return f"  {package['name']} {package['version']}: {known['id']} {also} (fixed in: {fixed})"


def main() -> None:
    text, code = verdict(ask())
    sys.stdout.write(text + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
