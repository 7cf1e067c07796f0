"""What formats a model can be had in."""

from __future__ import annotations

from typing import get_args

from featherweight.inspection import InspectedObstacle, InspectedOutput
from featherweight.spec import OutputFormat
from tasks.compression.abilities import Abilities
from tasks.compression.errors import CompressionError
from tasks.compression.outline.facts import Outline
from tasks.compression.planning.outputs import blocked, untried

__all__ = ["inspect_formats"]


def inspect_formats(
    outline: Outline, known: Abilities | None, refused: InspectedObstacle | None
) -> list[InspectedOutput]:
    """Every format of the contract. `known` is what the model's kind allows; `refused` why a job would not
    take the model at all."""
    return [_inspected(outline, output, known, refused) for output in get_args(OutputFormat)]


def _inspected(
    outline: Outline, output: OutputFormat, known: Abilities | None, refused: InspectedObstacle | None
) -> InspectedOutput:
    why = refused or _not_of_the_kind(output, known) or _obstacle(blocked(outline, output))
    if why is not None:
        return InspectedOutput(output=output, possible=False, why=why)
    if kinds := untried(outline, output):
        what = f"Whether {', '.join(kinds)} can be converted is only seen when the job runs."
        return InspectedOutput(output=output, possible=None, open=what)
    return InspectedOutput(output=output, possible=True)


def _not_of_the_kind(output: OutputFormat, known: Abilities | None) -> InspectedObstacle | None:
    if known is None or output not in known.refused_outputs:
        return None
    return InspectedObstacle(
        code="unsupported_output",
        detail=f"{known.title} cannot be delivered as {output}: {known.refused_outputs[output]}",
        hint=known.hint,
    )


def _obstacle(error: CompressionError | None) -> InspectedObstacle | None:
    if error is None:
        return None
    return InspectedObstacle(code=error.code, detail=error.detail, hint=error.hint, layer=error.layer)
