"""An ONNX file as nodes, constants and values. Numbers of fields are those of ONNX's schema (onnx.proto)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.onnx.wire import Field, Malformed, Refused, parse
from tasks.compression.outline.saved_model.wire import varint

__all__ = ["STANDARD", "TYPES", "Model", "Node", "Tensor", "Value", "read_model"]

STANDARD = ("", "ai.onnx")
"""The names of ONNX's own set of operators."""

TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128",
    16: "bfloat16", 17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz",
    21: "uint4", 22: "int4", 23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip
"""Of TensorProto.DataType."""

_NUMPY = {"float32": "<f4", "float64": "<f8", "int32": "<i4", "int64": "<i8", "bool": "?"}
_TYPED = {"float32": "float_data", "float64": "double_data", "int32": "int32_data", "int64": "int64_data",
          "bool": "int32_data"}  # fmt: skip
_CONTENTS = ("raw", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_MOST_VALUES = 2 << 30
_MOST_NUMBERS = 1 << 20
_LONGEST_NAME = 1000

Shape = tuple[int | None, ...]

_ENTRY = {1: Field("key", "text"), 2: Field("value", "text")}
_META = Field("metadata", "message", many=True, inside=_ENTRY)
_DOC = Field("doc", "text")
_MODEL = {
    1: Field("ir_version", "int"), 2: Field("producer", "text"), 3: Field("producer_version", "text"),
    4: Field("domain", "text"), 5: Field("model_version", "int"), 6: _DOC, 7: Field("graph", "message"),
    8: Field("opsets", "message", many=True), 14: _META,
    20: Field("training", "message", refused="a training loop (training_info)"),
    25: Field("functions", "message", refused="functions of its own"),
    26: Field("configuration", "message", refused="a configuration for several devices"),
}  # fmt: skip
_OPSET = {1: Field("domain", "text"), 2: Field("version", "int")}
_GRAPH = {
    1: Field("nodes", "message", many=True), 2: Field("name", "text"),
    5: Field("constants", "message", many=True), 10: _DOC, 11: Field("inputs", "message", many=True),
    12: Field("outputs", "message", many=True), 13: Field("values", "message", many=True),
    14: Field("annotations", "message", many=True),
    15: Field("sparse", "message", refused="constants that are stored sparse"), 16: _META,
}  # fmt: skip
_NODE = {
    1: Field("inputs", "text", many=True), 2: Field("outputs", "text", many=True), 3: Field("name", "text"),
    4: Field("operator", "text"), 5: Field("attributes", "message", many=True), 6: _DOC,
    7: Field("domain", "text"), 8: Field("overload", "text"), 9: _META,
    10: Field("devices", "message", refused="a configuration for several devices"),
}  # fmt: skip
_ATTRIBUTE = {
    1: Field("name", "text"), 2: Field("f", "float"), 3: Field("i", "int"), 4: Field("s", "bytes"),
    5: Field("t", "message"), 6: Field("g", "message", refused="a graph within a graph: a loop or a branch"),
    7: Field("floats", "float", many=True), 8: Field("ints", "int", many=True),
    9: Field("strings", "bytes", many=True), 10: Field("tensors", "message", refused="a list of constants"),
    11: Field("graphs", "message", refused="a graph within a graph: a loop or a branch"), 13: _DOC,
    14: Field("tp", "message", refused="a type as an attribute"),
    15: Field("types", "message", refused="a type as an attribute"), 20: Field("type", "int"),
    21: Field("reference", "text", refused="functions of its own"),
    22: Field("sparse", "message", refused="constants that are stored sparse"),
    23: Field("sparses", "message", refused="constants that are stored sparse"),
}  # fmt: skip
# The one of these that an attribute has, by its type.
_ATTRIBUTE_TYPES = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}
_ELSEWHERE = "weights in files of their own (external data)"
_TENSOR = {
    1: Field("dims", "int", many=True), 2: Field("type", "int"),
    3: Field("segment", "message", refused="constants that are stored in segments"),
    4: Field("float_data", "bytes", many=True), 5: Field("int32_data", "bytes", many=True),
    6: Field("string_data", "bytes", many=True), 7: Field("int64_data", "bytes", many=True),
    8: Field("name", "text"), 9: Field("raw", "bytes"), 10: Field("double_data", "bytes", many=True),
    11: Field("uint64_data", "bytes", many=True), 12: _DOC,
    13: Field("external", "message", refused=_ELSEWHERE), 14: Field("location", "int"), 16: _META,
}  # fmt: skip
_VALUE = {1: Field("name", "text"), 2: Field("type", "message"), 3: _DOC, 4: _META}
_OTHER_TYPE = "values that are no tensors"
_TYPE = {
    1: Field("tensor", "message"), 4: Field("sequence", "message", refused=_OTHER_TYPE),
    5: Field("map", "message", refused=_OTHER_TYPE), 6: Field("denotation", "text"),
    7: Field("opaque", "message", refused=_OTHER_TYPE), 8: Field("sparse", "message", refused=_OTHER_TYPE),
    9: Field("optional", "message", refused=_OTHER_TYPE),
}  # fmt: skip
_TENSOR_TYPE = {1: Field("element", "int"), 2: Field("shape", "message")}
_SHAPE = {1: Field("dims", "message", many=True)}
_DIM = {1: Field("value", "int"), 2: Field("name", "text"), 3: Field("denotation", "text")}


@dataclass(frozen=True)
class Tensor:
    """A constant. Only those of the types that are computed with have `content`, whose size is that of the
    shape."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    content: memoryview | None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def values(self) -> npt.NDArray[Any] | None:
        """Flat; None for types that are not computed with."""
        return None if self.content is None else np.frombuffer(self.content, _NUMPY[self.dtype])


@dataclass(frozen=True)
class Value:
    """What the file says of a tensor between nodes, an input or an output: type and shape where it does."""

    name: str
    dtype: str | None
    shape: Shape | None


@dataclass(frozen=True)
class Node:
    """`attributes` are numbers, bytes, constants and lists of them."""

    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Model:
    """`inputs` are those that are no constants. Every node comes after those that it takes tensors from."""

    ir_version: int
    opset: int
    writer: str
    name: str
    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    values: Mapping[str, Value]
    annotated: bool


def read_model(content: bytes, bounds: Bounds) -> Model:
    """CompressionError bad_model for a file that is damaged or contradicts itself; unsupported_model for
    parts of a file that are not taken, model_too_large for one beyond `bounds`."""
    try:
        return _model(memoryview(content), bounds)
    except Refused as error:
        raise CompressionError(
            "unsupported_model",
            f"the .onnx has {error}: that is not taken",
            hint="save the model as one file of plain operations: onnx.save(model, path, "
            "save_as_external_data=False), after onnx.inliner.inline_local_functions where it has functions",
        ) from error
    except (Malformed, ValueError) as error:
        raise CompressionError(
            "bad_model", f"the .onnx file is damaged or cut off: {error}"[:300], hint="export it again"
        ) from error


def _model(content: memoryview, bounds: Bounds) -> Model:
    told = parse(content, _MODEL, "the model")
    if "graph" not in told:
        raise Malformed("it has no graph")
    graph = parse(told["graph"], _GRAPH, "the graph")
    for name, limit in (("nodes", bounds.calls), ("constants", bounds.objects), ("values", bounds.objects)):
        if len(graph.get(name, ())) > limit:
            raise CompressionError("model_too_large", f"the .onnx has more than {limit} {name}")
    constants = _unique(_tensor(part, bounds) for part in graph.get("constants", ()))
    inputs = _unique(_value(part) for part in graph.get("inputs", ()))
    outputs = _unique(_value(part) for part in graph.get("outputs", ()))
    values = {value.name: value for value in map(_value, graph.get("values", ()))}
    given = {name: value for name, value in inputs.items() if name not in constants}
    nodes = tuple(_node(part, bounds) for part in graph.get("nodes", ()))
    _check_order(nodes, {*constants, *given}, outputs)
    writer = " ".join(filter(None, (told.get("producer", ""), told.get("producer_version", ""))))
    return Model(
        ir_version=told.get("ir_version", 0),
        opset=_opset(told.get("opsets", ())),
        writer=writer if len(writer) <= 100 and writer.isprintable() else "",
        name=_name(graph.get("name", "")),
        nodes=nodes,
        constants=constants,
        inputs=tuple(given.values()),
        outputs=tuple(outputs.values()),
        values=values,
        annotated=bool(graph.get("annotations")),
    )


def _opset(parts: Iterable[memoryview]) -> int:
    told = [parse(part, _OPSET, "a set of operators") for part in parts]
    versions = [each.get("version", 0) for each in told if each.get("domain", "") in STANDARD]
    if len(versions) != 1:
        raise Malformed("it does not say once which version of ONNX's operators it is for")
    return int(versions[0])


def _unique(parts: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in parts:
        if not part.name or part.name in found:
            raise Malformed(
                f"two tensors are called {part.name[:80]!r}" if part.name else "a tensor has no name"
            )
        found[part.name] = part
    return found


def _check_order(nodes: Iterable[Node], known: set[str], outputs: Iterable[str]) -> None:
    for node in nodes:
        for name in node.inputs:
            if name and name not in known:
                raise Malformed(
                    f"the operator {node.operator[:80]} takes {name[:80]!r}, which nothing before it makes"
                )
        for name in filter(None, node.outputs):
            if name in known:
                raise Malformed(f"two tensors are called {name[:80]!r}")
            known.add(name)
    for name in outputs:
        if name not in known:
            raise Malformed(f"nothing makes the output {name[:80]!r}")


def _node(content: memoryview, bounds: Bounds) -> Node:
    told = parse(content, _NODE, "a node")
    if told.get("overload"):
        raise Refused("functions of its own")
    attributes: dict[str, Any] = {}
    for part in told.get("attributes", ()):
        name, value = _attribute(part, bounds)
        if name in attributes:
            raise Malformed(f"a node has two attributes {name[:80]!r}")
        attributes[name] = value
    return Node(
        name=_name(told.get("name", "")),
        operator=_name(told.get("operator", "")),
        domain=_name(told.get("domain", "")),
        inputs=tuple(map(_name, told.get("inputs", ()))),
        outputs=tuple(map(_name, told.get("outputs", ()))),
        attributes=attributes,
    )


def _attribute(content: memoryview, bounds: Bounds) -> tuple[str, Any]:
    told = parse(content, _ATTRIBUTE, "an attribute")
    name, field = _name(told.get("name", "")), _ATTRIBUTE_TYPES.get(told.get("type", 0))
    if field is None or {*told} - {"name", "doc", "type", field}:
        raise Malformed(f"the attribute {name[:80]!r} is not of the type that it says")
    value = told.get(field, {"f": 0.0, "i": 0, "s": b"", "t": b""}.get(field, []))
    if field == "t":
        return name, _tensor(memoryview(value), bounds)
    if field == "s":
        return name, bytes(value)
    return name, [bytes(each) for each in value] if field == "strings" else value


def _tensor(content: memoryview, bounds: Bounds) -> Tensor:
    told = parse(content, _TENSOR, "a constant")
    if told.get("location", 0):
        raise Refused(_ELSEWHERE)
    name, shape = _name(told.get("name", "")), tuple(told.get("dims", ()))
    dtype = TYPES.get(told.get("type", 0))
    if dtype is None or len(shape) > bounds.axes or any(size < 0 for size in shape):
        raise Malformed(f"the constant {name[:80]!r} has no valid shape or type")
    size = math.prod(shape)
    if size > _MOST_VALUES:
        raise CompressionError("model_too_large", f"the constant {name[:80]!r} has {size} values", layer=name)
    return Tensor(name, shape, dtype, _content(name, size, dtype, told))


def _content(name: str, size: int, dtype: str, told: Mapping[str, Any]) -> memoryview | None:
    """The bytes of the values, wherever they are stored. Malformed where they are not as many as `size`."""
    held = [field for field in _CONTENTS if told.get(field)]
    if dtype not in _NUMPY:
        return None
    if len(held) > 1 or (held and held[0] not in ("raw", _TYPED[dtype])):
        raise Malformed(f"the constant {name[:80]!r} has values of another type than it says")
    width = np.dtype(_NUMPY[dtype]).itemsize
    if not held or held[0] == "raw":
        found = memoryview(told.get("raw", b""))
    elif dtype in ("float32", "float64"):
        parts = told[held[0]]
        found = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
    else:
        found = memoryview(np.array(_numbers(told[held[0]], dtype), _NUMPY[dtype]).tobytes())
    if len(found) != size * width:
        raise Malformed(f"the constant {name[:80]!r} has {len(found)} bytes instead of {size * width}")
    if dtype == "bool" and size and int(np.frombuffer(found, np.uint8).max()) > 1:
        raise Malformed(f"the constant {name[:80]!r} has values that are neither true nor false")
    return found


def _numbers(parts: Iterable[memoryview], dtype: str) -> list[int]:
    found: list[int] = []
    for part in parts:
        place = 0
        while place < len(part):
            item, place = varint(part, place)
            found.append(item - (1 << 64) if item >> 63 else item)
            if len(found) > _MOST_NUMBERS:
                raise CompressionError(
                    "model_too_large",
                    f"the .onnx has a constant of more than {_MOST_NUMBERS} numbers stored one by one",
                    hint="store it as bytes: onnx.numpy_helper.from_array",
                )
    limits = {"bool": (0, 1), "int32": (-(1 << 31), (1 << 31) - 1)}.get(dtype)
    if limits and found and not limits[0] <= min(found) <= max(found) <= limits[1]:
        raise Malformed(f"a constant has values beyond its type {dtype}")
    return found


def _value(content: memoryview) -> Value:
    told = parse(content, _VALUE, "a value")
    name = _name(told.get("name", ""))
    type_ = parse(told["type"], _TYPE, "a type") if "type" in told else {}
    tensor = parse(type_["tensor"], _TENSOR_TYPE, "a type") if "tensor" in type_ else {}
    shape: Shape | None = None
    if "shape" in tensor:
        dims = parse(tensor["shape"], _SHAPE, "a shape").get("dims", ())
        shape = tuple(_size(parse(part, _DIM, "a size")) for part in dims)
    return Value(name, TYPES.get(tensor.get("element", 0)), shape)


def _size(told: Mapping[str, Any]) -> int | None:
    if "value" in told and "name" in told:
        raise Malformed("a size is a number and a name")
    size: int | None = told.get("value")
    if size is not None and size < 0:
        raise Malformed("a tensor has a negative size")
    return size


def _name(text: str) -> str:
    if len(text) > _LONGEST_NAME:
        raise Malformed(f"a name of {len(text)} characters")
    return text
