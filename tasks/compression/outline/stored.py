"""Finds the stored weights of every layer, in the ways that Keras 2 and 3 lay them down.

``.keras``       layers/<class in snake case>_<count>/vars/<number>, of each model on its own
``.h5``          model_weights/<name of the outermost layer or model>, whose attribute lists the weights
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.compression.outline.architecture import Container, Described
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.facts import Weight
from tasks.compression.outline.hdf5 import datasets, member, names, weight

__all__ = ["from_archive", "from_legacy", "weight_names"]

_CELL = ("kernel", "recurrent_kernel", "bias")
_NAMES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(["Dense", "EinsumDense"], ("kernel", "bias")),
    **dict.fromkeys([f"Conv{n}D" for n in (1, 2, 3)], ("kernel", "bias")),
    **dict.fromkeys([f"Conv{n}DTranspose" for n in (1, 2, 3)], ("kernel", "bias")),
    **dict.fromkeys([f"LocallyConnected{n}D" for n in (1, 2)], ("kernel", "bias")),
    **dict.fromkeys(["DepthwiseConv1D", "DepthwiseConv2D"], ("depthwise_kernel", "bias")),
    **dict.fromkeys(["SeparableConv1D", "SeparableConv2D"], ("depthwise_kernel", "pointwise_kernel", "bias")),
    "Embedding": ("embeddings",),
    "PReLU": ("alpha",),
    **dict.fromkeys(["LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"], _CELL),
}
_NORMALISED = {
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "SyncBatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "LayerNormalization": ("gamma", "beta"),
    "GroupNormalization": ("gamma", "beta"),
}

Found = dict[str, tuple[Weight, ...]]


def weight_names(kind: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a layer's own weights in Keras's order; empty for kinds whose names are not known."""
    if kind in _NORMALISED:
        left_out = {
            name for name, flag in (("gamma", "scale"), ("beta", "center")) if config.get(flag) is False
        }
        return tuple(name for name in _NORMALISED[kind] if name not in left_out)
    if kind in ("Bidirectional", "TimeDistributed"):
        return _wrapped_names(kind, config)
    found = _NAMES.get(kind, ())
    return tuple(name for name in found if name != "bias" or config.get("use_bias", True))


def from_archive(file: Any, top: Container, bounds: Bounds) -> Found:
    """Of a ``model.weights.h5``."""
    root = {path: data for path, data in datasets(file, bounds).items() if not path.startswith("optimizer/")}
    found: Found = {}
    _collect(root, _outermost(root), top, found)
    return found


def _outermost(root: Mapping[str, Any]) -> str:
    """Where the layers are; older writers have another name for the folder."""
    for name in ("layers/", "_layer_checkpoint_dependencies/"):
        if any(path.startswith(name) for path in root):
            return name
    return "layers/"


def _collect(root: Mapping[str, Any], folder: str, model: Container, found: Found) -> None:
    counts: dict[str, int] = {}
    for _, item in model.members:
        snake = _snake(item.kind)
        counts[snake] = counts.get(snake, -1) + 1
        place = f"{folder}{snake}_{counts[snake]}/" if counts[snake] else f"{folder}{snake}/"
        if isinstance(item, Container):
            _collect(root, f"{place}layers/", item, found)
            continue
        listed = sorted(
            ((path.removeprefix(place), data) for path, data in root.items() if path.startswith(place)),
            key=lambda pair: _order(pair[0]),
        )
        found.setdefault(item.path, _named(item, [(path, data) for path, data in listed]))


def _order(path: str) -> tuple[Any, ...]:
    """Own variables before those of parts, a forward layer before a backward one, numbers as numbers."""
    parts = path.split("/")
    return tuple(
        (0, int(part)) if part.isdigit() else (1, 0 if part == "forward_layer" else 1, part)
        for part in parts
        if part != "vars"
    )


def _named(layer: Described, stored: Sequence[tuple[str, Any]]) -> tuple[Weight, ...]:
    """With Keras's names where the count is as expected, else with the names in the file."""
    wanted = weight_names(layer.kind, layer.config)
    if len(wanted) != len(stored):
        return tuple(weight(path, data) for path, data in stored)
    return tuple(weight(name, data) for name, (_, data) in zip(wanted, stored, strict=True))


def from_legacy(file: Any, top: Container, bounds: Bounds) -> Found:
    """Of a whole model's ``.h5``."""
    group = member(file, "model_weights")
    group = file if group is None else group
    known = datasets(group, bounds)
    found: Found = {}
    for _, item in top.members:
        below = member(group, item.name)
        if below is None:
            continue
        listed = [
            (name, known[f"{item.name}/{name}"])
            for name in names(below, "weight_names")
            if f"{item.name}/{name}" in known
        ]
        if isinstance(item, Described):
            found.setdefault(item.path, _named(item, listed))
        else:
            _shared_out(item, listed, found)
    return found


def _shared_out(model: Container, listed: Sequence[tuple[str, Any]], found: Found) -> None:
    """A nested model's weights, which stand together: by the layer named in each, or in order."""
    inside = {layer.name: layer for layer in _layers(model)}
    of: dict[str, list[tuple[str, Any]]] = {}
    for name, data in listed:
        owner = next((part for part in name.split("/") if part in inside), None)
        if owner is not None:
            of.setdefault(owner, []).append((name, data))
    for owner, stored in of.items():
        found.setdefault(inside[owner].path, _named(inside[owner], stored))


def _layers(model: Container) -> Iterator[Described]:
    for _, item in model.members:
        if isinstance(item, Container):
            yield from _layers(item)
        else:
            yield item


def _wrapped_names(kind: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    inner = config.get("layer")
    if not isinstance(inner, Mapping):
        return ()
    found = weight_names(str(inner.get("class_name")), inner.get("config") or {})
    if kind == "TimeDistributed":
        return found
    back = config.get("backward_layer")
    behind = weight_names(str(back.get("class_name")), back.get("config") or {}) if back else found
    return (*(f"forward/{name}" for name in found), *(f"backward/{name}" for name in behind))


def _snake(name: str) -> str:
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
