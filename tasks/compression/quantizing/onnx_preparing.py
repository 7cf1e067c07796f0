"""Rewrites float ONNX programs, without changing what they compute, for ONNX Runtime's quantisers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.compression.samples import Array

__all__ = ["with_matrices_turned", "with_norms_folded"]


def with_norms_folded(program: Any) -> None:
    """Make batch normalisation part of the convolution before it (Jacob et al. 2018, section 3.2): ONNX
    Runtime would compute it in float, between two roundings. What is used elsewhere too stays as it is."""
    graph = program.graph
    constants, uses = _constants(graph), _uses(graph)
    makers = {output: node for node in graph.node for output in node.output}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        conv = makers.get(norm.input[0])
        if conv is None or not _folds(conv, norm, constants, uses):
            continue
        _fold(graph, conv, norm, constants)
        graph.node.remove(norm)
    _drop_unused(graph)


def _folds(conv: Any, norm: Any, constants: Mapping[str, Any], uses: Mapping[str, int]) -> bool:
    kinds = {"Conv": True, "ConvTranspose": _number(conv, "group", 1) == 1}
    held = all(name in constants for name in (*conv.input[1:], *norm.input[1:]) if name)
    return kinds.get(conv.op_type, False) and held and uses[norm.input[0]] == 1 and not any(norm.output[1:])


def _fold(graph: Any, conv: Any, norm: Any, constants: Mapping[str, Any]) -> None:
    scale, offset, mean, variance = (_values(constants[name]).astype(np.float64) for name in norm.input[1:5])
    factor = scale / np.sqrt(variance + _number(norm, "epsilon", 1e-5))
    weights = _values(constants[conv.input[1]])
    axis = 0 if conv.op_type == "Conv" else 1
    shape = [-1 if place == axis else 1 for place in range(weights.ndim)]
    bias = _values(constants[conv.input[2]]) if len(conv.input) > 2 and conv.input[2] else 0.0
    folded = {"weight": weights * factor.reshape(shape), "bias": (bias - mean) * factor + offset}
    names = [_held(graph, f"{conv.name}_folded_{part}", value) for part, value in folded.items()]
    conv.input[:] = [conv.input[0], *names]
    conv.output[0] = norm.output[0]


def with_matrices_turned(program: Any) -> None:
    """Store each matrix that a Gemm multiplies by transposed, and that other nodes use too, the other way
    round: ONNX Runtime turns it anew for each Gemm, and takes the turned one for the original."""
    graph = program.graph
    constants, uses = _constants(graph), _uses(graph)
    turned: dict[str, str] = {}
    for node in graph.node:
        name = node.input[1] if node.op_type == "Gemm" else ""
        if name not in constants or uses[name] < 2 or not _number(node, "transB", 0):
            continue
        if name not in turned:
            turned[name] = _held(graph, f"{name}_turned", _values(constants[name]).T)
        node.input[1] = turned[name]
        for attribute in node.attribute:
            if attribute.name == "transB":
                attribute.i = 0
    _drop_unused(graph)


def _held(graph: Any, name: str, values: Array) -> str:
    """The name of a new constant."""
    from onnx import numpy_helper

    taken = {*_constants(graph), *(output for node in graph.node for output in node.output)}
    while name in taken:
        name += "_"
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
    return name


def _constants(graph: Any) -> dict[str, Any]:
    return {item.name: item for item in graph.initializer}


def _uses(graph: Any) -> Counter[str]:
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(item.name for item in graph.output)
    return uses


def _drop_unused(graph: Any) -> None:
    uses = _uses(graph)
    for item in [item for item in graph.initializer if not uses[item.name]]:
        graph.initializer.remove(item)


def _values(constant: Any) -> Array:
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(constant))


def _number(node: Any, name: str, default: float) -> float:
    for attribute in node.attribute:
        if attribute.name == name:
            return float(attribute.f if attribute.type == attribute.FLOAT else attribute.i)
    return default
