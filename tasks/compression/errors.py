"""The one exception the domain raises on purpose: what a caller can do something about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherweight.problem import CODES, FieldError, Problem, problem

__all__ = ["CompressionError", "Kept"]


@dataclass(frozen=True)
class Kept:
    """A network, of the backend's kind, that is worth having although the step failed, and what it is."""

    network: Any
    what: str


class CompressionError(Exception):
    """A model, a data set or a spec that cannot be compressed as asked.

    `code` is one of featherweight.problem.CODES. `pointer` is the RFC 6901 pointer of the value in the
    spec that is to blame, or below ``/dataset`` the name of the array; `layer` the layer's name, `stage`
    where the job was; the pipeline fills in the stage when the place that raised did not know it.

    `kept` is what a step that failed has to give all the same; the pipeline makes a file of it. `artifacts`
    are such files, beside those of other outcomes in the working folder's ``out``.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        stage: str | None = None,
        layer: str | None = None,
        pointer: str | None = None,
    ) -> None:
        if code not in CODES:
            raise KeyError(code)
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.stage = stage
        self.layer = layer
        self.pointer = pointer
        self.kept: Kept | None = None
        self.artifacts: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"

    def problem(self) -> Problem:
        """The same as the contract's error body."""
        faults = []
        if self.pointer is not None:
            faults.append(FieldError(pointer=self.pointer, code=self.code, detail=self.detail))
        return problem(
            self.code, self.detail, hint=self.hint, errors=faults, stage=self.stage, layer=self.layer
        )
