"""Normalisation: by batch, instance, layer, group and root mean square."""

from __future__ import annotations

from typing import Any

from tasks.compression.backends.torch._framework import nn
from tasks.compression.backends.torch.rebuild.held import Call, Held
from tasks.compression.backends.torch.rebuild.making import Converter, Made, in_training_mode, unfilled

__all__ = ["CONVERTERS"]

_BATCH: dict[int, type[nn.Module]] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}
_INSTANCE: dict[int, type[nn.Module]] = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def _affine(call: Call) -> dict[str, Held] | None:
    """Weight and bias, as far as there are any; None where one is no parameter."""
    found = {name: held for name in ("weight", "bias") if (held := call.parameter(name)) is not None}
    strange = any(name not in found and call[name] is not None for name in ("weight", "bias"))
    return None if strange else found


def _statistics(call: Call) -> dict[str, Held] | None:
    names = ("running_mean", "running_var")
    found = {name: held for name in names if (held := call.tensor(name)) is not None}
    kinds = {held.kind for held in found.values()}
    strange = any(name not in found and call[name] is not None for name in names)
    return None if strange or kinds - {"buffer"} or len(found) == 1 else found


def _batch_norm(call: Call, *, training: bool, outputs: int = 1) -> Made | None:
    affine, statistics = _affine(call), _statistics(call)
    rank = call.rank("input")
    if affine is None or statistics is None or len(affine) == 1 or rank not in _BATCH:
        return None
    if training and statistics:
        raise in_training_mode(call.node, "a batch normalisation takes its statistics from the batch")
    layer = unfilled(
        _BATCH[rank],
        call["input"].meta["val"].shape[1],
        # What a layer without a momentum, which averages over all batches, passes on is 0.
        eps=call["eps"],
        momentum=call["momentum"] or None,
        affine=bool(affine),
        track_running_stats=bool(statistics),
    )
    return Made(layer, (call["input"],), affine | statistics, outputs)


def _plain_batch_norm(call: Call) -> Made | None:
    return _batch_norm(call, training=call["training"])


def _inference_batch_norm(call: Call) -> Made | None:
    return _batch_norm(call, training=False, outputs=3)


def _trained_batch_norm(call: Call) -> Made | None:
    return _batch_norm(call, training=call["training"], outputs=len(call.node.target._schema.returns))


def _instance_norm(call: Call) -> Made | None:
    affine, statistics = _affine(call), _statistics(call)
    rank = call.rank("input")
    if affine is None or statistics is None or len(affine) == 1 or rank not in _INSTANCE:
        return None
    if call["use_input_stats"] and statistics:
        raise in_training_mode(call.node, "an instance normalisation updates its statistics")
    layer = unfilled(
        _INSTANCE[rank],
        call["input"].meta["val"].shape[1],
        eps=call["eps"],
        momentum=call["momentum"],
        affine=bool(affine),
        track_running_stats=bool(statistics),
    )
    return Made(layer, (call["input"],), affine | statistics)


def _layer_norm(outputs: int) -> Converter:
    def convert(call: Call) -> Made | None:
        affine = _affine(call)
        if affine is None or set(affine) == {"bias"} or not call.numbers("normalized_shape", "eps"):
            return None
        options: dict[str, Any] = {"elementwise_affine": bool(affine), "bias": "bias" in affine}
        layer = unfilled(nn.LayerNorm, tuple(call["normalized_shape"]), call["eps"], **options)
        return Made(layer, (call["input"],), affine, outputs)

    return convert


def _group_norm(groups: str, outputs: int) -> Converter:
    def convert(call: Call) -> Made | None:
        affine = _affine(call)
        if affine is None or len(affine) == 1 or not call.numbers(groups, "eps"):
            return None
        channels = call["input"].meta["val"].shape[1]
        layer = unfilled(nn.GroupNorm, call[groups], channels, call["eps"], affine=bool(affine))
        return Made(layer, (call["input"],), affine, outputs)

    return convert


def _rms_norm(call: Call) -> Made | None:
    weight = call.parameter("weight")
    if (weight is None and call["weight"] is not None) or not call.numbers("normalized_shape"):
        return None
    tensors = {} if weight is None else {"weight": weight}
    options = {"elementwise_affine": weight is not None}
    layer = unfilled(nn.RMSNorm, tuple(call["normalized_shape"]), call["eps"], **options)
    return Made(layer, (call["input"],), tensors)


CONVERTERS: dict[str, Converter] = {
    "aten.batch_norm.default": _plain_batch_norm,
    "aten._native_batch_norm_legit_no_training.default": _inference_batch_norm,
    "aten._native_batch_norm_legit.default": _trained_batch_norm,
    "aten._native_batch_norm_legit_functional.default": _trained_batch_norm,
    "aten.native_batch_norm.default": _trained_batch_norm,
    "aten.instance_norm.default": _instance_norm,
    "aten.layer_norm.default": _layer_norm(1),
    "aten.native_layer_norm.default": _layer_norm(3),
    "aten.group_norm.default": _group_norm("num_groups", 1),
    "aten.native_group_norm.default": _group_norm("group", 3),
    "aten.rms_norm.default": _rms_norm,
}
