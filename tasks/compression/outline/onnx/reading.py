"""The outline of an ONNX file. Nodes are its layers, by their names or else by kind and position; one whose
weights another node uses too belongs to the first of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tasks.compression.outline.bounds import Bounds, too_large
from tasks.compression.outline.facts import Call, Layer, Outline, Weight
from tasks.compression.outline.onnx.judging import refusal
from tasks.compression.outline.onnx.message import Model, Node, Tensor, read_model
from tasks.compression.outline.onnx.shapes import shapes_of
from tasks.compression.outline.tflite import operation_name

__all__ = ["activations_of", "constants_of", "is_constant", "names_of", "read_onnx"]

_ACTIVATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "log_softmax"}
_SHAPING = frozenset({"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Dropout", "Cast"})
_WEIGHTS = frozenset({"float32", "float64"})


def read_onnx(content: bytes, bounds: Bounds) -> Outline:
    """What a job would refuse is in `refused`; CompressionError as `read_model` has it."""
    model = read_model(content, bounds)
    constants = constants_of(model)
    names = names_of(model)
    layers, calls, numbers = _layers(model, constants, names, bounds)
    shapes = shapes_of(model)
    return Outline(
        format="onnx",
        framework="torch",
        kind="onnx",
        writer=model.writer or None,
        name=model.name,
        bytes=len(content),
        layers=tuple(layers.values()),
        calls=tuple(calls),
        tensors=tuple(shapes.of(name) for name in numbers),
        inputs=tuple(numbers[value.name] for value in model.inputs),
        outputs=tuple(numbers[value.name] for value in model.outputs),
        input_names=tuple(value.name for value in model.inputs),
        output_names=tuple(value.name for value in model.outputs),
        output_activation=next(iter(activations_of(model)), None),
        refused=refusal(model),
    )


def activations_of(model: Model) -> list[str]:
    """Of every output, what its last node applies; linear for one that is no activation."""
    makers = {output: node for node in model.nodes for output in node.outputs}
    return [_activation(makers, value.name) for value in model.outputs]


def _activation(makers: Mapping[str, Node], output: str) -> str:
    while (node := makers.get(output)) is not None and node.operator in _SHAPING and node.inputs:
        output = node.inputs[0]
    return "linear" if node is None else _ACTIVATIONS.get(node.operator, "linear")


def names_of(model: Model) -> list[str]:
    """What every node goes by."""
    taken: dict[str, None] = {}
    for position, node in enumerate(model.nodes):
        taken[operation_name(node.name, node.operator, position, taken)] = None
    return list(taken)


def constants_of(model: Model) -> dict[str, Tensor]:
    """Every constant by the names that nodes take it under, after nodes that hold or pass one on too."""
    found = dict(model.constants)
    for node in model.nodes:
        value = node.attributes.get("value")
        if node.operator == "Constant" and isinstance(value, Tensor) and node.outputs:
            found[node.outputs[0]] = value
        if node.operator == "Identity" and node.inputs and node.inputs[0] in found and node.outputs:
            found[node.outputs[0]] = found[node.inputs[0]]
    return found


def is_constant(node: Node, constants: Mapping[str, Tensor]) -> bool:
    """Whether the node only holds a constant, or passes one on."""
    return node.operator in ("Constant", "Identity") and bool(node.outputs) and node.outputs[0] in constants


def _layers(
    model: Model, constants: Mapping[str, Tensor], names: list[str], bounds: Bounds
) -> tuple[dict[str, Layer], list[Call], dict[str, int]]:
    """Layers by path, calls, and the number of every tensor."""
    numbers: dict[str, int] = {}
    for name in (*constants, *(value.name for value in model.inputs)):
        numbers[name] = len(numbers)
    layers: dict[str, Layer] = {}
    calls: list[Call] = []
    owners: dict[int, str] = {}
    counted: set[int] = set()
    left = bounds.weight_bytes
    for node, name in zip(model.nodes, names, strict=True):
        for output in filter(None, node.outputs):
            numbers.setdefault(output, len(numbers))
        if is_constant(node, constants):
            continue
        kernel = _kernel(node, constants)
        owner = name if kernel is None else owners.setdefault(id(kernel), name)
        fresh = [part for part in _held(node, constants) if id(part) not in counted]
        counted.update(map(id, fresh))
        left -= sum(0 if part.content is None else len(part.content) for part in fresh)
        if left < 0:
            raise too_large(f"weights of more than {bounds.weight_bytes} bytes")
        weights = tuple(map(_weight, fresh))
        if owner in layers:
            weights = layers[owner].weights + weights
        kind = layers[owner].kind if owner in layers else node.operator
        layers[owner] = Layer(path=owner, name=owner, kind=kind, weights=weights)
        calls.append(
            Call(
                layer=owner,
                inputs=tuple(numbers[each] for each in node.inputs if each),
                outputs=tuple(numbers[each] for each in node.outputs if each),
            )
        )
    return layers, calls, numbers


def _held(node: Node, constants: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The weights that a node takes: constants of floats, but for single numbers."""
    seen: set[int] = set()
    for name in node.inputs:
        constant = constants.get(name)
        if constant is None or constant.dtype not in _WEIGHTS or not constant.shape or id(constant) in seen:
            continue
        seen.add(id(constant))
        yield constant


def _kernel(node: Node, constants: Mapping[str, Tensor]) -> Tensor | None:
    parts = [part for part in _held(node, constants) if len(part.shape) > 1]
    return max(parts, key=lambda part: part.size, default=None)


def _weight(constant: Tensor) -> Weight:
    values = constant.values()
    assert values is not None
    return Weight.counted(constant.name, constant.shape, constant.dtype, values)
