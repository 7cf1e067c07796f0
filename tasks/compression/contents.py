"""What a ``.tflite`` file is made of: its operations by kind, the values its weights take, and the memory its
tensors need. Read from the schema; nothing is run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.report import OperatorCount
from tasks.compression.tflite import is_empty, kind_of, read, type_name

__all__ = ["Contents", "contents"]

ALIGNMENT = 64  # of LiteRT's arena
_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})
_FLOATS = frozenset({"float16", "float32", "float64", "bfloat16"})
_INDICES = frozenset({"int32", "int64", "uint32", "bool", "string"})
_BITS = {"int2": 2, "int4": 4, "uint4": 4}


@dataclass(frozen=True)
class Contents:
    """`operators` are the most frequent first; `distinct_weights` adds up, over the stored tensors of two
    axes or more that hold weights, how many values each takes, as stored; `peak_activation_bytes` is of one
    sample, None where a size is known only when the file runs or the file has more than one graph."""

    operators: list[OperatorCount]
    distinct_weights: int
    peak_activation_bytes: int | None


def contents(content: bytes) -> Contents:
    """Of a file that LiteRT has verified."""
    model = read(content)
    peak = _peak(model, model.subgraphs[0]) if len(model.subgraphs) == 1 else None
    return Contents(_operators(model), _distinct(model), peak)


def _operators(model: Any) -> list[OperatorCount]:
    counts: Counter[str] = Counter()
    floats: Counter[str] = Counter()
    hybrids: Counter[str] = Counter()
    for graph in model.subgraphs:
        for item in graph.operators or ():
            name = _name(model, item)
            counts[name] += 1
            match _arithmetic(model, graph, item, name):
                case "float":
                    floats[name] += 1
                case "hybrid":
                    hybrids[name] += 1
    return [
        OperatorCount(name=name, count=count, in_float=floats[name], hybrid=hybrids[name])
        for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def _name(model: Any, item: Any) -> str:
    code = model.operatorCodes[item.opcodeIndex]
    if code.customCode is not None:
        return f"CUSTOM {code.customCode.decode('utf-8', 'replace')[:80]}"
    return kind_of(model, item)


def _arithmetic(model: Any, graph: Any, item: Any, name: str) -> str:
    outputs = {type_name(graph.tensors[int(index)]) for index in item.outputs}
    if name in _CONVERSIONS or not outputs & _FLOATS:
        return "integer"
    given = [
        graph.tensors[int(index)] for index in (() if item.inputs is None else item.inputs) if index >= 0
    ]
    stored = {type_name(tensor) for tensor in given if _is_weights(model, tensor)}
    return "hybrid" if stored and not stored & _FLOATS else "float"


def _is_weights(model: Any, tensor: Any) -> bool:
    axes = 0 if tensor.shape is None else len(tensor.shape)
    held = not is_empty(model.buffers[tensor.buffer])
    return held and axes > 1 and type_name(tensor) not in _INDICES


def _distinct(model: Any) -> int:
    buffers = {
        int(tensor.buffer): tensor
        for graph in model.subgraphs
        for tensor in graph.tensors
        if _is_weights(model, tensor)
    }
    return sum(_distinct_values(model.buffers[index].data, tensor) for index, tensor in buffers.items())


def _distinct_values(data: npt.NDArray[np.uint8], tensor: Any) -> int:
    dtype = type_name(tensor)
    raw = np.asarray(data, dtype=np.uint8)
    if dtype in _BITS:
        return len(np.unique(_unpacked(raw, _BITS[dtype])[: prod(tensor.shape)]))
    if dtype in _FLOATS:
        width = {"float64": 8, "float32": 4}.get(dtype, 2)
        values = raw.view(f"<u{width}")
        # The two zeros are one value; their sign is the highest bit.
        found = np.unique(values)
        both = bool((found == 0).any()) and bool((found == 1 << (8 * width - 1)).any())
        count = len(found) - both
        # A sparse tensor stores what is not zero.
        return count + (tensor.sparsity is not None and not (found == 0).any())
    return len(np.unique(raw))


def _unpacked(raw: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """The fields of `bits` in every byte, the lowest first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.asarray((raw[:, None] >> shifts) & ((1 << bits) - 1)).ravel()


def _peak(model: Any, graph: Any) -> int | None:
    """The most bytes of tensors alive at once, as the operations are ordered, each rounded up to the arena's
    alignment. Tensors live from the operation that makes them to the last that reads them; inputs and
    variables from the beginning on, outputs and variables to the end."""
    sizes = {
        index: size
        for index, tensor in enumerate(graph.tensors)
        if is_empty(model.buffers[tensor.buffer]) and (size := _bytes(tensor)) is not None
    }
    steps = list(graph.operators or ())
    first: dict[int, int] = defaultdict(int)
    last: dict[int, int] = {}
    for place, item in enumerate(steps):
        for index in _indices(item.outputs):
            first.setdefault(index, place)
            last[index] = max(last.get(index, place), place)
        for index in _indices(item.inputs):
            last[index] = place
    for index in _indices(graph.inputs):
        first[index] = 0
    for index in _indices(graph.outputs):
        last[index] = len(steps) - 1
    for index in last:
        if graph.tensors[index].isVariable:
            first[index], last[index] = 0, len(steps) - 1
    alive = np.zeros(len(steps) + 1, dtype=np.int64)
    for index, end in last.items():
        if index in sizes:
            alive[first.get(index, 0)] += sizes[index]
            alive[end + 1] -= sizes[index]
        elif is_empty(model.buffers[graph.tensors[index].buffer]):
            return None
    return int(alive.cumsum().max(initial=0))


def _indices(given: Any) -> Iterator[int]:
    return (int(index) for index in (() if given is None else given) if index >= 0)


def _bytes(tensor: Any) -> int | None:
    """None for a type without a fixed size or a shape that is not known (open axes but the batch's)."""
    dtype = type_name(tensor)
    bits = _BITS.get(dtype) or _WIDTHS.get(dtype)
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    signature = shape if tensor.shapeSignature is None else [int(size) for size in tensor.shapeSignature]
    if bits is None or any(size < 0 for size in signature[1:]):
        return None
    size = (prod(max(size, 1) for size in shape) * bits + 7) // 8
    return -(-size // ALIGNMENT) * ALIGNMENT


_WIDTHS = {
    **dict.fromkeys(("bool", "int8", "uint8"), 8),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 16),
    **dict.fromkeys(("int32", "uint32", "float32"), 32),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 64),
}
