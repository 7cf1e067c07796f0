"""The dependency graph of a network: which channels can be removed, and what is cut when they are.

Follows DepGraph (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023): parameters that
depend on one another are found by going through the network layer by layer, and are removed together.
Where DepGraph groups layers, `units` group single channels, so that concatenation, flattening and
channel multipliers need no bookkeeping of offsets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.structured.channels import Channels, Labels
from tasks.compression.structured.flows import Axis, Flow, Opaque, Path
from tasks.compression.structured.framework import Call, Framework, Graph

__all__ = ["Alive", "Bound", "Dependencies", "Group", "Parameter", "Units", "follow"]

Units = npt.NDArray[np.int64]
Alive = npt.NDArray[np.bool_]
"""For each unit of a network, whether it stays."""


@dataclass(frozen=True)
class Parameter:
    """A variable of a layer: `axes` are those that follow channels, by number, labelled with units.

    `uses` is how many multiply-accumulates each of its elements takes part in for one sample.
    """

    variable: Any
    axes: Mapping[int, Axis]
    uses: int

    def size(self, alive: Alive) -> int:
        """The number of elements once only the units in `alive` are left."""
        shape = tuple(self.variable.shape)
        return prod(
            int(np.count_nonzero(alive[self.axes[number].labels])) if number in self.axes else size
            for number, size in enumerate(shape)
        )


@dataclass(frozen=True)
class Bound:
    """A layer with all its variables, in its own order, and what else of it counts units, by where it is."""

    layer: Any
    name: str
    parameters: tuple[Parameter, ...]
    sizes: Mapping[Path, Units]
    made: Units
    """The units of the channels the layer makes, or lets through its weights; empty without any."""
    makes: bool
    """Whether it makes channels (convolution, dense) rather than treating those of others."""
    fixed_macs: int
    """Multiply-accumulates of one sample that no weight takes part in (attention)."""


@dataclass(frozen=True)
class Group:
    """Units made by the same layers (`makers`); `treated_by` are the layers with weights they go through.

    `widths` says, for each maker, how many channels of it a unit is. `kept` is why the group must stay as
    it is, or None.
    """

    units: Units
    makers: tuple[str, ...]
    treated_by: tuple[str, ...]
    widths: tuple[int, ...]
    kept: str | None


@dataclass(frozen=True)
class Dependencies:
    """Everything needed to choose channels and to remove them."""

    framework: Framework
    model: Any
    graph: Graph
    layers: tuple[Bound, ...]
    groups: tuple[Group, ...]
    count: int
    """The number of units; they are numbered from 0."""
    labels: Mapping[int, Units]
    """The units of each tensor's last axis, by the tensor's number."""
    opaque: Mapping[str, str]
    """Layers with kernels through which channels cannot be followed, and why."""

    def everything(self) -> Alive:
        return np.ones(self.count, dtype=np.bool_)

    def parameters(self, alive: Alive) -> int:
        return sum(parameter.size(alive) for layer in self.layers for parameter in layer.parameters)

    def macs(self, alive: Alive) -> int:
        return sum(layer_macs(layer, alive) for layer in self.layers)


def layer_parameters(layer: Bound, alive: Alive) -> int:
    return sum(parameter.size(alive) for parameter in layer.parameters)


def layer_macs(layer: Bound, alive: Alive) -> int:
    """Multiply-accumulates of one sample: every element of a kernel is used a number of times that does not
    depend on how many channels there are."""
    return layer.fixed_macs + sum(
        parameter.uses * parameter.size(alive) for parameter in layer.parameters if parameter.uses
    )


def follow(graph: Graph, framework: Framework, model: Any = None) -> Dependencies:
    """The dependency graph of what `framework` traced; `model` is what it was traced from."""
    walk = _Walk(framework)
    for call in graph.calls:
        walk.visit(call)
    for tensor in graph.outputs:
        walk.channels.keep(walk.labels[tensor.number], "they are an output of the model")
    return _resolve(model, graph, walk)


class _Walk:
    """Labels of every tensor, and one Flow for each layer: the calls of a shared layer are tied together."""

    def __init__(self, framework: Framework) -> None:
        self.framework = framework
        self.channels = Channels()
        self.labels: dict[int, Labels] = {}
        self.flows: dict[int, Flow] = {}
        self.calls: dict[int, list[Call]] = {}
        self.opaque: dict[str, str] = {}

    def visit(self, call: Call) -> None:
        inputs = [self.labels[tensor.number] for tensor in call.inputs]
        try:
            result = self.framework.flow(call, inputs, self.channels)
            self._check(call, result)
        except Opaque as why:
            result = self._keep_around(call, inputs, str(why))
        earlier = self.flows.setdefault(id(call.layer), result)
        if earlier is not result:
            self._tie(call, earlier, result)
        self.calls.setdefault(id(call.layer), []).append(call)
        for tensor, made in zip(call.outputs, result.outputs, strict=True):
            self.labels[tensor.number] = made

    def _check(self, call: Call, result: Flow) -> None:
        for tensor, made in zip(call.outputs, result.outputs, strict=True):
            if tensor.width != len(made):
                raise Opaque(f"its output has {tensor.width} channels where {len(made)} were expected")
        for weight in result.weights:
            for number, axis in weight.axes.items():
                if weight.variable.shape[number] != len(axis.labels):
                    raise Opaque(f"its weight {weight.variable.name} is not shaped as its kind should be")

    def _keep_around(self, call: Call, inputs: Sequence[Labels], why: str) -> Flow:
        reason = self._meeting(call, why)
        self.opaque.setdefault(call.name, why)
        made = tuple(self.channels.fresh(tensor.width) for tensor in call.outputs)
        for labels in (*inputs, *made):
            self.channels.keep(labels, reason)
        return Flow(made)

    def _tie(self, call: Call, earlier: Flow, later: Flow) -> None:
        if call.name in self.opaque:  # In one of its calls; what it was to follow in the other stays.
            for labels in _followed(earlier) + _followed(later):
                self.channels.keep(labels, self._meeting(call, self.opaque[call.name]))
            return
        for one, other in zip(earlier.weights, later.weights, strict=True):
            for number, axis in one.axes.items():
                self.channels.tie(axis.labels, other.axes[number].labels)
        for path, labels in earlier.sizes.items():
            self.channels.tie(labels, later.sizes[path])

    def _meeting(self, call: Call, why: str) -> str:
        return f"they meet {call.name} ({self.framework.kind(call.layer)}): {why}"


def _followed(result: Flow) -> list[Labels]:
    in_weights = [axis.labels for weight in result.weights for axis in weight.axes.values()]
    return in_weights + list(result.sizes.values())


def _resolve(model: Any, graph: Graph, walk: _Walk) -> Dependencies:
    unit_of, kept = walk.channels.units()
    layers = tuple(
        _bind(calls, walk.flows[key], unit_of, walk.framework) for key, calls in walk.calls.items()
    )
    count = int(unit_of.max()) + 1 if len(unit_of) else 0
    return Dependencies(
        framework=walk.framework,
        model=model,
        graph=graph,
        layers=layers,
        groups=_groups(layers, count, kept),
        count=count,
        labels={number: unit_of[labels] for number, labels in walk.labels.items()},
        opaque={
            layer.name: walk.opaque[layer.name]
            for layer in layers
            if layer.name in walk.opaque and any(len(one.variable.shape) > 1 for one in layer.parameters)
        },
    )


def _bind(calls: Sequence[Call], result: Flow, unit_of: Units, framework: Framework) -> Bound:
    layer = calls[0].layer
    axes = {
        id(weight.variable): {n: Axis(unit_of[axis.labels], axis.role) for n, axis in weight.axes.items()}
        for weight in result.weights
    }
    used: dict[int, int] = {}
    fixed = 0
    for call in calls:
        usage = framework.uses(call)
        fixed += usage.fixed
        for variable, times in usage.kernels:
            used[id(variable)] = used.get(id(variable), 0) + times
    parameters = tuple(
        Parameter(variable, axes.get(id(variable), {}), used.get(id(variable), 0))
        for variable in layer.weights
    )
    follows = any(parameter.axes for parameter in parameters)
    makes = any(axis.role == "out" for parameter in parameters for axis in parameter.axes.values())
    return Bound(
        layer=layer,
        name=calls[0].name,
        parameters=parameters,
        sizes={path: unit_of[labels] for path, labels in result.sizes.items()},
        made=unit_of[result.outputs[0]] if follows else np.empty(0, dtype=np.int64),
        makes=makes,
        fixed_macs=fixed,
    )


def _groups(layers: Sequence[Bound], count: int, kept: Mapping[int, str]) -> tuple[Group, ...]:
    """Units made by the same layers, in the order of the network; those kept for different reasons apart."""
    makers: list[dict[str, int]] = [{} for _ in range(count)]
    treated: list[dict[str, None]] = [{} for _ in range(count)]
    for layer in layers:
        for unit in layer.made.tolist():
            if layer.makes:
                makers[unit][layer.name] = makers[unit].get(layer.name, 0) + 1
            else:
                treated[unit].setdefault(layer.name)
    members: dict[tuple[Any, ...], list[int]] = {}
    for unit in range(count):
        if makers[unit]:
            signature = (tuple(makers[unit].items()), kept.get(unit))
            members.setdefault(signature, []).append(unit)
    return tuple(
        Group(
            units=np.array(units, dtype=np.int64),
            makers=tuple(name for name, _ in made),
            treated_by=tuple(dict.fromkeys(name for unit in units for name in treated[unit])),
            widths=tuple(width for _, width in made),
            kept=reason or _all_or_nothing(units),
        )
        for (made, reason), units in members.items()
    )


def _all_or_nothing(units: Sequence[int]) -> str | None:
    return "they can only be removed all together" if len(units) == 1 else None
