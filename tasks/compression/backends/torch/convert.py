"""Writes float ``.tflite`` files, by litert-torch."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np

from tasks.compression.backends.torch._framework import fx, litert_torch
from tasks.compression.backends.torch.converting import examples, with_layers_told
from tasks.compression.backends.torch.layers import copied, placed_layers, weights
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.open_batch import opened
from tasks.compression.backends.torch.refusals import refusal
from tasks.compression.quantizing.tracing import Traced
from tasks.compression.samples import Array, signature_names
from tasks.compression.silence import quiet
from tasks.compression.tflite import Operation, is_empty, operations, read, written

__all__ = ["to_tflite", "trace"]

KEPT = 3
"""Files are made once for the several times that a job needs them: measured, quantised and delivered. Those
asked for last are kept."""

_LABEL = re.compile(r"\d+/(.+?)(?:/weights\d*)?")
_made: dict[str, bytes] = {}


def to_tflite(network: Network) -> bytes:
    """The model in evaluation as a float ``.tflite``: inputs in the model's own layout, in- and outputs by
    the names of the signature, every operation by a number and the layer it came from (see `trace`).

    The batch is left open where LiteRT can run it so. CompressionError conversion_failed, with the layer
    where it is known, for models that litert-torch cannot take.
    """
    key = _fingerprint(network)
    content = _made.pop(key, None) or _converted(network)
    _made[key] = content
    while len(_made) > KEPT:
        del _made[next(iter(_made))]
    return content


def trace(network: Network, content: bytes) -> list[Traced]:
    """The operations of a file that `to_tflite` made of the network, with their layers."""
    paths = {place.path for place in placed_layers(network.model)}
    return [Traced(operation, _layer_told(operation, paths)) for operation in operations(content)]


def _layer_told(operation: Operation, paths: set[str]) -> str | None:
    """Outputs first: operations may share their weights. Those of the last have the signature's names."""
    labels = map(_labelled, (*operation.outputs, *operation.names))
    return next((path for path in labels if path in paths), None)


def _converted(network: Network) -> bytes:
    given = examples(network.signature)
    model, numbers = _numbered(network.model)
    module = litert_torch()
    module.progress.config.show_progress = False
    try:
        with quiet():
            content = bytes(module.convert(model, given).model_content())
    # litert-torch, JAX and the converter raise classes of their own, RuntimeError, TypeError and more.
    except Exception as error:
        raise refusal("litert-torch refused the model", network, error, ("tflite", "c_array")) from error
    return opened(_named(content, network, numbers))


def _numbered(model: fx.GraphModule) -> tuple[fx.GraphModule, re.Pattern[str]]:
    """A copy in evaluation whose layers are called by a number each, in order, and what finds the number in
    the converter's names: it keeps the last part of a layer's path alone, which others may have too."""
    found = copied(model).eval()
    prefix = "layer"
    while any(prefix in name for name, _ in found.named_modules()):
        prefix += "_"
    places = list(placed_layers(found))
    numbers = {id(place.layer): number for number, place in enumerate(places)}
    calls = [node for node in found.graph.nodes if node.op == "call_module"]
    targets = [f"{prefix}{numbers[id(found.get_submodule(node.target))]}" for node in calls]
    for number, place in enumerate(places):
        found.add_submodule(f"{prefix}{number}", place.layer)
    for node, target in zip(calls, targets, strict=True):
        node.target = target
    found.delete_all_unused_submodules()
    found.recompile()
    return with_layers_told(found), re.compile(rf"_{prefix}(\d+)(?=[/;]|$)")


def _named(content: bytes, network: Network, numbers: re.Pattern[str]) -> bytes:
    """The same program with the signature's names, and names for the outputs and weights of operations that
    say their number and layer."""
    model = read(content)
    graph = model.subgraphs[0]
    layers = _Layers(network.model, numbers)
    labels = [layers.of(model, graph, item) for item in operations(content)]
    for number, (item, label) in enumerate(zip(graph.operators, labels, strict=True)):
        for place, index in enumerate(item.outputs):
            graph.tensors[index].name = f"{number}/{label}" if place == 0 else f"{number}/{label}:{place}"
        for place, index in enumerate(int(index) for index in item.inputs if index >= 0):
            tensor = graph.tensors[index]
            if not is_empty(model.buffers[tensor.buffer]):
                tensor.name = f"{number}/{label}/weights{place}"
    (told,) = model.signatureDefs
    signature = network.signature
    for entries, names in ((told.inputs, signature.input_names), (told.outputs, signature.output_names)):
        plain = signature_names(names)
        for entry in entries:
            # args_0, output_0 and so on, in any order.
            entry.name = plain[int(entry.name.decode().rpartition("_")[2])]
            graph.tensors[entry.tensorIndex].name = entry.name
    return written(model, len(content))


class _Layers:
    """Which layer an operation came from: the one that has its weights, in any order; or else, where those
    were changed or several layers have them, the one that the converter's names tell."""

    def __init__(self, model: fx.GraphModule, numbers: re.Pattern[str]) -> None:
        self._numbers = numbers
        self._paths: list[str] = []
        self._owners: dict[str, set[str]] = {}
        self._heavy: set[str] = set()
        for place in placed_layers(model):
            self._paths.append(place.path)
            for value in (value for value in weights(place.layer) if value.dim() > 1):
                self._heavy.add(place.path)
                self._owners.setdefault(_content(value.detach().numpy()), set()).add(place.path)

    def of(self, model: Any, graph: Any, item: Operation) -> str:
        """The path, or the operation's kind for one that is not known."""
        told = [self._paths[int(number)] for name in item.names for number in self._numbers.findall(name)]
        owners = self._owners_of(model, graph, item)
        if len(owners) == 1:
            return owners.pop()
        # A convolution that took a normalisation in is the convolution's.
        likely = [path for path in told if path in (owners or self._heavy)]
        return next(iter([*likely, *told, item.kind]))

    def _owners_of(self, model: Any, graph: Any, item: Operation) -> set[str]:
        if item.weights is None or item.weights.dtype != "float32":
            return set()
        shapes = {item.weights.shape}
        for tensor in graph.tensors:
            held = model.buffers[tensor.buffer]
            if _name(tensor) == item.weights.name and tuple(tensor.shape) in shapes and not is_empty(held):
                values = np.asarray(held.data, dtype=np.uint8).view(np.float32)
                if owners := self._owners.get(_content(values)):
                    return set(owners)
        return set()


def _name(tensor: Any) -> str:
    return (tensor.name or b"").decode("utf-8", "replace")


def _content(values: Array) -> str:
    """Equal for the same values in another order or shape."""
    return hashlib.sha256(np.sort(values, axis=None).tobytes()).hexdigest()


def _labelled(name: str) -> str:
    match = _LABEL.fullmatch(name)
    return match[1] if match else ""


def _fingerprint(network: Network) -> str:
    """Of all that the conversion depends on."""
    digest = hashlib.sha256(repr((network.signature, network.model.code)).encode())
    for name, module in network.model.named_modules():
        plain = {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, _PLAIN) and key != "training"
        }
        digest.update(repr((name, type(module).__qualname__, sorted(plain.items(), key=str))).encode())
    for name, value in network.model.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


_PLAIN = (bool, int, float, str, tuple)
