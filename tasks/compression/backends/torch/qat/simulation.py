"""The network with its rounding in it: what LiteRT computes as one operation is rounded once, at its end."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Set
from contextlib import contextmanager

from tasks.compression.backends.torch._framework import fx, nn, torch
from tasks.compression.backends.torch.layers import copied
from tasks.compression.backends.torch.network import Network, Signature
from tasks.compression.backends.torch.predict import predict
from tasks.compression.backends.torch.qat.request import MATRICES, MOVED, NORMS, RECTIFIERS, next_alone
from tasks.compression.backends.torch.qat.roundings import RoundedActivation, RoundedWeight
from tasks.compression.samples import Tensors

__all__ = ["calibrate", "rounded_weights", "simulated"]

BATCH = 32

_FUNCTIONS_MOVED = frozenset(
    [
        "alias",
        "chunk",
        "clone",
        "contiguous",
        "detach",
        "dropout",
        "expand",
        "flatten",
        "getitem",
        "identity",
        "max_pool1d",
        "max_pool2d",
        "movedim",
        "narrow",
        "permute",
        "reshape",
        "select",
        "size",
        "slice",
        "split",
        "squeeze",
        "sym_size",
        "t",
        "transpose",
        "unflatten",
        "unsqueeze",
        "view",
    ]
)


def simulated(network: Network, quantized: Set[str], weight_bits: int) -> fx.GraphModule:
    """A network that shares its layers with `network.model`, and rounds those at the paths `quantized`, what
    functions compute, and what goes in."""
    model = network.model
    graph = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    modules: dict[str, nn.Module] = dict(model.named_modules())
    outputs = graph.graph_copy(model.graph, values)
    graph.output(outputs)
    matrices = {path for path in quantized if isinstance(modules[path], MATRICES)}
    for path in matrices:
        modules[path] = RoundedWeight(modules[path], weight_bits)
    place = _Places(model, quantized)
    for number, node in enumerate(filter(place.rounded, model.graph.nodes)):
        copy, name = values[node], f"rounded_{number}"
        modules[name] = RoundedActivation()
        with graph.inserting_after(copy):
            end = graph.call_module(name, (copy,))
        copy.replace_all_uses_with(end, delete_user_cb=lambda user, end=end: user is not end)
    found = fx.GraphModule(modules, graph)
    found.train(model.training)
    return found


def calibrate(
    simulation: fx.GraphModule, signature: Signature, samples: Tensors, *, widest: bool = False
) -> None:
    """Give every activation the range it has on `samples` with weights rounded and activations not: averaged
    over batches as training goes on to do, or the widest of all."""
    with _measuring(simulation, widest=widest):
        for start in range(0, len(samples), BATCH):
            predict(simulation, signature, samples[start : start + BATCH])


def rounded_weights(network: Network, simulation: fx.GraphModule) -> fx.GraphModule:
    """A copy of the network's model whose weights are rounded as `simulation` rounds them."""
    model = copied(network.model)
    with torch.no_grad():
        for path, module in simulation.named_modules():
            if isinstance(module, RoundedWeight):
                model.get_submodule(path).weight.copy_(module.weight())
    return model


@contextmanager
def _measuring(simulation: fx.GraphModule, *, widest: bool) -> Iterator[None]:
    found = [module for module in simulation.modules() if isinstance(module, RoundedActivation)]
    for module in found:
        module.measuring = True
    try:
        yield
    finally:
        for module in found:
            module.settle(widest=widest)


class _Places:
    """After which nodes of a model's graph values are rounded."""

    def __init__(self, model: fx.GraphModule, quantized: Set[str]) -> None:
        self._model = model
        self._quantized = quantized

    def rounded(self, node: fx.Node) -> bool:
        """Whether what `node` computes is in integers in the file, or given to what computes in those."""
        if node.op in ("get_attr", "output") or self._moves(node) or self._goes_on(node):
            return False
        if node.op == "call_module" and str(node.target) not in self._quantized:
            return any(self._takes_integers(user) for user in node.users)
        return True

    def _layer(self, node: fx.Node) -> nn.Module | None:
        return self._model.get_submodule(node.target) if node.op == "call_module" else None

    def _moves(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self._layer(node), MOVED)
        return _called(node) in _FUNCTIONS_MOVED

    def _goes_on(self, node: fx.Node) -> bool:
        """Whether the next node is computed as one with this one."""
        after = next_alone(node)
        if after is None:
            return False
        layer, following = self._layer(node), self._layer(after)
        chosen = after.op != "call_module" or str(after.target) in self._quantized
        if isinstance(following, NORMS):
            return chosen and isinstance(layer, MATRICES)
        if not (
            isinstance(following, RECTIFIERS) or (following is None and _called(after) in ("relu", "relu6"))
        ):
            return False
        fused = isinstance(layer, (*MATRICES, *NORMS)) or _called(node) in ("add", "iadd")
        return chosen and fused

    def _takes_integers(self, node: fx.Node) -> bool:
        """A rounded layer or a function, behind whatever moves values."""
        if node.op == "output":
            return False
        if self._moves(node):
            return any(self._takes_integers(user) for user in node.users)
        return node.op != "call_module" or str(node.target) in self._quantized


def _called(node: fx.Node) -> str:
    """The plain name of what a node calls: that of an operator without its overload."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    if node.op != "call_function":
        return ""
    if node.target is operator.getitem:
        return "getitem"
    packet = getattr(node.target, "overloadpacket", None)
    name = getattr(packet, "__name__", None) or getattr(node.target, "__name__", str(node.target))
    return str(name).strip("_")
