"""Removing units: a copy of the network with smaller layers and the rows that are left.

Torch-Pruning cuts the layers that it knows how to; those of groups, and recurrent ones, are cut here, because
it leaves the number of groups and the recurrent weights' columns as they were. Either way every weight is
compared with what is to be left of it: a cut that changes nothing is an error, not a success.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tasks.compression.backends.torch._framework import fx, nn, torch, torch_pruning
from tasks.compression.backends.torch.layers import copied
from tasks.compression.backends.torch.structured.graph import Call, Variable
from tasks.compression.structured.flows import Role
from tasks.compression.structured.groups import Alive, Bound, Dependencies, Parameter, Units

__all__ = ["remove"]

Gone = list[int]


def remove(graph: Dependencies, alive: Alive) -> fx.GraphModule:
    """A new model with only the units in `alive`; the old one stays as it is.

    Channel i of a layer becomes the i-th that is left. RuntimeError where a layer was not cut as it should.
    """
    model: fx.GraphModule = copied(graph.model)
    nodes = {node.name: node for node in model.graph.nodes}
    called: dict[int, list[Call]] = {}
    for call in graph.graph.calls:
        called.setdefault(id(call.layer), []).append(call)
    for bound in graph.layers:
        if _is_whole(bound, alive):
            continue
        if bound.layer.module is not None:
            _cut(model.get_submodule(bound.layer.path), bound, alive)
        else:
            for call in called[id(bound.layer)]:
                _write_arguments(nodes[call.node], bound, alive)
    model.graph.lint()
    model.recompile()
    return model


def _is_whole(bound: Bound, alive: Alive) -> bool:
    axes = (axis.labels for parameter in bound.parameters for axis in parameter.axes.values())
    return all(alive[labels].all() for labels in (*axes, *bound.sizes.values()))


def _cut(module: nn.Module, bound: Bound, alive: Alive) -> None:
    learning = {name: value.requires_grad for name, value in module.named_parameters()}
    known = _library_cut(module)
    if known is None:
        _cut_weights(module, bound, alive)
    else:
        for role, function in known.items():
            gone = _gone(bound, role, alive)
            if gone:
                function(module, gone)
    for name, value in module.named_parameters():
        value.requires_grad_(learning[name])
    _write_sizes(module, bound, alive)
    _check(module, bound, alive)


def _library_cut(module: nn.Module) -> dict[Role, Callable[[nn.Module, Gone], Any]] | None:
    """Torch-Pruning's functions for the axes of a layer, by what they do with channels."""
    functions = torch_pruning()
    match module:
        case nn.modules.conv._ConvNd(groups=1):
            return {
                "out": functions.prune_conv_out_channels,
                "in": functions.prune_conv_in_channels,
            }
        case nn.modules.conv._ConvNd() if module.groups == module.in_channels == module.out_channels:
            return {"depthwise": functions.prune_depthwise_conv_out_channels}
        case nn.Linear():
            return {
                "out": functions.prune_linear_out_channels,
                "in": functions.prune_linear_in_channels,
            }
        case nn.modules.batchnorm._BatchNorm():
            return {"through": functions.prune_batchnorm_out_channels}
        case nn.Embedding():
            return {"out": functions.prune_embedding_out_channels}
        case nn.PReLU():
            return {"through": functions.prune_prelu_out_channels}
    return None


def _gone(bound: Bound, role: Role, alive: Alive) -> Gone:
    """The numbers of the channels that go from the axes of that role; of a kernel its axis, not its bias'."""
    axes = [axis for parameter in bound.parameters for axis in parameter.axes.values() if axis.role == role]
    return [int(number) for number in np.flatnonzero(~alive[axes[0].labels])] if axes else []


def _cut_weights(module: nn.Module, bound: Bound, alive: Alive) -> None:
    for parameter in bound.parameters:
        variable: Variable = parameter.variable
        owner, _, name = variable.name.rpartition(".")
        holder = module.get_submodule(owner)
        value = variable.tensor.detach()
        for number, axis in parameter.axes.items():
            value = value.index_select(number, torch.from_numpy(np.flatnonzero(alive[axis.labels])))
        value = value.clone(memory_format=torch.contiguous_format)
        if isinstance(getattr(holder, name), nn.Parameter):
            setattr(holder, name, nn.Parameter(value))
        else:
            setattr(holder, name, value)
    if isinstance(module, nn.RNNBase):
        module.flatten_parameters()


def _write_sizes(module: nn.Module, bound: Bound, alive: Alive) -> None:
    for path, units in bound.sizes.items():
        name, *places = path
        if places:
            sizes = list(getattr(module, str(name)))
            sizes[int(places[0])] = _count(units, alive)
            setattr(module, str(name), tuple(sizes))
        else:
            setattr(module, str(name), _count(units, alive))


def _check(module: nn.Module, bound: Bound, alive: Alive) -> None:
    values = dict([*module.named_parameters(), *module.named_buffers()])
    for parameter in bound.parameters:
        name = parameter.variable.name
        expected = _left(parameter, alive)
        if tuple(values[name].shape) != expected:
            found = tuple(values[name].shape)
            raise RuntimeError(f"{bound.name}.{name} has the shape {found} after the cut, not {expected}")


def _left(parameter: Parameter, alive: Alive) -> tuple[int, ...]:
    return tuple(
        _count(parameter.axes[number].labels, alive) if number in parameter.axes else size
        for number, size in enumerate(parameter.variable.shape)
    )


def _count(units: Units, alive: Alive) -> int:
    return int(np.count_nonzero(alive[units]))


def _write_arguments(node: fx.Node, bound: Bound, alive: Alive) -> None:
    """The sizes that were written into the graph; those it computes as it runs are right by themselves."""
    for path, units in bound.sizes.items():
        where, *places = path
        size = _count(units, alive)
        if where == "args":
            node.args = _written(node.args, places, size)
        else:
            node.kwargs = _written(node.kwargs, places, size)


def _written(container: Any, places: Sequence[str | int], size: int) -> Any:
    if not places:
        return container if isinstance(container, fx.Node) else size
    first, *rest = places
    if isinstance(container, dict):
        return {**container, first: _written(container[first], rest, size)}
    parts = list(container)
    parts[int(first)] = _written(parts[int(first)], rest, size)
    return tuple(parts) if isinstance(container, tuple) else parts
