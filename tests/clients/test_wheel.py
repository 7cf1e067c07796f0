"""The wheel as it is published: alone, small and quick to import."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGEST_INSTALL = 25_000_000
LONGEST_IMPORT_S = 0.6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and what it depends on, as pip puts it there."""
    target = tmp_path_factory.mktemp("installed")
    _pip("install", "--target", str(target), str(wheel))
    return target


def _pip(*argv: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *argv], check=True)


def _run(installed: Path, code: str) -> str:
    """`code` in a Python that sees the standard library and `installed`, and nothing else."""
    program = f"import sys; sys.path.insert(0, {str(installed)!r}); {code}"
    command = [sys.executable, "-I", "-S", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_wheel_holds_the_client_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"featherweight"}
    assert "featherweight/py.typed" in names
    assert "featherweight/cli/commands.py" in names


def test_installed_with_its_dependencies_it_is_small(installed: Path) -> None:
    files = [path for path in installed.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < LARGEST_INSTALL
    heavy = {"tensorflow", "numpy", "torch", "keras", "flask", "celery", "boto3", "redis"}
    assert heavy.isdisjoint(path.name for path in installed.iterdir())


def test_installed_alone_it_works(installed: Path) -> None:
    version = _run(installed, "import featherweight; print(featherweight.__version__)")
    code = "from featherweight.cli import main; main(['version'])"
    assert _run(installed, code) == f"featherweight {version}"
    code = "import featherweight; [getattr(featherweight, name) for name in featherweight.__all__]"
    _run(installed, code)


def test_import_of_client_and_command_is_quick(installed: Path) -> None:
    # Processor time, the best of five: what else the machine is doing is not the question.
    code = "import time; import featherweight; featherweight.Client; import featherweight.cli"
    times = [float(_run(installed, f"{code}; print(time.process_time())")) for _ in range(5)]
    assert min(times) < LONGEST_IMPORT_S


def test_program_is_installed(installed: Path) -> None:
    assert (installed / "bin" / "featherweight").is_file()
