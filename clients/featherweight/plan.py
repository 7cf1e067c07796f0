"""A plan, version 1: what a job of the same request would do, told without doing it.

What follows from the model file and the spec alone is exact. What does not – it depends on what training
makes of the weights, or on what gzip makes of a file – is an estimate, and its name says so: fields end in
``_estimate``, and a layer names in `estimated` which of its numbers are such. Seconds are not estimated.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from featherweight.report import ReportWarning

__all__ = [
    "PLAN_VERSION",
    "Action",
    "Plan",
    "PlanCost",
    "PlanData",
    "PlanModel",
    "PlanProblem",
    "PlanSize",
    "PlannedLayer",
    "PlannedStep",
]

PLAN_VERSION: Final = 1

Action = Literal["change", "leave_alone", "not_selected", "train"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class PlanProblem(_Part):
    """Why a job of this request would be refused or would fail. `pointer` is the RFC 6901 JSON pointer of the
    value in the request that is to blame, ``/dataset/<array>`` for an array of the data set, null where it is
    the model itself."""

    code: str
    detail: str
    hint: str | None = None
    pointer: str | None = None
    layer: str | None = None


class PlannedLayer(_Part):
    """What a step does to a layer with weights.

    `action` is ``change``, ``train`` (its weights are fitted and nothing else), ``leave_alone`` (selected,
    but `reason`) or ``not_selected``. Of the rest only what the technique decides is there:
    `target_sparsity` is what is asked of the layer, `sparsity` the share of zeros it will have, `dtype` what
    its weights are stored as, `clusters` how many values they are to share, `distinct_values` the most that
    one of its kernels will have, zero among them. `estimated` names those of these numbers that are
    estimates."""

    layer: str
    kind: str
    action: Action
    reason: str | None = None
    target_sparsity: float | None = None
    sparsity: float | None = None
    channels_before: int | None = None
    channels_after: int | None = None
    parameters_before: int | None = None
    parameters_after: int | None = None
    macs_before: int | None = None
    macs_after: int | None = None
    rank: int | None = None
    clusters: int | None = None
    distinct_values: int | None = None
    dtype: str | None = None
    estimated: list[str] = Field(default_factory=list)


class PlanCost(_Part):
    """What a step computes, null where the number of samples is not known. Optimiser steps are exact, early
    stopping apart; MACs are multiply-accumulates of all samples that go through the network forwards and
    backwards."""

    optimizer_steps: int | None = None
    epochs: int | None = None
    samples: int | None = None
    forward_macs_estimate: int | None = None
    backward_macs_estimate: int | None = None


class PlannedStep(_Part):
    """One step of the spec. `on_unsupported` is what the step answers where a selected layer cannot be done;
    `details` what else the technique decides. `parameters` and `macs` are those of the network after it."""

    index: int
    technique: str
    on_unsupported: Literal["error", "skip"] | None = None
    layers: list[PlannedLayer] = Field(default_factory=list)
    details: dict[str, Any] = Field(default_factory=dict)
    cost: PlanCost | None = None
    parameters: int
    macs: int | None = None
    estimated: list[str] = Field(default_factory=list)


class PlanModel(_Part):
    """What the model file says. `macs` are for one sample, null where they do not follow from the file for
    the layers in `macs_unknown`; sizes left open count as 1 in those of `macs_assumed`."""

    format: str
    framework: str
    keras: str | None = None
    bytes: int
    parameters: int
    nonzero_parameters: int
    macs: int | None = None
    macs_unknown: list[str] = Field(default_factory=list)
    macs_assumed: list[str] = Field(default_factory=list)
    inputs: list[list[int | None] | None] = Field(default_factory=list)
    outputs: list[list[int | None] | None] = Field(default_factory=list)


class PlanData(_Part):
    """How the data set would be divided; the numbers are those of the report."""

    samples: int
    train: int
    validation: int
    calibration: int
    test: int
    test_source: Literal["caller", "split"]


class PlanSize(_Part):
    """An output, or what the original would be in that format without any compression. The formulas of the
    estimates are in docs/plans.md."""

    output: str
    parameters: int
    nonzero_parameters: int | None = None
    bytes_estimate: int
    gzip_bytes_estimate: int


class Plan(_Part):
    """The answer of ``POST /v1/plans``. `feasible` is whether nothing in `problems` stands in the way of the
    job; what only the data or the training can show is not looked at."""

    object: Literal["plan"] = "plan"
    version: Literal[1] = PLAN_VERSION
    feasible: bool
    model_id: str | None = None
    dataset_id: str | None = None
    problems: list[PlanProblem] = Field(default_factory=list)
    warnings: list[ReportWarning] = Field(default_factory=list)
    spec: dict[str, Any]
    model: PlanModel | None = None
    data: PlanData | None = None
    steps: list[PlannedStep] = Field(default_factory=list)
    before: list[PlanSize] = Field(default_factory=list)
    after: list[PlanSize] = Field(default_factory=list)
    memory_peak_bytes_estimate: int | None = None
