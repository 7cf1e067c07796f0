"""Which of the outputs asked for can be had: an output that cannot be made ends the job, or is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from featherweight.report import MissingOutput, ReportWarning
from featherweight.spec import CompressionSpec, OutputFormat
from tasks.compression.errors import CompressionError
from tasks.compression.remarks import remark

__all__ = ["Delivery"]


class Delivery:
    """Keeps account of the outputs of a spec, by its `on_unsupported`."""

    def __init__(self, spec: CompressionSpec) -> None:
        self._asked = spec.outputs
        self._skips = spec.on_unsupported == "skip"
        self._missing: dict[str, MissingOutput] = {}

    @property
    def wanted(self) -> tuple[OutputFormat, ...]:
        """What is asked for and not missing, in the order of the spec."""
        return tuple(output for output in self._asked if output not in self._missing)

    @property
    def missing(self) -> list[MissingOutput]:
        return [self._missing[output] for output in self._asked if output in self._missing]

    def leave_out(
        self, outputs: Iterable[str], error: CompressionError, warn: Callable[[ReportWarning], None]
    ) -> list[MissingOutput]:
        """Go on without those of `outputs` that are wanted, which cannot be made because of `error`, and say
        so; what is missing by it.

        Raises `error`, with the pointer of the first of them unless it has one, where the spec does not have
        outputs skipped; where nothing else is wanted, an error that names what is missing."""
        lost = [output for output in self.wanted if output in set(outputs)]
        if not lost:
            return []
        if not self._skips:
            error.pointer = error.pointer or f"/outputs/{self._asked.index(lost[0])}"
            raise error
        found = [
            MissingOutput(
                output=output, code=error.code, detail=error.detail, hint=error.hint, layer=error.layer
            )
            for output in lost
        ]
        self.take_over(found)
        if not self.wanted:
            raise self._nothing_left(error) from error
        for each in found:
            warn(remark("output_missing", output=each.output, why=each.detail, layer=each.layer))
        return found

    def take_over(self, missing: Iterable[MissingOutput]) -> None:
        """Note what an earlier attempt found out."""
        self._missing |= {each.output: each for each in missing}

    def _nothing_left(self, error: CompressionError) -> CompressionError:
        if len(self._asked) == 1:
            error.pointer = error.pointer or "/outputs/0"
            return error
        reasons = "; ".join(f"{each.output}: {each.detail}" for each in self.missing)
        return CompressionError(
            error.code,
            f"none of the outputs can be made: {reasons}",
            hint=error.hint,
            layer=error.layer,
            pointer="/outputs",
        )
