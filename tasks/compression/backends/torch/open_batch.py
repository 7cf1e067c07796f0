"""Opens the batch axis of a ``.tflite`` that was converted for one sample.

The converter fixes every size. What holds the batch are the shapes of tensors, which LiteRT works out again
when inputs are resized, and constants: shapes to reshape to, ends of slices. Those are opened, and the file
is then run on several samples at once: one that does not answer as it does sample by sample stays fixed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.compression.litert import Program
from tasks.compression.samples import Array, Tensors, arrays_of, gathered
from tasks.compression.tflite import is_empty, kind_of, read, written

__all__ = ["opened"]

TRIED = 3
TOLERANCE = 1e-4
MOST_ONES = 4096
"""A tensor that is repeated is not made to bring more values than this."""

_WHOLE = -1
_BROADCASTING = frozenset({"ADD", "DIV", "MUL", "SQUARED_DIFFERENCE", "SUB"})


def opened(content: bytes) -> bytes:
    """The program for any number of samples, or `content` itself where that cannot be had."""
    model = read(content)
    if len(model.subgraphs) != 1:
        return content
    try:
        _open(model, model.subgraphs[0])
    except _NotOpenable:
        return content
    candidate = written(model, len(content))
    return candidate if _answers_alike(content, candidate) else content


class _NotOpenable(Exception):
    """The batch is in a place where it cannot be left open."""


def _open(model: Any, graph: Any) -> None:
    _drop_broadcasts(model, graph)
    batched = {int(index) for index in graph.inputs}
    for item in graph.operators:
        given = [int(index) for index in item.inputs if index >= 0]
        if batched.isdisjoint(given):
            continue
        batched.update(int(index) for index in item.outputs)
        match kind_of(model, item):
            case "RESHAPE":
                _open_reshape(model, graph, item)
            case "SLICE":
                _open_constant(model, graph, item, 2)
            case "BROADCAST_TO":
                _multiply(model, graph, item)
            case "FILL" | "TILE":
                raise _NotOpenable
    for index in batched:
        tensor = graph.tensors[index]
        if tensor.shape is not None and len(tensor.shape):
            tensor.shapeSignature = [_WHOLE, *(int(size) for size in tensor.shape[1:])]


def _drop_broadcasts(model: Any, graph: Any) -> None:
    """Take out the operations that repeat a tensor for others that would do so themselves."""
    ends = {int(index) for index in graph.outputs}
    for item in [item for item in graph.operators if kind_of(model, item) == "BROADCAST_TO"]:
        made = int(item.outputs[0])
        users = [user for user in graph.operators if made in _indices(user.inputs)]
        if made not in ends and all(_broadcasts(model, graph, user, made) for user in users):
            graph.operators.remove(item)
            for user in users:
                user.inputs = [
                    int(item.inputs[0]) if index == made else index for index in _indices(user.inputs)
                ]


def _broadcasts(model: Any, graph: Any, user: Any, made: int) -> bool:
    """Whether an operation takes the tensor `made` with another that has the shape of its result."""
    result = list(graph.tensors[int(user.outputs[0])].shape)
    others = [index for index in _indices(user.inputs) if index != made]
    return (
        kind_of(model, user) in _BROADCASTING
        and len(others) == 1
        and list(graph.tensors[others[0]].shape) == result == list(graph.tensors[made].shape)
    )


def _indices(given: Any) -> list[int]:
    return [int(index) for index in given]


def _open_reshape(model: Any, graph: Any, item: Any) -> None:
    if len(item.inputs) > 1:
        _open_constant(model, graph, item, 1)
    options = item.builtinOptions
    if options is not None and options.newShape is not None and len(options.newShape):
        options.newShape = [_WHOLE, *(int(size) for size in options.newShape[1:])]


def _open_constant(model: Any, graph: Any, item: Any, place: int) -> None:
    """A copy for this operation alone of the constant at `place` among its inputs, with its first entry
    opened: others may share it."""
    index = int(item.inputs[place])
    tensor = graph.tensors[index]
    buffer = model.buffers[tensor.buffer]
    if is_empty(buffer):
        raise _NotOpenable
    values = np.frombuffer(bytes(bytearray(buffer.data)), dtype=_dtype(tensor)).copy()
    if not len(values) or _WHOLE in values:
        raise _NotOpenable
    values[0] = _WHOLE
    own_buffer, own = type(buffer)(), type(tensor)()
    own_buffer.data = np.frombuffer(values.tobytes(), dtype=np.uint8)
    own.__dict__.update(tensor.__dict__)
    own.name = f"{(tensor.name or b'').decode('utf-8', 'replace')}/opened{len(graph.tensors)}"
    own.buffer = len(model.buffers)
    model.buffers.append(own_buffer)
    graph.tensors.append(own)
    inputs = [int(number) for number in item.inputs]
    inputs[place] = len(graph.tensors) - 1
    item.inputs = inputs


def _multiply(model: Any, graph: Any, item: Any) -> None:
    """Repeat a tensor by multiplying it with ones instead, which takes any batch."""
    from ai_edge_litert import schema_py_generated as schema

    given, made = graph.tensors[int(item.inputs[0])], graph.tensors[int(item.outputs[0])]
    shape = [1, *(int(size) for size in made.shape[1:])]
    if (
        given.type != schema.TensorType.FLOAT32
        or len(given.shape) != len(shape)
        or np.prod(shape) > MOST_ONES
    ):
        raise _NotOpenable
    code, ones, buffer = schema.OperatorCodeT(), schema.TensorT(), schema.BufferT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MUL
    code.version = 1
    buffer.data = np.ones(shape, dtype=np.float32).reshape(-1).view(np.uint8)
    ones.name = f"{(made.name or b'').decode('utf-8', 'replace')}/ones"
    ones.type, ones.shape, ones.buffer = schema.TensorType.FLOAT32, shape, len(model.buffers)
    model.operatorCodes.append(code)
    model.buffers.append(buffer)
    graph.tensors.append(ones)
    item.opcodeIndex = len(model.operatorCodes) - 1
    item.inputs = [int(item.inputs[0]), len(graph.tensors) - 1]
    item.builtinOptionsType, item.builtinOptions = schema.BuiltinOptions.MulOptions, schema.MulOptionsT()


def _dtype(tensor: Any) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return np.int64 if tensor.type == schema.TensorType.INT64 else np.int32


def _answers_alike(fixed: bytes, candidate: bytes) -> bool:
    try:
        reference, program = Program(fixed), Program(candidate)
        x = _noise(reference)
        apart = [reference.predict(x[place : place + 1]) for place in range(TRIED)]
        together = program.predict(x)
    except (RuntimeError, ValueError):
        return False
    parts = zip(*(arrays_of(part) for part in apart), strict=True)
    ours = [np.concatenate(part) for part in parts]
    return program.open_batch and all(map(_close, ours, arrays_of(together)))


def _close(ours: Array, theirs: Array) -> bool:
    if ours.shape != theirs.shape:
        return False
    scale = float(np.abs(ours).max(initial=0.0)) or 1.0
    return bool(np.abs(ours - theirs).max(initial=0.0) <= TOLERANCE * scale)


def _noise(program: Program) -> Tensors:
    generator = np.random.default_rng(0)
    inputs = program.inputs()
    return gathered(
        inputs, [_sample(generator, dtype, (TRIED, *shape[1:])) for dtype, shape in inputs.values()]
    )


def _sample(generator: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    if np.dtype(dtype).kind == "f":
        return np.asarray(generator.standard_normal(shape), dtype=dtype)
    # Wide integers are indices, of which every table has the first two.
    return np.asarray(generator.integers(0, 2, shape), dtype=dtype)
