"""What the interpreter sets aside beside the file, told by where its tensors lie.

LiteRT's memory planner puts the tensors of a graph into arenas, one for those that live for a while and one
for those that live as long as the interpreter. Python is not told how large they are, but it sees the address
of every tensor. The planner begins at 0 and puts each tensor at 0 or behind another one, at the next multiple
of 64, so the tensors of an arena leave no gap of 64 bytes and the last byte of the last one is its size.
Delegates keep memory that nobody sees: the interpreter is one without.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from tasks.compression.contents import ALIGNMENT
from tasks.compression.tflite import is_empty, read

__all__ = ["arena_bytes", "spanned"]

Span = tuple[int, int]
"""The address of a tensor's first byte, and the one behind its last."""


def arena_bytes(content: bytes) -> int | None:
    """The bytes of memory for everything that is no constant of the file: inputs, outputs, what lies between
    them, variables and what the kernels work in, of one sample, after one inference where something is only
    sized by one. Scalars, whose addresses are not told, count their own bytes.

    None for several graphs, of which the interpreter shows one, and for a file that LiteRT's own kernels do
    not run."""
    model = read(content)
    if len(model.subgraphs) != 1:
        return None
    graph = model.subgraphs[0]
    constants = {
        index for index, tensor in enumerate(graph.tensors) if not is_empty(model.buffers[tensor.buffer])
    }
    try:
        return _measured(_interpreter(content), constants, _used(graph))
    except (RuntimeError, ValueError):
        return None


def spanned(spans: Iterable[Span]) -> int:
    """The bytes of the arenas that hold the spans, and of spans outside of arenas, which do not begin at a
    multiple of 64. A span belongs to the arena before it when it begins where those end, rounded up to 64."""
    total = end = begin = 0
    for low, high in sorted(set(spans)):
        if low % ALIGNMENT:
            total += high - low
            continue
        if low > -(-end // ALIGNMENT) * ALIGNMENT:
            total += end - begin
            begin, end = low, high
        end = max(end, high)
    return total + end - begin


def _interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Interpreter(
            model_content=content,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
    interpreter.allocate_tensors()
    return interpreter


def _used(graph: Any) -> set[int]:
    """The tensors that an operation reads or writes."""
    ends = [graph.inputs, graph.outputs]
    for item in graph.operators or ():
        ends += [item.inputs, item.outputs]
    return {int(index) for given in ends if given is not None for index in given if index >= 0}


def _measured(interpreter: Any, constants: set[int], used: set[int]) -> int | None:
    places = _places(interpreter, constants)
    if None in places.values():
        # Some are sized by what they will hold, and what comes after them is planned only then.
        for item in interpreter.get_input_details():
            interpreter.set_tensor(item["index"], np.zeros(item["shape"], item["dtype"]))
        interpreter.invoke()
        places = _places(interpreter, constants)
    if any(place is None for index, place in places.items() if index in used):
        return None
    known = [place for place in places.values() if place is not None]
    scalars = sum(high for low, high in known if not low)
    return spanned(place for place in known if place[0]) + scalars


def _places(interpreter: Any, constants: set[int]) -> dict[int, Span | None]:
    """Of every tensor that is no constant, those that kernels asked for as scratch among them."""
    indices = [item["index"] for item in interpreter.get_tensor_details()]
    return {index: _place(interpreter, index) for index in indices if index not in constants}


def _place(interpreter: Any, index: int) -> Span | None:
    """From address 0 for a scalar, of which NumPy is given a copy; None for a tensor without memory."""
    try:
        values = interpreter.tensor(index)()
    except ValueError:
        return None
    if not isinstance(values, np.ndarray):
        return 0, values.nbytes
    if not values.size:
        return 0, 0
    address = int(values.__array_interface__["data"][0])
    return address, address + values.nbytes
