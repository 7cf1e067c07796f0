"""The one exception the domain raises on purpose: what a caller can do something about."""

from __future__ import annotations

from featherweight.problem import CODES, FieldError, Problem, problem

__all__ = ["CompressionError"]


class CompressionError(Exception):
    """A model, a data set or a spec that cannot be compressed as asked.

    `code` is one of featherweight.problem.CODES. `pointer` is the RFC 6901 pointer of the value in the
    spec that is to blame, or below ``/dataset`` the name of the array; `layer` the layer's name, `stage`
    where the job was; the pipeline fills in the stage when the place that raised did not know it.
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
