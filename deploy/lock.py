"""The one lock file: made from the dependency groups of pyproject.toml, cut down for an image.

    python -m deploy.lock                    make requirements.lock anew (needs uv)
    python -m deploy.lock upgrade            the same, with the newest versions allowed
    python -m deploy.lock only client worker print what these groups or packages need of it

`only` needs nothing but Python. It reads who needs whom from the lock's own ``# via`` comments, so
that an image installs its share of the very versions and hashes that everything was tested with.

What a package needs in truth, where its metadata says more, stands in pyproject.toml (``tool.uv``), and so do
the wheels to take in place of PyPI's (``tool.lock.wheels``).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["LOCK", "closure", "compile_lock", "needed_by", "parse", "subset", "with_wheels"]

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
_INPUTS = Path("build", "lock")
_HEADER = "# Made by 'make lock' from pyproject.toml. Do not edit.\n"


def compile_lock(*, upgrade: bool = False) -> None:
    """Resolve all groups together for PyPI alone and write requirements.lock."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    inputs = _write_inputs(pyproject)
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-header"]
    # The oldest Python and the one platform that images and tests run on; the hashes are those of all.
    command += ["--python-version=3.11", "--python-platform=x86_64-manylinux_2_28"]
    command += ["--upgrade"] if upgrade else []
    subprocess.run(  # noqa: S603 - our own arguments
        [*command, f"--output-file={LOCK.name}", *map(str, inputs)],
        cwd=ROOT,
        env=_plain_environment(),
        check=True,
    )
    text = LOCK.read_text().removeprefix(_HEADER)
    LOCK.write_text(_HEADER + with_wheels(text, pyproject["tool"]["lock"]["wheels"]))


def with_wheels(text: str, wheels: Mapping[str, Mapping[str, Any]]) -> str:
    """The lock `text` with other `wheels` for some packages: exact versions (``2.13.0+cpu``) and hashes.

    LookupError for one that the lock does not have; ValueError where it has another version of it.
    """
    for name, wanted in wheels.items():
        block = parse(text)[name]
        version = block.split("==")[1].split()[0]
        if wanted["version"].partition("+")[0] != version.partition("+")[0]:
            raise ValueError(f"the wheels of {name} are of {wanted['version']}, and {version} was resolved")
        hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(wanted["sha256"]))
        _, _, via = block.partition("    # via")
        text = text.replace(block, f"{name}=={wanted['version']}{hashes}\n    # via{via}")
    return text


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
    """Ours without uv's settings, which others do not have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("UV_")}


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
