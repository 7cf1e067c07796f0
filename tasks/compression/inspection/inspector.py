"""Puts together what an outline tells of a model."""

from __future__ import annotations

from featherweight.inspection import InspectedObstacle, Inspection
from tasks.compression.errors import CompressionError
from tasks.compression.inspection.formats import inspect_formats
from tasks.compression.inspection.parts import layer_table, tensors, totals
from tasks.compression.inspection.techniques import inspect_techniques
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.skeleton import cost

__all__ = ["inspect", "unreadable"]


def inspect(outline: Outline) -> Inspection:
    """What is in the model of an outline, and what each technique and format could do with it."""
    found = cost(outline)
    refused = None
    if outline.refused is not None:
        refused = InspectedObstacle.model_validate(outline.refused.model_dump())
    formats = inspect_formats(outline, refused)
    return Inspection(
        format=outline.format,
        framework=outline.framework,
        kind=outline.kind,
        kind_reason=outline.why,
        written_by=outline.writer or (f"Keras {outline.keras}" if outline.keras else None),
        bytes=outline.bytes,
        name=outline.name or None,
        usable=refused is None,
        problem=refused,
        inputs=tensors(outline, outline.inputs, outline.input_names),
        outputs=tensors(outline, outline.outputs, outline.output_names),
        layers=layer_table(outline, found),
        totals=totals(outline, found),
        techniques=inspect_techniques(outline, refused, formats),
        formats=formats,
    )


def unreadable(error: CompressionError, *, format: str, framework: str, bytes: int) -> Inspection:
    """Of a file that no outline can be made of: why not, and that nothing can be done to it."""
    why = InspectedObstacle(code=error.code, detail=error.detail, hint=error.hint, layer=error.layer)
    nothing = Outline(format=format, framework=framework)
    formats = inspect_formats(nothing, why)
    return Inspection(
        format=format,
        framework=framework,
        bytes=bytes,
        usable=False,
        problem=why,
        techniques=inspect_techniques(nothing, why, formats),
        formats=formats,
    )
