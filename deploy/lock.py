"""The one lock file: made from the dependency groups of pyproject.toml, cut down for an image.

    python -m deploy.lock                    make requirements.lock anew (needs pip-tools)
    python -m deploy.lock upgrade            the same, with the newest versions allowed
    python -m deploy.lock only client worker print what these groups or packages need of it

`only` needs nothing but Python. It reads who needs whom from the lock's own ``# via`` comments, so
that an image installs its share of the very versions and hashes that everything was tested with.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["LOCK", "closure", "compile_lock", "needed_by", "parse", "subset"]

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
_INPUTS = Path("build", "lock")
_HEADER = "# Made by 'make lock' from pyproject.toml. Do not edit.\n"


def compile_lock(*, upgrade: bool = False) -> None:
    """Resolve all groups together for PyPI alone and write requirements.lock."""
    inputs = _write_inputs(tomllib.loads((ROOT / "pyproject.toml").read_text()))
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
    command += ["--strip-extras", "--no-header", "--no-emit-options", "--newline=lf"]
    command += ["--upgrade"] if upgrade else []
    subprocess.run(  # noqa: S603 - our own arguments
        [*command, f"--output-file={LOCK.name}", *map(str, inputs)],
        cwd=ROOT,
        env=_plain_environment(),
        check=True,
    )
    LOCK.write_text(_HEADER + LOCK.read_text().removeprefix(_HEADER))


def subset(text: str, names: Iterable[str]) -> str:
    """The entries of the lock `text` that these groups or packages need, in the lock's form."""
    entries = parse(text)
    wanted = closure(entries, names)
    return "".join(entries[name] for name in entries if name in wanted)


def parse(text: str) -> dict[str, str]:
    """The lock's entries by package name: requirement, hashes and ``via`` comment."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    return {re.split(r"==|\[", block)[0]: block for block in blocks}


def closure(entries: Mapping[str, str], names: Iterable[str]) -> set[str]:
    """Names of the entries that one of `names`, groups or packages, needs, directly or through another.

    A name that is both means the group. LookupError for one that is neither.
    """
    wanted_by = {name: needed_by(block) for name, block in entries.items()}
    known = set(entries).union(*wanted_by.values())
    reached = {group if (group := f"group:{name}") in known else name for name in names}
    if missing := reached - known:
        raise LookupError(f"the lock knows nothing of {sorted(missing)}")
    found = set[str]()
    while reached:
        found |= reached
        reached = {name for name, parents in wanted_by.items() if parents & found} - found
    return found & set(entries)


def needed_by(block: str) -> set[str]:
    """Who needs an entry: packages by name, groups as ``group:<name>``."""
    _, _, via = block.partition("# via")
    names = re.findall(r"^\s*#?\s*(-r \S+|[A-Za-z0-9._-]+)", via, flags=re.MULTILINE)
    return {f"group:{Path(name[3:]).stem}" if name.startswith("-r ") else name for name in names}


def _write_inputs(pyproject: Mapping[str, dict[str, list[str]]]) -> list[Path]:
    groups = {
        "client": pyproject["project"]["dependencies"],
        "build": pyproject["build-system"]["requires"],
        **pyproject["dependency-groups"],
    }
    (ROOT / _INPUTS).mkdir(parents=True, exist_ok=True)
    for name, requirements in groups.items():
        (ROOT / _INPUTS / f"{name}.in").write_text("\n".join(requirements) + "\n")
    return [_INPUTS / f"{name}.in" for name in groups]


def _plain_environment() -> dict[str, str]:
    """Ours without pip's configuration files and extra sources: others do not have those."""
    kept = {name: value for name, value in os.environ.items() if name not in _EXTRA_SOURCES}
    return {**kept, "PIP_CONFIG_FILE": os.devnull}


_EXTRA_SOURCES = {"PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"}


def main(arguments: list[str]) -> None:
    match arguments:
        case []:
            compile_lock()
        case ["upgrade"]:
            compile_lock(upgrade=True)
        case ["only", *names] if names:
            sys.stdout.write(subset(LOCK.read_text(), names))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
