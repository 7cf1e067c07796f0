"""Keras 3's graphs in the terms of Keras 2, as the bridge rebuilds them: told from the configuration alone.

Operations of ``keras.ops`` become the layers and functions that stand for them, masks go, and the shapes that
Keras 3 writes down beside every tensor are taken from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["counterpart", "declared_shapes", "is_keras3", "needed", "without_masks"]

Shape = tuple[int | None, ...]
Recorded = tuple[str, tuple[int, ...], tuple[int, ...], tuple[Any, ...], dict[str, Any]]

_TENSOR = "__keras_tensor__"
_ACTIVATIONS = {
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "Identity": "linear",
    "Relu": "relu",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Silu": "swish",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
}
_LAYERS = {"Relu6": "ReLU", "Elu": "ELU", "LeakyRelu": "LeakyReLU"}
_SAME_NAME = frozenset(["Add", "Concatenate", "Maximum", "Minimum", "Multiply", "Softmax", "Subtract"])
_FUNCTIONS = {
    "Abs": "math.abs",
    "Absolute": "math.abs",
    "BroadcastTo": "broadcast_to",
    "Cast": "cast",
    "Clip": "clip_by_value",
    "Divide": "math.divide",
    "Einsum": "einsum",
    "Erf": "math.erf",
    "Exp": "math.exp",
    "ExpandDims": "expand_dims",
    "Flip": "reverse",
    "Gelu": "nn.gelu",
    "Log": "math.log",
    "LogSoftmax": "nn.log_softmax",
    "Matmul": "linalg.matmul",
    "Max": "math.reduce_max",
    "Mean": "math.reduce_mean",
    "Min": "math.reduce_min",
    "Negative": "math.negative",
    "Power": "math.pow",
    "Reshape": "reshape",
    "Rsqrt": "math.rsqrt",
    "Split": "split",
    "Sqrt": "math.sqrt",
    "Square": "math.square",
    "Squeeze": "squeeze",
    "Stack": "stack",
    "Sum": "math.reduce_sum",
    "Transpose": "transpose",
    "TrueDivide": "math.divide",
}
"""TensorFlow's names of the functions that the bridge calls."""


def is_keras3(node: Mapping[str, Any]) -> bool:
    """Whether a layer's entry in a configuration is an operation of Keras 3."""
    return str(node.get("module")).startswith(("keras.src.ops", "keras.ops"))


def counterpart(kind: str, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The class and the configuration of what stands for an operation in Keras 2."""
    named = {"name": config.get("name")}
    if kind in _SAME_NAME:
        return kind, dict(config)
    if kind in _ACTIVATIONS:
        return "Activation", {**named, "activation": _ACTIVATIONS[kind]}
    if kind in _LAYERS:
        return _LAYERS[kind], dict(config)
    if kind == "Reshape" and (target := _target(config.get("newshape"))) is not None:
        return "Reshape", {**named, "target_shape": target}
    if kind == "Transpose" and (axes := config.get("axes")) and axes[0] == 0:
        return "Permute", {**named, "dims": axes[1:]}
    if kind == "GetItem":
        return "SlicingOpLambda", {**named, "function": "__operators__.getitem"}
    if kind in _FUNCTIONS:
        options = {key: value for key, value in config.items() if key != "name"}
        return "TFOpLambda", {**named, "function": _FUNCTIONS[kind], "options": options}
    return kind, dict(config)


def _target(shape: Any) -> list[int] | None:
    """Of a reshape that leaves the batch alone."""
    if not isinstance(shape, list) or not shape or shape[0] not in (-1, None) or -1 in shape[1:]:
        return None
    return shape[1:]


def declared_shapes(nodes: Iterator[Mapping[str, Any]]) -> dict[tuple[str, int, int], Shape]:
    """The shape of each tensor that a layer among `nodes` is called on: by the name of what makes it, and the
    numbers of the call and of the tensor."""
    found: dict[tuple[str, int, int], Shape] = {}
    for node in nodes:
        for tensor in _tensors(node.get("inbound_nodes")):
            shape, history = tensor.get("shape"), tensor.get("keras_history")
            if isinstance(shape, list) and isinstance(history, list) and len(history) == 3:
                found[str(history[0]), int(history[1]), int(history[2])] = tuple(
                    size if isinstance(size, int) else None for size in shape
                )
    return found


def _tensors(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        config = value.get("config")
        if value.get("class_name") == _TENSOR and isinstance(config, Mapping):
            yield config
            return
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list):
        for item in value:
            yield from _tensors(item)


def without_masks(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Layers of Keras 2 pass masks on by themselves."""
    return {key: value for key, value in keywords.items() if not str(key).endswith("mask")}


def needed(calls: Sequence[Recorded], outputs: Sequence[int]) -> list[Recorded]:
    """The calls that the tensors `outputs` depend on, and inputs, in the same order."""
    wanted, kept = set(outputs), []
    for call in reversed(calls):
        if not call[1] or wanted.intersection(call[2]):
            kept.append(call)
            wanted.update(call[1])
    return kept[::-1]
