"""From a Keras configuration (JSON, of Keras 2 or 3) to layers and the calls between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tasks.compression.errors import CompressionError
from tasks.compression.outline import keras3
from tasks.compression.outline.bounds import Bounds, too_large
from tasks.compression.outline.shapes import output_shapes

__all__ = ["Architecture", "Container", "Described", "architecture", "input_names", "output_names"]

MODELS = frozenset(["Functional", "Model", "Sequential"])
_CONSTANT = "_CONSTANT_VALUE"
_LEFT_OUT = ("_initializer", "_regularizer", "_constraint")

Shape = tuple[int | None, ...]


@dataclass
class Described:
    """A layer as its configuration describes it. `build` is the input shape it was built with, where the
    file says it."""

    path: str
    name: str
    kind: str
    config: dict[str, Any]
    listed: bool = True
    build: Any = None


@dataclass
class Container:
    """A model: what is in it in the order of its configuration, layers and further models."""

    name: str
    kind: str
    config: Mapping[str, Any]
    prefix: str
    members: list[tuple[Mapping[str, Any], Described | Container]] = field(default_factory=list)


@dataclass
class Architecture:
    """`calls` are (path, inputs, outputs, arguments, keywords); `traced` says whether they are known,
    `keras3` that there are operations of Keras 3 among them."""

    top: Container
    layers: list[Described] = field(default_factory=list)
    calls: list[tuple[str, tuple[int, ...], tuple[int, ...], tuple[Any, ...], dict[str, Any]]] = field(
        default_factory=list
    )
    tensors: list[Shape | None] = field(default_factory=list)
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    traced: bool = True
    keras3: bool = False

    @property
    def has_inputs(self) -> bool:
        """Whether the inputs are fixed; with operations of Keras 3, also where the calls cannot be told."""
        return (self.traced and bool(self.inputs)) or (
            self.keras3 and self.top.kind in MODELS and bool(self.top.config.get("input_layers"))
        )


class _Untraceable(Exception):
    """The configuration does not tell how its layers are joined."""


def architecture(config: Mapping[str, Any], bounds: Bounds) -> Architecture:
    """Of a whole model's configuration. CompressionError bad_model for one beyond `bounds`."""
    kind = str(config.get("class_name"))
    inner = _config(config)
    found = Architecture(Container(str(inner.get("name", "model")), kind, inner, ""))
    _fill(found, found.top, bounds, 0)
    try:
        if kind not in MODELS:
            raise _Untraceable
        tracer = _Tracer(found, bounds)
        found.inputs, found.outputs = tracer.whole()
        if found.keras3:
            _leave_out(found)
    except _Untraceable:
        found.traced, found.calls = False, []
    return found


def _leave_out(found: Architecture) -> None:
    """Operations that only masks are made of."""
    before = {call[0] for call in found.calls}
    found.calls = keras3.needed(found.calls, found.outputs)
    left = before - {call[0] for call in found.calls}
    found.layers = [layer for layer in found.layers if layer.path not in left]


def input_names(model: Container) -> tuple[str, ...]:
    """What Keras calls a model's inputs: after their layers."""
    if model.kind != "Sequential":
        return tuple(name for name, _, _ in _references(model.config.get("input_layers")))
    first = model.members[0][1]
    if isinstance(first, Described) and first.kind == "InputLayer":
        return (first.name,)
    return (f"{first.name}_input",)


def output_names(model: Container) -> tuple[str, ...]:
    """What Keras calls a model's outputs: after the layers that make them, numbered where one makes two."""
    if model.kind == "Sequential":
        return (model.members[-1][1].name,)
    found: list[str] = []
    for name, _, _ in _references(model.config.get("output_layers")):
        numbered = (f"{name}_{number}" for number in count(1))
        found.append(name if name not in found else next(each for each in numbered if each not in found))
    return tuple(found)


def _config(node: Any) -> dict[str, Any]:
    config = node.get("config") if isinstance(node, Mapping) else None
    return dict(config) if isinstance(config, Mapping) else {}


def _fill(found: Architecture, model: Container, bounds: Bounds, depth: int) -> None:
    if depth > bounds.depth:
        raise too_large(f"models nested deeper than {bounds.depth}")
    listed = model.config.get("layers")
    for position, node in enumerate(listed if isinstance(listed, list) else []):
        if not isinstance(node, Mapping):
            raise CompressionError("bad_model", "the configuration in the model file is none")
        kind, config = str(node.get("class_name")), _config(node)
        if keras3.is_keras3(node):
            found.keras3 = True
            kind, config = keras3.counterpart(kind, config)
        name = str(config.get("name") or node.get("name") or kind.lower())
        if kind in MODELS:
            inside = Container(name, kind, config, f"{model.prefix}{name}/")
            model.members.append((node, inside))
            _fill(found, inside, bounds, depth + 1)
            continue
        hidden = kind == "InputLayer" and model.kind == "Sequential" and position == 0
        layer = Described(f"{model.prefix}{name}", name, kind, _essentials(config), not hidden, _built(node))
        model.members.append((node, layer))
        found.layers.append(layer)
        if len(found.layers) > bounds.layers:
            raise too_large(f"more than {bounds.layers} layers")


def _built(node: Mapping[str, Any]) -> Any:
    build = node.get("build_config")
    return build.get("input_shape") if isinstance(build, Mapping) else None


def _essentials(config: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if key.endswith(_LEFT_OUT):
            continue
        if (
            isinstance(value, Mapping)
            and "class_name" in value
            and key in ("layer", "backward_layer", "cell")
        ):
            value = {"class_name": str(value["class_name"]), "config": _essentials(_config(value))}
        kept[key] = value
    return kept


class _Tracer:
    """Goes through the calls of a model in an order in which they can be computed, nested models inlined."""

    def __init__(self, found: Architecture, bounds: Bounds) -> None:
        self._found = found
        self._bounds = bounds
        self._calls = 0

    def whole(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        top = self._found.top
        given = [self._tensor(self._entrance_shape(top, place)) for place in range(self._width(top))]
        outputs = self.walk(top, given, outermost=True)
        return tuple(given), tuple(outputs)

    def walk(self, model: Container, inputs: Sequence[int], *, outermost: bool = False) -> list[int]:
        if model.kind == "Sequential":
            return self._sequence(model, inputs, outermost)
        return self._functional(model, inputs, outermost)

    def _sequence(self, model: Container, inputs: Sequence[int], outermost: bool) -> list[int]:
        now = list(inputs)
        for position, (_, member) in enumerate(model.members):
            if isinstance(member, Described) and member.kind == "InputLayer":
                self._record(member, () if outermost else tuple(now), tuple(now))
                continue
            if position == 0 and isinstance(member, Described):
                # A sequential model whose first layer was given the shape has an input of its own.
                self._enter(model, now, outermost)
            now = self._call(member, now, (), {})
        return now

    def _enter(self, model: Container, now: list[int], outermost: bool) -> None:
        name = f"{model.name}_input"
        entrance = Described(f"{model.prefix}{name}", name, "InputLayer", {}, listed=False)
        self._found.layers.insert(0, entrance)
        self._record(entrance, () if outermost else tuple(now), tuple(now))

    def _functional(self, model: Container, inputs: Sequence[int], outermost: bool) -> list[int]:
        members = {_name(member): (node, member) for node, member in model.members}
        declared = keras3.declared_shapes(node for node, _ in model.members)
        known: dict[tuple[str, int], list[int]] = {}
        for (name, _, _), given in zip(_references(model.config.get("input_layers")), inputs, strict=False):
            if name not in members:
                raise _Untraceable
            entrance = members[name][1]
            if isinstance(entrance, Described):
                self._record(entrance, () if outermost else (given,), (given,))
            known[name, 0] = [given]
        waiting = [
            (name, place, arguments)
            for name, (node, _) in members.items()
            for place, arguments in enumerate(_inbound(node))
        ]
        while waiting:
            left = []
            for name, place, (first, keywords) in waiting:
                wanted = list(_tensors((first, keywords), members))
                tensors = [self._resolve(ref, known, members) for ref in wanted]
                if None in tensors:
                    left.append((name, place, (first, keywords)))
                    continue
                constants = tuple(_constants(first, members))
                known[name, place] = self._call(
                    members[name][1],
                    [number for number in tensors if number is not None],
                    constants,
                    _plain(keywords, members),
                )
                self._declare(known[name, place], members[name][1], (name, place), declared)
            if len(left) == len(waiting):
                raise _Untraceable
            waiting = left
        outputs = [
            self._resolve(reference, known, members)
            for reference in _references(model.config.get("output_layers"))
        ]
        if None in outputs or not outputs:
            raise _Untraceable
        return [number for number in outputs if number is not None]

    def _resolve(
        self,
        reference: tuple[str, int, int],
        known: Mapping[tuple[str, int], list[int]],
        members: Mapping[str, Any],
    ) -> int | None:
        name, place, tensor = reference
        member = members[name][1] if name in members else None
        if isinstance(member, Container) and place and _has_own_node(member):
            place -= 1  # Such a model has a call of its own before those of the configuration.
        made = known.get((name, place))
        return made[tensor] if made is not None and tensor < len(made) else None

    def _call(
        self,
        member: Described | Container,
        inputs: Sequence[int],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> list[int]:
        if isinstance(member, Container):
            if self._width(member) != len(inputs):
                raise _Untraceable
            return self.walk(member, inputs)
        self._hint(member, inputs)
        if member.kind == "TFOpLambda":
            keywords = {**member.config.get("options", {}), **keywords}
        shapes = output_shapes(
            member.kind, member.config, [self._found.tensors[number] for number in inputs], keywords
        )
        outputs = [self._tensor(shape) for shape in shapes]
        self._record(member, tuple(inputs), tuple(outputs), arguments, keywords)
        return outputs

    def _declare(
        self,
        made: list[int],
        member: Described | Container,
        call: tuple[str, int],
        declared: Mapping[tuple[str, int, int], Shape],
    ) -> None:
        """Take what Keras 3 writes down of the tensors a call made: their shapes, and that there are more."""
        shapes = {tensor: shape for (*of, tensor), shape in declared.items() if tuple(of) == call}
        if isinstance(member, Described):
            while len(made) <= max(shapes, default=-1):
                made.append(self._tensor(None))
                path, given, first, arguments, keywords = self._found.calls[-1]
                self._found.calls[-1] = (path, given, (*first, made[-1]), arguments, keywords)
        for tensor, shape in shapes.items():
            if tensor < len(made) and self._found.tensors[made[tensor]] is None:
                self._found.tensors[made[tensor]] = shape

    def _hint(self, layer: Described, inputs: Sequence[int]) -> None:
        """Take a shape that does not follow from the layer before from what this one was built with."""
        if len(inputs) == 1 and self._found.tensors[inputs[0]] is None and isinstance(layer.build, list):
            sizes = tuple(size if isinstance(size, int) else None for size in layer.build)
            if not any(isinstance(size, list) for size in layer.build):
                self._found.tensors[inputs[0]] = sizes

    def _record(
        self,
        layer: Described,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        arguments: tuple[Any, ...] = (),
        keywords: dict[str, Any] | None = None,
    ) -> None:
        self._calls += 1
        if self._calls > self._bounds.calls:
            raise too_large(f"more than {self._bounds.calls} calls of layers")
        self._found.calls.append((layer.path, inputs, outputs, arguments, keywords or {}))

    def _tensor(self, shape: Shape | None) -> int:
        self._found.tensors.append(shape)
        return len(self._found.tensors) - 1

    def _width(self, model: Container) -> int:
        return 1 if model.kind == "Sequential" else len(_references(model.config.get("input_layers")))

    def _entrance_shape(self, model: Container, place: int) -> Shape | None:
        if model.kind == "Sequential":
            if not model.members:
                raise _Untraceable
            first = model.members[0][1]
            if isinstance(first, Container):
                return self._entrance_shape(first, 0)
            shape = first.config.get("batch_input_shape") or first.config.get("batch_shape")
            if not shape and isinstance(model.config.get("build_input_shape"), list):
                shape = model.config["build_input_shape"]
            if not isinstance(shape, list):
                raise _Untraceable
            return tuple(size if isinstance(size, int) else None for size in shape)
        name = _references(model.config.get("input_layers"))[place][0]
        for _, member in model.members:
            if isinstance(member, Described) and member.name == name:
                return output_shapes(member.kind, member.config, [], {})[0]
        raise _Untraceable


def _name(member: Described | Container) -> str:
    return member.name


def _has_own_node(model: Container) -> bool:
    if model.kind != "Sequential":
        return True
    first = model.members[0][1] if model.members else None
    return isinstance(first, Described) and (
        first.kind == "InputLayer" or "batch_input_shape" in first.config
    )


def _references(value: Any) -> list[tuple[str, int, int]]:
    """Of a list of [name, node, tensor], or of one of them, or of a dict of them."""
    if isinstance(value, Mapping):
        return [ref for key in sorted(value) for ref in _references(value[key])]
    if _is_reference(value):
        return [(value[0], value[1], value[2])]
    return [ref for item in value for ref in _references(item)] if isinstance(value, list) else []


def _is_reference(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and isinstance(value[2], int)
        and not isinstance(value[1], bool)
    )


def _inbound(node: Mapping[str, Any]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """(arguments, keywords) of each call of a layer."""
    nodes = node.get("inbound_nodes")
    for entry in nodes if isinstance(nodes, list) else []:
        if isinstance(entry, Mapping):
            keywords = entry.get("kwargs")
            yield entry.get("args", []), keras3.without_masks(keywords or {})
            continue
        if isinstance(entry, list) and entry and isinstance(entry[0], str):
            entry = [entry]
        keywords, first = {}, []
        for item in entry if isinstance(entry, list) else []:
            if isinstance(item, list) and len(item) == 4 and isinstance(item[3], Mapping):
                keywords = {**keywords, **item[3]}
                item = item[:3]
            first.append(item)
        yield first, keywords


def _tensors(value: Any, members: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """The tensors in a call's arguments, in Keras 2's form and in Keras 3's."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            history = _config(value).get("keras_history")
            yield from _references(history)
            return
        for key in sorted(value):
            yield from _tensors(value[key], members)
    elif _is_reference(value):
        if value[0] in members:
            yield (value[0], value[1], value[2])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item, members)


def _constants(value: Any, members: Mapping[str, Any]) -> Iterator[Any]:
    if isinstance(value, list | tuple) and len(value) in (3, 4) and value and value[0] == _CONSTANT:
        yield value[2]
    elif _is_reference(value) or isinstance(value, Mapping):
        return
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _constants(item, members)


def _plain(keywords: Mapping[str, Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords that are no tensors; tensors become None."""
    return {
        str(key): None if any(True for _ in _tensors(value, members)) else value
        for key, value in keywords.items()
    }
