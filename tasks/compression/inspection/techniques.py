"""What of the catalogue can be done to a model: each technique is planned as a step of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from featherweight.inspection import InspectedObstacle, InspectedOutput, InspectedTechnique
from featherweight.plan import Plan, PlannedStep, PlanProblem
from featherweight.spec import CompressionSpec, Quantize
from tasks.compression.abilities import ModelKind, unable
from tasks.compression.catalogue import ROWS, Row, missing_dataset
from tasks.compression.outline.facts import Outline
from tasks.compression.planning import plan
from tasks.compression.quantizing.formats import lacking

__all__ = ["LOOKED_AT", "inspect_techniques", "obstacle_of"]

LOOKED_AT: dict[str, tuple[dict[str, Any], ...]] = {
    "quantize": (
        {"scheme": "float16"},
        {"scheme": "dynamic_int8"},
        {"scheme": "full_int8"},
        {"scheme": "int16x8"},
        {"scheme": "weight_only", "weight_bits": 8},
        {"scheme": "weight_only", "weight_bits": 4},
        {"scheme": "dynamic", "weight_bits": 8},
        {"scheme": "dynamic", "weight_bits": 4},
        {"scheme": "dynamic", "weight_bits": 2},
    )
}
"""The parameters looked at, of techniques of which one set does not tell of the others."""

_TRAINING = {"technique": "finetune", "epochs": 1}
_CARRIED_OUT = ("quantize_aware",)
_NO_DATA = "inspections look at no data set"
_LEFT_FLOAT = "its weights stay float"


def inspect_techniques(
    outline: Outline, refused: InspectedObstacle | None, formats: Sequence[InspectedOutput]
) -> list[InspectedTechnique]:
    """Every row of the framework. `refused` is why a job would not take the model at all; `formats` what it
    can be had in."""
    return [
        _inspected(outline, row, parameters, refused, formats)
        for row in ROWS
        if row.framework == outline.framework
        for parameters in LOOKED_AT.get(row.technique, ({},))
    ]


def obstacle_of(problem: PlanProblem) -> InspectedObstacle:
    return InspectedObstacle(code=problem.code, detail=problem.detail, hint=problem.hint, layer=problem.layer)


def _inspected(
    outline: Outline,
    row: Row,
    parameters: dict[str, Any],
    refused: InspectedObstacle | None,
    formats: Sequence[InspectedOutput],
) -> InspectedTechnique:
    step = {"technique": row.technique, **parameters}
    spec = _spec(row, step, outline.kind)
    why = refused or _not_of_the_kind(outline, spec)
    found = InspectedTechnique(
        technique=row.technique,
        title=row.title,
        step=step,
        needs_data=any(fault.pointer == "/steps/0" for fault in missing_dataset(spec)),
        possible=False,
        why=why,
    )
    if why is not None:
        return found
    possible = [each.output for each in formats if each.possible is not False]
    outputs = [name for name in row.outputs if name in possible]
    if not outputs:
        return found.model_copy(update={"why": _no_output(row, formats)})
    told: dict[str, Any]
    if row.plan is None:
        told = {"possible": None, "open": f"What {row.technique} does is only looked at when the job runs."}
    else:
        told = _judged(plan(outline, spec, has_dataset=True, not_counted=_NO_DATA))
    return found.model_copy(update={**told, "outputs": [] if told["possible"] is False else outputs})


def _no_output(row: Row, formats: Sequence[InspectedOutput]) -> InspectedObstacle | None:
    """Why not in the first of the formats that would show the technique's effect."""
    return next((each.why for each in formats if each.output in row.outputs), None)


def _spec(row: Row, step: dict[str, Any], kind: ModelKind) -> CompressionSpec:
    """With the output that tells most of a model of that kind."""
    steps = [step, _TRAINING] if row.technique in _CARRIED_OUT else [step]
    spec = CompressionSpec.model_validate({"steps": steps, "outputs": list(row.outputs[:1])})
    first = spec.steps[0]
    if kind == "onnx" and isinstance(first, Quantize) and lacking("onnx", first) is None:
        return spec.model_copy(update={"outputs": ("onnx",)})
    return spec


def _not_of_the_kind(outline: Outline, spec: CompressionSpec) -> InspectedObstacle | None:
    for fault in unable(spec, outline.kind, outline.why):
        if fault.pointer == "/steps/0/technique":
            return InspectedObstacle(code=fault.code, detail=fault.detail, hint=fault.hint)
    return None


def _judged(made: Plan) -> dict[str, Any]:
    problems = [each for each in made.problems if _of_first_step(each)]
    step = next((each for each in made.steps if each.index == 0), None)
    if problems or step is None:
        why = obstacle_of(problems[0]) if problems else None
        return {"possible": False, "why": why}
    changed = [layer.layer for layer in step.layers if layer.action in ("change", "train")]
    alone = list(_left_alone(step))
    update: dict[str, Any] = {"layers": changed, "left_alone": alone}
    notes = [warning.message for warning in made.warnings if warning.code == "not_looked_at"]
    if changed:
        return {**update, "possible": True, "open": " ".join(notes) or None}
    if notes and not step.layers:
        return {**update, "possible": None, "open": " ".join(notes)}
    return {**update, "possible": False, "why": _nothing(alone)}


def _of_first_step(problem: PlanProblem) -> bool:
    pointer = problem.pointer or ""
    return not pointer.startswith(("/spec/steps/", "/spec/outputs/")) or pointer.startswith("/spec/steps/0")


def _left_alone(step: PlannedStep) -> Iterator[InspectedObstacle]:
    for layer in step.layers:
        if layer.action == "leave_alone":
            detail = layer.reason or _LEFT_FLOAT
            yield InspectedObstacle(code="layer_not_supported", detail=detail, layer=layer.layer)


def _nothing(alone: list[InspectedObstacle]) -> InspectedObstacle:
    """In the words of the first layer, where there is one."""
    first = f": {alone[0].layer}, for one: {alone[0].detail}" if alone else ": none of them has weights"
    return InspectedObstacle(
        code="nothing_to_do",
        detail=f"no layer of the model can be changed this way{first}",
        hint="another technique may do; the plan of a spec tells of other parameters",
    )
