"""What calibration and sensitivity add to the plan of a quantisation, whatever kind of model it is of."""

from __future__ import annotations

from featherweight.spec import Quantize
from tasks.compression.outline.facts import Outline
from tasks.compression.planning.costs import forward_cost
from tasks.compression.planning.state import Context

__all__ = ["note_calibration"]


def note_calibration(outline: Outline, step: Quantize, context: Context) -> None:
    if step.sensitivity is not None:
        context.details["sensitivity"] = step.sensitivity.model_dump()
        context.warn("not_looked_at", what="Which layers are left in float for the sake of the metric")
    if step.calibrates and context.data is not None:
        samples = min(step.calibration_samples, context.data.train)
        context.details["calibration_samples"] = samples
        context.cost = forward_cost(outline, samples * step.calibration_candidates)
