"""Which layer of PyTorch a call of an operator is: the table of `backends.torch.rebuild`, without PyTorch.

A call is a layer where the rebuilding makes one of it, and under the same name: patterns of a spec have to
mean the same in a plan and in the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.compression.outline.facts import Weight

__all__ = ["Argument", "Known", "kind_of"]

Argument = Mapping[str, Any]
"""A value of a call as the archive has it: ``{"as_int": 3}``, ``{"as_tensor": {"name": "x"}}``."""

_NUMBERS = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string", "as_none",
            "as_scalar_type", "as_memory_format", "as_device", "as_layout")  # fmt: skip

_ALONE: dict[str, str] = {
    "relu": "ReLU", "relu6": "ReLU6", "silu": "SiLU", "mish": "Mish", "hardswish": "Hardswish",
    "hardsigmoid": "Hardsigmoid", "selu": "SELU", "celu": "CELU", "leaky_relu": "LeakyReLU",
    "threshold": "Threshold", "gelu": "GELU", "sigmoid": "Sigmoid", "tanh": "Tanh",
    "log_sigmoid": "LogSigmoid", "softplus": "Softplus", "glu": "GLU",
    "max_pool1d": "MaxPool1d", "max_pool2d": "MaxPool2d", "max_pool3d": "MaxPool3d",
    "avg_pool1d": "AvgPool1d", "avg_pool2d": "AvgPool2d", "avg_pool3d": "AvgPool3d",
    "adaptive_avg_pool1d": "AdaptiveAvgPool1d", "adaptive_avg_pool2d": "AdaptiveAvgPool2d",
    "adaptive_avg_pool3d": "AdaptiveAvgPool3d", "_adaptive_avg_pool2d": "AdaptiveAvgPool2d",
    "dropout": "Dropout", "alpha_dropout": "AlphaDropout",
}  # fmt: skip
"""Operators of one tensor and numbers."""
_IN_PLACE = frozenset({"relu", "relu6", "silu", "mish", "hardswish", "hardsigmoid", "selu", "celu",
                       "leaky_relu", "threshold", "hardtanh", "elu", "dropout"})  # fmt: skip
_FIRST_OF: dict[str, str] = {
    "max_pool2d_with_indices": "MaxPool2d", "max_pool3d_with_indices": "MaxPool3d",
    "adaptive_max_pool1d": "AdaptiveMaxPool1d", "adaptive_max_pool2d": "AdaptiveMaxPool2d",
    "adaptive_max_pool3d": "AdaptiveMaxPool3d",
}  # fmt: skip
"""Of which the first result alone may be used."""
_BATCH_NORMS = frozenset({"batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit",
                          "_native_batch_norm_legit_functional", "native_batch_norm"})  # fmt: skip
_LAYER_NORMS = frozenset({"layer_norm", "native_layer_norm"})
_GROUP_NORMS = frozenset({"group_norm", "native_group_norm"})
_RECURRENT = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
_CHANNEL_DROPOUT = {3: "Dropout1d", 4: "Dropout2d", 5: "Dropout3d"}
_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Known:
    """A call: `operation` without the underscore of one that works in place, `overload` its variant,
    `arguments` by their names, `rank` the axes of its first input. `held` are the stored arrays among the
    arguments by argument, each with the name it has in the caller's model and whether it is a parameter;
    `transposed` those that come by way of a transposition; `used` the results that anything uses."""

    operation: str
    overload: str
    in_place: bool
    arguments: Mapping[str, Argument]
    rank: int
    held: Mapping[str, tuple[str, Weight, bool]]
    transposed: Mapping[str, tuple[str, Weight, bool]]
    listed: tuple[tuple[str, Weight, bool] | None, ...] = ()
    used: frozenset[int] = frozenset({0})

    def number(self, name: str, default: Any = None) -> Any:
        """The plain value of an argument."""
        argument = self.arguments.get(name, {})
        return next((argument[form] for form in _NUMBERS if form in argument), default)

    def plain(self, *names: str) -> bool:
        """Whether these hold numbers alone, and none that depends on the input."""
        return all(
            any(form in self.arguments[name] for form in _NUMBERS) for name in names if name in self.arguments
        )


def kind_of(call: Known) -> tuple[str, dict[str, tuple[str, Weight]]] | None:
    """The class of the layer, and its arrays by the names they have in it, each with the one it has in the
    caller's model; None for a call that no layer does the same as."""
    weighted = _weighted(call)
    if weighted is not None:
        return weighted
    kind = _unweighted(call)
    return None if kind is None else (kind, {})


def _unweighted(call: Known) -> str | None:
    name = call.operation
    others = [each for each, value in call.arguments.items() if not _is_given(each, value, call)]
    if call.held or (call.in_place and name not in _IN_PLACE) or not call.plain(*others):
        return None
    if name in _ALONE:
        return _ALONE[name]
    if name in _FIRST_OF:
        return _FIRST_OF[name] if call.used <= {0} else None
    match name:
        case "hardtanh":
            ends = (call.number("min_val", -1), call.number("max_val", 1))
            return "ReLU6" if ends == (0, 6) else "Hardtanh"
        case "elu":
            return "ELU" if (call.number("scale", 1), call.number("input_scale", 1)) == (1, 1) else None
        case "softmax" | "log_softmax":
            plain = call.overload == "int" and "as_scalar_type" not in call.arguments.get("dtype", {})
            return {"softmax": "Softmax", "log_softmax": "LogSoftmax"}[name] if plain else None
        case "_softmax" | "_log_softmax":
            halved = call.number("half_to_float", False)
            return None if halved else {"_softmax": "Softmax", "_log_softmax": "LogSoftmax"}[name]
        case "feature_dropout":
            return _CHANNEL_DROPOUT.get(call.rank)
    return None


def _is_given(name: str, value: Argument, call: Known) -> bool:
    """Whether it is the one tensor that a layer is called with."""
    return name == next(iter(call.arguments), None) and "as_tensor" in value


def _weighted(call: Known) -> tuple[str, dict[str, tuple[str, Weight]]] | None:
    name = call.operation
    if name in ("conv1d", "conv2d", "conv3d", "convolution") or name.startswith("conv_transpose"):
        return _convolution(call)
    if name in ("linear", "addmm", "mm", "matmul"):
        return _linear(call)
    if name == "embedding":
        weight = _parameter(call, "weight")
        return None if weight is None or call.number("sparse", False) else ("Embedding", {"weight": weight})
    if name == "prelu":
        weight = _parameter(call, "weight")
        return None if weight is None or len(weight[1].shape) != 1 else ("PReLU", {"weight": weight})
    if name in _RECURRENT and call.overload == "input":
        return _recurrent(call)
    return _norm(call)


def _parameter(call: Known, name: str) -> tuple[str, Weight] | None:
    found = call.held.get(name)
    return found[:2] if found is not None and found[2] else None


def _given(call: Known, name: str) -> bool:
    value = call.arguments.get(name)
    return value is not None and "as_none" not in value


def _affine(call: Known, *names: str) -> dict[str, tuple[str, Weight]] | None:
    """Those of the parameters that there are; None where one is anything else."""
    found = {name: held for name in names if (held := _parameter(call, name)) is not None}
    return None if any(name not in found and _given(call, name) for name in names) else found


def _convolution(call: Known) -> tuple[str, dict[str, tuple[str, Weight]]] | None:
    tensors = _affine(call, "weight", "bias")
    numbers = ("stride", "padding", "output_padding", "dilation", "groups")
    if tensors is None or "weight" not in tensors or not call.plain(*numbers):
        return None
    rank = len(tensors["weight"][1].shape) - 2
    across = "conv_transpose" in call.operation or bool(call.number("transposed", False))
    return f"{'ConvTranspose' if across else 'Conv'}{rank}d", tensors


def _linear(call: Known) -> tuple[str, dict[str, tuple[str, Weight]]] | None:
    if call.operation == "linear":
        tensors = _affine(call, "weight", "bias")
        fits = tensors is not None and "weight" in tensors and len(tensors["weight"][1].shape) == 2
        return ("Linear", tensors) if tensors is not None and fits else None
    second = "other" if call.operation == "matmul" else "mat2"
    weight = call.transposed.get(second)
    if weight is None or not weight[2] or len(weight[1].shape) != 2:
        return None
    tensors = {"weight": weight[:2]}
    if call.operation == "addmm":
        bias = _parameter(call, "self")
        ones = (call.number("alpha", 1), call.number("beta", 1)) == (1, 1)
        if bias is None or not ones or bias[1].shape != weight[1].shape[:1]:
            return None
        tensors["bias"] = bias
    return "Linear", tensors


def _recurrent(call: Known) -> tuple[str, dict[str, tuple[str, Weight]]] | None:
    """The weights under the names they have in the caller's model, which are the layer's own."""
    found = {}
    for each in call.listed:
        if each is None or not each[2]:
            return None
        found[each[0].rpartition(".")[2]] = each[:2]
    named = len(found) == len(call.listed) and all(name.startswith(("weight_", "bias_")) for name in found)
    return (_RECURRENT[call.operation], found) if found and named else None


def _norm(call: Known) -> tuple[str, dict[str, tuple[str, Weight]]] | None:
    name = call.operation
    affine = _affine(call, "weight", "bias")
    if affine is None:
        return None
    if name in _BATCH_NORMS or name == "instance_norm":
        statistics = {each: call.held[each][:2] for each in _STATISTICS if each in call.held}
        if len(affine) == 1 or len(statistics) == 1 or any(call.held[each][2] for each in statistics):
            return None
        stem = "BatchNorm" if name in _BATCH_NORMS else "InstanceNorm"
        several = name not in ("batch_norm", "instance_norm")
        known = call.rank in (range(2, 6) if stem == "BatchNorm" else range(3, 6))
        if not known or (several and not call.used <= {0}):
            return None
        return f"{stem}{max(1, call.rank - 2)}d", affine | statistics
    if not call.used <= {0}:
        return None
    if name in _LAYER_NORMS:
        return (
            None if set(affine) == {"bias"} or not call.plain("normalized_shape") else ("LayerNorm", affine)
        )
    if name in _GROUP_NORMS:
        return None if len(affine) == 1 else ("GroupNorm", affine)
    if name == "rms_norm":
        return ("RMSNorm", affine) if call.plain("normalized_shape") else None
    return None
