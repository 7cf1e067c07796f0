"""What formats a model can be had in."""

from __future__ import annotations

from typing import get_args

from featherweight.inspection import InspectedObstacle, InspectedOutput
from featherweight.spec import CompressionSpec, OutputFormat
from tasks.compression.abilities import unable
from tasks.compression.catalogue import support
from tasks.compression.errors import CompressionError
from tasks.compression.outline.facts import Outline
from tasks.compression.planning.outputs import blocked, untried

__all__ = ["inspect_formats"]


def inspect_formats(outline: Outline, refused: InspectedObstacle | None) -> list[InspectedOutput]:
    """Every format of the contract. `refused` is why a job would not take the model at all."""
    return [_inspected(outline, output, refused) for output in get_args(OutputFormat)]


def _inspected(outline: Outline, output: OutputFormat, refused: InspectedObstacle | None) -> InspectedOutput:
    why = refused or _not_of_the_kind(outline, output) or _obstacle(blocked(outline, output))
    if why is not None:
        return InspectedOutput(output=output, possible=False, why=why)
    if kinds := untried(outline, output):
        what = f"Whether {', '.join(kinds)} can be converted is only seen when the job runs."
        return InspectedOutput(output=output, possible=None, open=what)
    return InspectedOutput(output=output, possible=True)


def _not_of_the_kind(outline: Outline, output: OutputFormat) -> InspectedObstacle | None:
    spec = CompressionSpec.model_validate({"steps": [{"technique": "prune"}], "outputs": [output]})
    for lacking in support(spec, outline.framework):
        if lacking.pointer == "/outputs/0":
            return InspectedObstacle(code=lacking.code, detail=lacking.detail)
    for fault in unable(spec, outline.kind, outline.why):
        if fault.pointer == "/outputs/0":
            return InspectedObstacle(code=fault.code, detail=fault.detail, hint=fault.hint)
    return None


def _obstacle(error: CompressionError | None) -> InspectedObstacle | None:
    if error is None:
        return None
    return InspectedObstacle(code=error.code, detail=error.detail, hint=error.hint, layer=error.layer)
