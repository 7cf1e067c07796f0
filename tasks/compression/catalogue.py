"""What works on which framework: a table of rows, and the only place that knows.

A row holds import strings, resolved on use, so the service checks a spec without loading a framework.
Adding a technique is a parameter class in the contract, a handler, and a row here; the conformance
tests run over every row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal

from featherweight.problem import FieldError
from featherweight.resources import Technique
from featherweight.spec import (
    Cluster,
    CompressionSpec,
    Decompose,
    Distill,
    Finetune,
    OutputFormat,
    Prune,
    PruneChannels,
    Quantize,
    QuantizeAware,
    Step,
)
from featherweight.techniques.parts import Part

__all__ = [
    "BACKENDS",
    "ROWS",
    "Row",
    "digest",
    "missing_dataset",
    "resolve",
    "row",
    "support",
    "techniques",
]


@dataclass(frozen=True)
class Row:
    """One technique on one framework.

    `handler` names ``handler(model, step, context) -> model``. `check`, where there is one, names
    ``check(model, step, pointer) -> None``, which raises CompressionError for a step that cannot be
    done to this model; it runs before anything is computed. `outputs` are the formats whose files show
    the technique's effect. `plan` names ``plan(state, step, context) -> state``, which tells what the step
    would do from an outline, and `plan_check` ``plan_check(outline, step, pointer) -> None``, which raises
    what `check` does.
    """

    technique: str
    framework: str
    parameters: type[Part]
    handler: str
    outputs: tuple[OutputFormat, ...]
    needs_data: Literal["never", "always", "depends"]
    title: str
    summary: str
    check: str | None = None
    plan: str | None = None
    plan_check: str | None = None


BACKENDS: dict[str, str] = {
    "tensorflow": "tasks.compression.backends.tensorflow.backend",
    "torch": "tasks.compression.backends.torch.backend",
}
"""The module of each framework that has the verbs of tasks.compression.backends.Backend."""

_ALL: tuple[OutputFormat, ...] = ("tflite", "keras", "saved_model", "c_array", "onnx")
_QUANTISED: tuple[OutputFormat, ...] = ("tflite", "c_array")
_TORCH: tuple[OutputFormat, ...] = ("tflite", "pt2", "c_array", "onnx", "pte")
_TORCH_QUANTISED: tuple[OutputFormat, ...] = ("tflite", "c_array", "onnx", "pt2", "pte")

_TENSORFLOW: tuple[Row, ...] = (
    Row(
        technique="prune",
        framework="tensorflow",
        parameters=Prune,
        handler="tasks.compression.backends.tensorflow.prune:prune",
        plan="tasks.compression.backends.tensorflow.plans.prune:plan",
        plan_check="tasks.compression.backends.tensorflow.plans.prune:check",
        check="tasks.compression.backends.tensorflow.prune:check",
        outputs=_ALL,
        needs_data="never",
        title="Unstructured pruning",
        summary=(
            "Makes the least important weights zero, of each layer or of all together, scattered, in blocks "
            "or N of every M, gradually while the training step right after it trains, or at once. Zeros pay "
            "when the file is gzipped."
        ),
    ),
    Row(
        technique="prune_channels",
        framework="tensorflow",
        parameters=PruneChannels,
        handler="tasks.compression.backends.tensorflow.prune_channels:prune_channels",
        plan="tasks.compression.backends.tensorflow.plans.prune_channels:plan",
        plan_check="tasks.compression.backends.tensorflow.plans.prune_channels:check",
        check="tasks.compression.backends.tensorflow.prune_channels:check",
        outputs=_ALL,
        needs_data="depends",
        title="Structured pruning",
        summary=(
            "Removes whole channels, a share of each layer's or as many as a target of parameters or MACs "
            "takes. What is left is a smaller dense network; training after it makes up for the loss."
        ),
    ),
    Row(
        technique="decompose",
        framework="tensorflow",
        parameters=Decompose,
        handler="tasks.compression.backends.tensorflow.decompose:decompose",
        plan="tasks.compression.backends.tensorflow.plans.decompose:plan",
        plan_check="tasks.compression.backends.tensorflow.plans.decompose:check",
        check="tasks.compression.backends.tensorflow.decompose:check",
        outputs=_ALL,
        needs_data="never",
        title="Low-rank decomposition",
        summary=(
            "Replaces dense layers and convolutions by two or three thinner ones, of a rank given, or found "
            "by the energy it keeps or the parameters it leaves. Training after it makes up for the loss."
        ),
    ),
    Row(
        technique="cluster",
        framework="tensorflow",
        parameters=Cluster,
        handler="tasks.compression.backends.tensorflow.cluster:cluster",
        plan="tasks.compression.backends.tensorflow.plans.cluster:plan",
        plan_check="tasks.compression.backends.tensorflow.plans.cluster:check",
        check="tasks.compression.backends.tensorflow.cluster:check",
        outputs=_ALL,
        needs_data="never",
        title="Weight clustering",
        summary=(
            "Gives the weights of each layer few distinct values, while the training step right after it "
            "trains, or at once. Few values pay when the file is gzipped, most of all after pruning and with "
            "full_int8 per tensor."
        ),
    ),
    Row(
        technique="quantize_aware",
        framework="tensorflow",
        parameters=QuantizeAware,
        handler="tasks.compression.backends.tensorflow.quantize_aware:quantize_aware",
        plan="tasks.compression.backends.tensorflow.plans.quantize_aware:plan",
        plan_check="tasks.compression.backends.tensorflow.plans.quantize_aware:check",
        check="tasks.compression.backends.tensorflow.quantize_aware:check",
        outputs=_QUANTISED,
        needs_data="always",
        title="Quantisation-aware training",
        summary=(
            "The training step right after it trains with weights and activations rounded as the integer "
            "file will have them; zeros and shared values are kept."
        ),
    ),
    Row(
        technique="finetune",
        framework="tensorflow",
        parameters=Finetune,
        handler="tasks.compression.backends.tensorflow.finetune:finetune",
        plan="tasks.compression.backends.tensorflow.plans.training:plan",
        plan_check="tasks.compression.backends.tensorflow.plans.training:check",
        outputs=_ALL,
        needs_data="always",
        title="Fine-tuning",
        summary=(
            "Trains on the data set, carrying out the steps right before it and keeping the zeros "
            "and the few values that earlier steps made."
        ),
    ),
    Row(
        technique="distill",
        framework="tensorflow",
        parameters=Distill,
        handler="tasks.compression.backends.tensorflow.distill:distill",
        plan="tasks.compression.backends.tensorflow.plans.training:plan",
        plan_check="tasks.compression.backends.tensorflow.plans.training:check",
        check="tasks.compression.backends.tensorflow.distill:check",
        outputs=_ALL,
        needs_data="always",
        title="Distillation",
        summary=(
            "Fine-tuning towards the outputs of the model as it was uploaded, in part or alone: with weight "
            "1 the data set needs no labels."
        ),
    ),
    Row(
        technique="quantize",
        framework="tensorflow",
        parameters=Quantize,
        handler="tasks.compression.backends.tensorflow.quantize:quantize",
        plan="tasks.compression.backends.tensorflow.plans.quantize:plan",
        plan_check="tasks.compression.backends.tensorflow.plans.quantize:check",
        check="tasks.compression.backends.tensorflow.quantize:check",
        outputs=_QUANTISED,
        needs_data="depends",
        title="Post-training quantisation",
        summary=(
            "Stores weights as float16 or in 8, 4 or 2 bits, and with full_int8 and int16x8 computes in "
            "integers too, the ranges of the activations calibrated on samples of the data set."
        ),
    ),
)


_TORCH_PLANS = {"quantize": "tasks.compression.backends.torch.plans.quantize"}


def _of_torch(entry: Row) -> Row:
    """The same technique by the same file and function of the other backend. Plans go by the names and shapes
    that Keras gives weights: what a step does to a model of PyTorch is not told beforehand, but for what
    there is a planner of its own."""
    planner = _TORCH_PLANS.get(entry.technique)
    return replace(
        entry,
        framework="torch",
        handler=entry.handler.replace("backends.tensorflow.", "backends.torch."),
        check=None if entry.check is None else entry.check.replace("backends.tensorflow.", "backends.torch."),
        plan=planner and f"{planner}:plan",
        plan_check=planner and f"{planner}:check",
        outputs=_TORCH_QUANTISED if entry.outputs == _QUANTISED else _TORCH,
    )


ROWS: tuple[Row, ...] = (*_TENSORFLOW, *map(_of_torch, _TENSORFLOW))


def _index() -> dict[tuple[str, str], Row]:
    index: dict[tuple[str, str], Row] = {}
    for entry in ROWS:
        key = (entry.technique, entry.framework)
        if key in index:
            raise ValueError(f"two rows for {key}")
        index[key] = entry
    return index


_BY_KEY = _index()


def row(technique: str, framework: str) -> Row:
    """The row; KeyError when the framework does not have the technique."""
    return _BY_KEY[technique, framework]


def resolve(target: str) -> Callable[..., Any]:
    """The function an import string ``module:function`` names."""
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def support(spec: CompressionSpec, framework: str) -> list[FieldError]:
    """What of `spec` the framework does not have; pointers are into the spec."""
    offered = [entry for entry in ROWS if entry.framework == framework]
    faults = [
        FieldError(
            pointer=f"/steps/{index}/technique",
            code="unsupported_technique",
            detail=_not_offered(framework, step.technique, [entry.technique for entry in offered]),
        )
        for index, step in enumerate(spec.steps)
        if step.technique not in {entry.technique for entry in offered}
    ]
    formats = sorted({name for entry in offered for name in entry.outputs})
    faults += [
        FieldError(
            pointer=f"/outputs/{index}",
            code="unsupported_output",
            detail=_not_offered(framework, output, formats),
        )
        for index, output in enumerate(spec.outputs)
        if output not in formats
    ]
    return faults


def missing_dataset(spec: CompressionSpec) -> list[FieldError]:
    """The steps of `spec` that cannot be done without a data set, should there be none."""
    return [
        FieldError(pointer=f"/steps/{index}", code="dataset_required", detail=detail)
        for index, step in enumerate(spec.steps)
        if (detail := _data_needed(step)) is not None
    ]


def techniques() -> list[Technique]:
    """The table for callers: a technique with every framework that has it, and its JSON Schema."""
    names = dict.fromkeys(entry.technique for entry in ROWS)
    return [_technique([entry for entry in ROWS if entry.technique == name]) for name in names]


def digest() -> str:
    """Of the whole table: another one where anything is offered that was not, or not so."""
    told = json.dumps([entry.model_dump(mode="json", by_alias=True) for entry in techniques()])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _technique(rows: list[Row]) -> Technique:
    first = rows[0]
    return Technique(
        technique=first.technique,
        title=first.title,
        summary=first.summary,
        frameworks=[entry.framework for entry in rows],
        outputs=sorted({name for entry in rows for name in entry.outputs}),
        outputs_of={entry.framework: list(entry.outputs) for entry in rows},
        needs_data=first.needs_data,
        schema=first.parameters.model_json_schema(),
    )


def _not_offered(framework: str, name: str, offered: Sequence[str]) -> str:
    if not offered:
        return f"{framework} models cannot be compressed; offered: {', '.join(BACKENDS)}"
    return f"{framework} models cannot be given {name!r}; offered: {', '.join(offered)}"


def _data_needed(step: Step) -> str | None:
    if isinstance(step, Finetune):
        return "finetune needs a data set to train on"
    if isinstance(step, Distill):
        return "distill needs a data set to train on; with weight 1 it needs no labels"
    if isinstance(step, PruneChannels) and step.importance == "taylor":
        return "the importance taylor needs a data set to compute gradients on; l2 needs none"
    if isinstance(step, QuantizeAware):
        return "quantize_aware needs a data set to train on; quantize with dynamic_int8 needs none"
    if isinstance(step, Quantize):
        return _data_to_quantize(step)
    return None


def _data_to_quantize(step: Quantize) -> str | None:
    if step.calibrates_ranges:
        return f"{step.scheme} needs a data set to calibrate on; dynamic_int8 needs none"
    if step.calibrates:
        return f"{step.algorithm} needs a data set to calibrate on; octav and mse need none"
    if step.sensitivity is not None:
        return "sensitivity needs a data set to measure the drop on"
    return None
