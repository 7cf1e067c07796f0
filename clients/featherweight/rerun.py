"""Runs a job's evaluation again, on the files it delivered, and compares with what its report says.

The library measures nothing itself. What does is the workers' engine, which is found by its name where it is
installed: in a checkout of the service or in the workers' image.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, computed_field

from featherweight._files import sha256_of
from featherweight.errors import ConfigurationError, RerunFailed, VerificationFailed
from featherweight.receipt import Receipt
from featherweight.report import Host, Report

__all__ = ["Compared", "Rerun", "rerun"]

_ENGINE: Final = "tasks.compression.rerun"
_REPORT: Final = "report.json"
_WORDS: Final = {"model": "model", "dataset": "data set"}


class Compared(BaseModel):
    """A number of the report and what was found in its place. They agree when they differ by `tolerance` at
    most; what is no number has none and must be equal.

    `file` is the name of an output, ``original``, or empty for the report as a whole; `field` the number's
    place, such as ``accuracy/value``."""

    model_config = ConfigDict(frozen=True)

    file: str
    field: str
    reported: JsonValue
    found: JsonValue
    tolerance: float | None = None
    agrees: bool


class Rerun(BaseModel):
    """`left_out` are sentences on what was not compared, and why. `exact` are the files whose own numbers had
    to be the same to the last digit. `versions` and `host` are those of the second evaluation."""

    model_config = ConfigDict(frozen=True)

    compared: list[Compared]
    left_out: list[str] = Field(default_factory=list)
    exact: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    host: Host

    @computed_field  # type: ignore[prop-decorator]
    @property
    def agrees(self) -> bool:
        return all(item.agrees for item in self.compared)

    @property
    def differing(self) -> list[Compared]:
        return [item for item in self.compared if not item.agrees]


def rerun(
    directory: Path, receipt: Receipt, *, model: Path | None = None, dataset: Path | None = None
) -> Rerun:
    """Evaluate the files in `directory` again. What its receipt says of them has been checked before
    (`featherweight.verify.verify`); left out, `model` and `dataset` are those in the folder that have the
    names they were uploaded with.

    Raises VerificationFailed where an input is not the one that the receipt names, ConfigurationError where
    one is missing, RerunFailed where the engine is not installed or cannot run the files.
    """
    given = {"model": model, "dataset": dataset}
    inputs = {role: _input(directory, receipt, role, given[role]) for role in ("model", "dataset")}
    report = _report(directory, receipt)
    engine = _engine()
    found: Rerun = engine.rerun(directory, report, inputs["model"], inputs["dataset"])
    named = [_named(report, receipt, role) for role in ("model", "dataset")]
    return found.model_copy(update={"compared": [*named, *found.compared]})


def _input(directory: Path, receipt: Receipt, role: str, given: Path | None) -> Path | None:
    """The file that the job had in that role; None where it had none."""
    signed = next((file for file in receipt.inputs if file.role == role), None)
    if signed is None:
        if given is not None:
            raise ConfigurationError(f"the job had no {_WORDS[role]}, and {given} was given as one")
        return None
    made = {file.name for file in receipt.files}
    beside = directory / Path(signed.name).name
    path = beside if given is None and signed.name not in made else given
    if path is None or not path.is_file():
        where = "is not there" if given is not None else "is not in the folder"
        raise ConfigurationError(
            f"the job's {_WORDS[role]} {signed.name} {where}: it is needed to evaluate again (--{role} FILE)"
        )
    if sha256_of(path) != signed.sha256:
        raise VerificationFailed(f"{path} is not the {_WORDS[role]} that the job had: its sha256 differs")
    return path


def _report(directory: Path, receipt: Receipt) -> Report:
    try:
        report = Report.model_validate_json((directory / _REPORT).read_bytes())
    except (OSError, ValidationError) as error:
        raise RerunFailed(f"{_REPORT} cannot be read, and with it what to compare with") from error
    signed = {file.name for file in receipt.files}
    for item in report.outputs:
        if item.name not in signed:
            raise VerificationFailed(
                f"{_REPORT} has the output {item.name!r}, which the receipt does not name"
            )
    return report


def _engine() -> Any:
    try:
        return importlib.import_module(_ENGINE)
    except ModuleNotFoundError as error:
        raise RerunFailed(
            f"the evaluation was not run again: the engine is not installed here ({error.name} is missing). "
            "Run python -m featherweight in a checkout of the service or in the workers' image"
        ) from error


def _named(report: Report, receipt: Receipt, role: str) -> Compared:
    """What the report says its input was, and what the receipt does."""
    reported = next((file.sha256 for file in report.inputs if file.role == role), None)
    signed = next((file.sha256 for file in receipt.inputs if file.role == role), None)
    return Compared(
        file="", field=f"inputs/{role}/sha256", reported=reported, found=signed, agrees=reported == signed
    )
