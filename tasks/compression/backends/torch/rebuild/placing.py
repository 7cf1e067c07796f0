"""Puts layers under the names they have in the caller's model, each once however often it is called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasks.compression.backends.torch._framework import fx, nn, torch
from tasks.compression.backends.torch.rebuild.held import Held
from tasks.compression.backends.torch.rebuild.making import Made
from tasks.compression.exported.modules import wishes

__all__ = ["Places", "module_called"]

_LIBRARY = "torch.nn.modules."


def module_called(node: fx.Node) -> tuple[str, str]:
    """The path and the class of the innermost module that the call was made in."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path, kind = stack[-1] if stack else ("", "")
    return str(path).partition("@")[0], str(kind)


class Places:
    """Where layers are in the network that is made. `root` has them, and parameters that functions use."""

    def __init__(self, calls: Iterable[fx.Node], held: Iterable[Held]) -> None:
        self.root = nn.Module()
        self._taken: dict[str, Any] = {}
        self._parameters: dict[str, torch.Tensor] = {}
        named = {module_called(node)[0] for node in calls if _is_layer(node)}
        self._held = {each.name: each for each in held}
        self._reserved = named | self._held.keys()

    def put(self, node: fx.Node, made: Made) -> str:
        """The path of the layer: that of the one put before, where it is the same with the same tensors."""
        tensors = tuple(each.name for each in made.tensors.values())
        identity = (type(made.layer), made.layer.extra_repr(), tensors)
        # What is no module of the caller's, as functional.relu, is a layer for each of its calls.
        shared = bool(tensors) or _called(node, made) is not None
        for path in self._wishes(node, made):
            if path not in self._taken:
                self._taken[path] = identity
                self._install(path, made)
                return path
            if shared and self._taken[path] == identity:
                return path
        raise AssertionError("there is always a next number")

    def hold(self, held: Held) -> str:
        """The path of a parameter or buffer that a function is given."""
        above, _, name = held.name.rpartition(".")
        owner = _submodule(self.root, above)
        if getattr(owner, name, None) is not self._parameter(held):
            _fill(owner, name, self._parameter(held))
        return held.name

    def _wishes(self, node: fx.Node, made: Made) -> Iterable[str]:
        """Names for the layer, the best first."""
        where, called = module_called(node)[0], _called(node, made)
        stem = next((_stem(name, held) for name, held in made.tensors.items()), None)
        plain = str(node.target).split(".")[1].strip("_") if "." in str(node.target) else node.name
        return wishes(called or stem, where, plain, self._reserved)

    def _install(self, path: str, made: Made) -> None:
        layer = made.layer
        for name, held in made.tensors.items():
            _fill(layer, name, self._parameter(held))
        for name, value in [*layer.named_buffers(recurse=False)]:
            if value.is_meta:  # how many batches there were, which no operator is given
                known = self._held.get(f"{path}.{name}")
                counted = torch.zeros(value.shape, dtype=value.dtype) if known is None else known.tensor
                layer.register_buffer(name, counted)
        above, _, name = path.rpartition(".")
        owner = _submodule(self.root, above)
        before = owner._modules.get(name)
        if before is not None:
            _move(before, layer)
        owner.add_module(name, layer)

    def _parameter(self, held: Held) -> torch.Tensor:
        """One tensor for every name, so that layers that share it go on sharing it."""
        return self._parameters.setdefault(held.name, held.tensor)


def _called(node: fx.Node, made: Made) -> str | None:
    """The path of the module that was called, where it is of the layer's class."""
    path, kind = module_called(node)
    return path if _is_layer(node) and kind.rpartition(".")[2] == type(made.layer).__name__ else None


def _is_layer(node: fx.Node) -> bool:
    return node.op == "call_function" and module_called(node)[1].startswith(_LIBRARY)


def _stem(name: str, held: Held) -> str:
    """What is before the parameter's own name: "a.conv" of "a.conv.weight", "a.in_proj" of
    "a.in_proj_weight"; the whole name where it ends otherwise."""
    for separator in (".", "_"):
        if held.name.endswith(separator + name):
            return held.name[: -len(name) - 1]
    return "" if held.name == name else held.name


def _submodule(root: nn.Module, path: str) -> nn.Module:
    """The module at the path, made where there is none."""
    found = root
    for name in path.split(".") if path else ():
        inner = found._modules.get(name)
        if inner is None:
            inner = nn.Module()
            found.add_module(name, inner)
        found = inner
    return found


def _move(before: nn.Module, layer: nn.Module) -> None:
    """What was put below the layer's name earlier than the layer itself."""
    for name, module in before.named_children():
        layer.add_module(name, module)
    for name, value in [*before.named_parameters(recurse=False), *before.named_buffers(recurse=False)]:
        if not hasattr(layer, name):
            _fill(layer, name, value)


def _fill(layer: nn.Module, name: str, value: torch.Tensor) -> None:
    if isinstance(value, nn.Parameter):
        layer.register_parameter(name, value)
        if isinstance(layer, nn.RNNBase):
            setattr(layer, name, value)
    else:
        layer.register_buffer(name, value)
