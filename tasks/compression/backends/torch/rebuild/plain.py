"""Layers without weights: activations, pooling and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks.compression.backends.torch._framework import nn
from tasks.compression.backends.torch.rebuild.held import Call
from tasks.compression.backends.torch.rebuild.making import Converter, Made, in_training_mode

__all__ = ["CONVERTERS"]

Make = Callable[[Call], nn.Module | None]


def _of(make: Make, given: str = "self", outputs: int = 1) -> Converter:
    def convert(call: Call) -> Made | None:
        if not call.numbers(*(name for name in call.arguments if name != given)):
            return None
        layer = make(call)
        return None if layer is None else Made(layer, (call[given],), outputs=outputs)

    return convert


def _activation(kind: type[nn.Module], *names: str) -> dict[str, Converter]:
    """Of the operator called like that, and of the one that works in place."""
    operator = names[0]
    options = names[1:]
    return {
        f"aten.{operator}.default": _of(lambda call: kind(**{name: call[name] for name in options})),
        f"aten.{operator}_.default": _of(
            lambda call: kind(**{name: call[name] for name in options}, inplace=True)
        ),
    }


def _hardtanh(inplace: bool) -> Make:
    def make(call: Call) -> nn.Module:
        low, high = call["min_val"], call["max_val"]
        return (
            nn.ReLU6(inplace)
            if (low, high) == (0, 6)
            else nn.Hardtanh(float(low), float(high), inplace=inplace)
        )

    return make


def _elu(inplace: bool) -> Make:
    def make(call: Call) -> nn.Module | None:
        plain = (call["scale"], call["input_scale"]) == (1, 1)
        return nn.ELU(float(call["alpha"]), inplace) if plain else None

    return make


def _softmax(kind: type[nn.Module]) -> Make:
    return lambda call: kind(call["dim"]) if call["dtype"] is None else None


def _native_softmax(kind: type[nn.Module]) -> Make:
    return lambda call: None if call["half_to_float"] else kind(call["dim"])


def _softplus(call: Call) -> nn.Module:
    return nn.Softplus(call["beta"], call["threshold"])


def _sizes(value: Any) -> Any:
    sizes = tuple(value) if isinstance(value, list | tuple) else (value,)
    return sizes[0] if len(set(sizes)) == 1 else sizes


def _max_pool(kind: type[nn.Module]) -> Make:
    def make(call: Call) -> nn.Module:
        return kind(
            _sizes(call["kernel_size"]),
            _sizes(call["stride"] or call["kernel_size"]),
            _sizes(call["padding"]),
            _sizes(call["dilation"]),
            ceil_mode=call["ceil_mode"],
        )

    return make


def _average_pool(kind: type[nn.Module]) -> Make:
    def make(call: Call) -> nn.Module | None:
        divisor = call.arguments.get("divisor_override")
        options = {} if divisor is None else {"divisor_override": divisor}
        return kind(
            _sizes(call["kernel_size"]),
            _sizes(call["stride"] or call["kernel_size"]),
            _sizes(call["padding"]),
            call["ceil_mode"],
            call["count_include_pad"],
            **options,
        )

    return make


def _adaptive(kind: type[nn.Module]) -> Make:
    return lambda call: kind(_sizes(call["output_size"]))


def _dropout(kind: type[nn.Module], *, inplace: bool = False) -> Make:
    def make(call: Call) -> nn.Module:
        if call["train"] and call["p"] > 0:
            raise in_training_mode(call.node, "a dropout leaves values out")
        return kind(float(call["p"]), inplace)

    return make


def _channel_dropout(call: Call) -> nn.Module | None:
    kinds: dict[int, type[nn.Module]] = {3: nn.Dropout1d, 4: nn.Dropout2d, 5: nn.Dropout3d}
    kind = kinds.get(call.rank("input"))
    return None if kind is None else _dropout(kind)(call)


CONVERTERS: dict[str, Converter] = {
    **_activation(nn.ReLU, "relu"),
    **_activation(nn.ReLU6, "relu6"),
    **_activation(nn.SiLU, "silu"),
    **_activation(nn.Mish, "mish"),
    **_activation(nn.Hardswish, "hardswish"),
    **_activation(nn.Hardsigmoid, "hardsigmoid"),
    **_activation(nn.SELU, "selu"),
    **_activation(nn.CELU, "celu", "alpha"),
    **_activation(nn.LeakyReLU, "leaky_relu", "negative_slope"),
    **_activation(nn.Threshold, "threshold", "threshold", "value"),
    "aten.hardtanh.default": _of(_hardtanh(False)),
    "aten.hardtanh_.default": _of(_hardtanh(True)),
    "aten.elu.default": _of(_elu(False)),
    "aten.elu_.default": _of(_elu(True)),
    "aten.gelu.default": _of(lambda call: nn.GELU(call["approximate"])),
    "aten.sigmoid.default": _of(lambda _: nn.Sigmoid()),
    "aten.tanh.default": _of(lambda _: nn.Tanh()),
    "aten.log_sigmoid.default": _of(lambda _: nn.LogSigmoid()),
    "aten.softplus.default": _of(_softplus),
    "aten.glu.default": _of(lambda call: nn.GLU(call["dim"])),
    "aten.softmax.int": _of(_softmax(nn.Softmax)),
    "aten.log_softmax.int": _of(_softmax(nn.LogSoftmax)),
    "aten._softmax.default": _of(_native_softmax(nn.Softmax)),
    "aten._log_softmax.default": _of(_native_softmax(nn.LogSoftmax)),
    "aten.max_pool1d.default": _of(_max_pool(nn.MaxPool1d)),
    "aten.max_pool2d.default": _of(_max_pool(nn.MaxPool2d)),
    "aten.max_pool3d.default": _of(_max_pool(nn.MaxPool3d)),
    "aten.max_pool2d_with_indices.default": _of(_max_pool(nn.MaxPool2d), outputs=2),
    "aten.max_pool3d_with_indices.default": _of(_max_pool(nn.MaxPool3d), outputs=2),
    "aten.avg_pool1d.default": _of(_average_pool(nn.AvgPool1d)),
    "aten.avg_pool2d.default": _of(_average_pool(nn.AvgPool2d)),
    "aten.avg_pool3d.default": _of(_average_pool(nn.AvgPool3d)),
    "aten.adaptive_avg_pool1d.default": _of(_adaptive(nn.AdaptiveAvgPool1d)),
    "aten.adaptive_avg_pool2d.default": _of(_adaptive(nn.AdaptiveAvgPool2d)),
    "aten.adaptive_avg_pool3d.default": _of(_adaptive(nn.AdaptiveAvgPool3d)),
    "aten._adaptive_avg_pool2d.default": _of(_adaptive(nn.AdaptiveAvgPool2d)),
    "aten.adaptive_max_pool1d.default": _of(_adaptive(nn.AdaptiveMaxPool1d), outputs=2),
    "aten.adaptive_max_pool2d.default": _of(_adaptive(nn.AdaptiveMaxPool2d), outputs=2),
    "aten.adaptive_max_pool3d.default": _of(_adaptive(nn.AdaptiveMaxPool3d), outputs=2),
    "aten.dropout.default": _of(_dropout(nn.Dropout), "input"),
    "aten.dropout_.default": _of(_dropout(nn.Dropout, inplace=True)),
    "aten.feature_dropout.default": _of(_channel_dropout, "input"),
    "aten.alpha_dropout.default": _of(_dropout(nn.AlphaDropout), "input"),
}
