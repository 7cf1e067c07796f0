"""A plan as tables for people."""

from __future__ import annotations

from collections.abc import Iterator

from featherweight.cli.output import columns
from featherweight.plan import Plan, PlanCost, PlannedLayer, PlannedStep

__all__ = ["plan_text"]

_TITLES = ("layer", "kind", "", "sparsity", "channels", "parameters", "values", "stored as", "why")
_NUMBERS = (3, 4, 5, 6)
_WORDS = {"leave_alone": "left alone", "not_selected": "not selected"}


def plan_text(plan: Plan) -> str:
    """Numbers that are estimates have a ~ before them."""
    return "\n\n".join(_sections(plan))


def _sections(plan: Plan) -> Iterator[str]:
    yield "feasible" if plan.feasible else "not feasible"
    if plan.problems:
        yield "\n".join(
            f"problem: {each.pointer or 'the model'}: {each.detail} [{each.code}]"
            + (f"\n  hint: {each.hint}" if each.hint else "")
            for each in plan.problems
        )
    if plan.model:
        model = plan.model
        macs = f"{model.macs:,} MACs" if model.macs is not None else "MACs not known"
        yield f"model: {model.format}, {model.parameters:,} parameters, {macs}"
    if plan.data:
        data = plan.data
        yield f"samples: {data.samples} ({data.train} train, {data.validation} validation, {data.test} test)"
    for step in plan.steps:
        yield _step(step)
    if plan.after:
        rows = [
            [
                size.output,
                f"~{size.bytes_estimate:,}",
                f"~{size.gzip_bytes_estimate:,}",
                f"{size.parameters:,}",
            ]
            for size in plan.after
        ]
        yield columns(["output", "bytes", "gzip", "parameters"], rows, right=[1, 2, 3])
    if plan.memory_peak_bytes_estimate is not None:
        yield f"memory of the job: ~{plan.memory_peak_bytes_estimate / 2**20:,.0f} MiB"
    if plan.warnings:
        yield "\n".join(
            f"warning: {each.message}{f' (layer {each.layer})' if each.layer else ''} [{each.code}]"
            for each in plan.warnings
        )


def _step(step: PlannedStep) -> str:
    head = f"step {step.index}: {step.technique}{_cost(step.cost)}"
    rows = [_row(layer) for layer in step.layers]
    # Only the columns that the technique says something in.
    used = [place for place in range(len(_TITLES)) if any(row[place] for row in rows)]
    right = [used.index(place) for place in _NUMBERS if place in used]
    shown = [[row[place] for place in used] for row in rows]
    return f"{head}\n{columns([_TITLES[place] for place in used], shown, right=right)}" if rows else head


def _row(layer: PlannedLayer) -> list[str | None]:
    return [
        layer.layer,
        layer.kind,
        _WORDS.get(layer.action, layer.action),
        None if layer.sparsity is None else f"{_mark(layer, 'sparsity')}{layer.sparsity:.1%}",
        _change(layer, "channels"),
        _change(layer, "parameters"),
        None if layer.clusters is None else f"{layer.clusters}",
        None if layer.dtype is None else f"{_mark(layer, 'dtype')}{layer.dtype}",
        layer.reason or "",
    ]


def _change(layer: PlannedLayer, what: str) -> str | None:
    before, after = getattr(layer, f"{what}_before"), getattr(layer, f"{what}_after")
    if after is None:
        return None
    mark = _mark(layer, f"{what}_after")
    return f"{before:,}" if before == after else f"{before:,} to {mark}{after:,}"


def _mark(layer: PlannedLayer, name: str) -> str:
    return "~" if name in layer.estimated else ""


def _cost(cost: PlanCost | None) -> str:
    if cost is None:
        return ""
    parts = []
    if cost.optimizer_steps is not None:
        parts.append(f"{cost.optimizer_steps:,} optimiser steps")
    macs = (cost.forward_macs_estimate or 0) + (cost.backward_macs_estimate or 0)
    if macs:
        parts.append(f"~{macs:,} MACs")
    return f" ({', '.join(parts)})" if parts else ""
