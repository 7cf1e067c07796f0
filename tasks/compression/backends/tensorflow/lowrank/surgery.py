"""The network with layers replaced by their factors: rebuilt from its config, all else as it was.

The last of a layer's parts keeps its name, so that connections, the names of outputs and the patterns of
later steps mean the same tensor as before; the others are named after it, ``_in`` and ``_core``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.backends.tensorflow.lowrank.targets import Target
from tasks.compression.backends.tensorflow.structured.graph import is_network, kind, sublayers
from tasks.compression.backends.tensorflow.structured.surgery import forget_shapes, refusing
from tasks.compression.lowrank.factors import svd, tucker
from tasks.compression.lowrank.parts import Kernel, free_name, pointwise, relative_error, stored
from tasks.compression.lowrank.ranks import Ranks

__all__ = ["Part", "Replacement", "factored", "replaced"]

_PENALTIES = ("kernel_regularizer", "kernel_constraint")
_AFTER_SUM = ("bias_regularizer", "bias_constraint", "activity_regularizer")


@dataclass(frozen=True)
class Part:
    """One of the layers in a layer's place: `suffix` is that of its name, `options` what its config has
    otherwise than the original's."""

    suffix: str
    kernel: Kernel
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Replacement:
    """`names` are those the new layers have in their model, the original's last."""

    target: Target
    parts: tuple[Part, ...]
    names: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        prefix = self.target.path[: -len(self.target.layer.name)]
        return [f"{prefix}{name}" for name in self.names]

    @property
    def error(self) -> float:
        """As lowrank.parts.relative_error."""
        return relative_error(self.target.kernel, [part.kernel for part in self.parts])


def factored(target: Target, ranks: Ranks) -> Replacement:
    """The parts for `target` at `ranks`, bias and activation with the last."""
    kernel, layer = target.kernel, target.inner
    if kind(layer) == "Dense":
        first, last = svd(kernel, ranks.inputs)
        parts = [_inner("_in", first, units=ranks.inputs), Part("", stored(last))]
    elif target.size.is_matrix:
        matrix = kernel.reshape(kernel.shape[-2:])
        first, last = svd(matrix, ranks.inputs)
        # The strides go with the first, so that the second computes no more places than are needed.
        parts = [
            _inner("_in", pointwise(first, kernel), filters=ranks.inputs),
            Part("", pointwise(last, kernel), _one_by_one(layer)),
        ]
    else:
        parts = _tucker_parts(kernel, layer, ranks)
    return Replacement(target, tuple(parts))


def replaced(model: Any, replacements: Sequence[Replacement]) -> Any:
    """A new model, uncompiled, that computes with the parts; the old one stays as it is. A layer called
    several times has its parts called as often. Fills in the replacements' `names`.

    CompressionError unsupported_model for models that cannot be rebuilt from their config.
    """
    found = {id(one.target.layer): one for one in replacements}
    with refusing():
        config = copy.deepcopy(model.get_config())
    _rewire(model, config, found)
    with refusing():
        made = type(model).from_config(config)
    _copy_weights(model, made, found)
    return made


def _tucker_parts(kernel: Kernel, layer: Any, ranks: Ranks) -> list[Part]:
    """Two or three: an axis that keeps its full rank needs no part of its own."""
    left, core, right = tucker(kernel, ranks.inputs, ranks.outputs)
    parts = []
    if ranks.inputs < kernel.shape[-2]:
        options = {**_one_by_one(layer), "filters": ranks.inputs}
        parts.append(_inner("_in", pointwise(left, kernel), **options))
    if ranks.outputs == kernel.shape[-1]:
        return [*parts, Part("", stored(core))]
    parts.append(_inner("_core", core, filters=ranks.outputs))
    return [*parts, Part("", pointwise(right.T, kernel), _one_by_one(layer))]


def _inner(suffix: str, kernel: npt.NDArray[Any], **options: Any) -> Part:
    """A part before the last: linear."""
    linear = {"activation": "linear", "use_bias": False, **dict.fromkeys(_AFTER_SUM)}
    return Part(suffix, stored(kernel), {**linear, **options})


def _one_by_one(layer: Any) -> dict[str, Any]:
    ones = [1] * layer.rank
    return {"kernel_size": ones, "strides": ones, "dilation_rate": ones, "padding": "valid"}


def _rewire(model: Any, config: dict[str, Any], found: Mapping[int, Replacement]) -> None:
    """Put the parts' entries in the place of the layers', nested models included."""
    names = {layer.name for layer in sublayers(model)}
    entries = []
    for layer, entry in zip(sublayers(model), config["layers"], strict=True):
        forget_shapes(entry)
        if is_network(layer):
            _rewire(layer, entry["config"], found)
        if (replacement := found.get(id(layer))) is None:
            entries.append(entry)
        else:
            entries += _entries(entry, replacement, names)
    config["layers"] = entries


def _entries(entry: dict[str, Any], replacement: Replacement, names: set[str]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    replacement.names.clear()
    for part in replacement.parts:
        one = _entry(entry, part)
        if part.suffix:
            _rename(one, free_name(f"{replacement.target.layer.name}{part.suffix}", names))
        if made and "inbound_nodes" in one:
            before = replacement.names[-1]
            one["inbound_nodes"] = [[[before, call, 0, {}]] for call in range(len(one["inbound_nodes"]))]
        replacement.names.append(one["config"]["name"])
        made.append(one)
    return made


def _entry(entry: dict[str, Any], part: Part) -> dict[str, Any]:
    made = copy.deepcopy(entry)
    made["config"].pop("batch_input_shape", None)  # The input layer says it.
    inner = made["config"]["layer"]["config"] if "layer" in made["config"] else made["config"]
    if inner is not made["config"]:
        inner["name"] += part.suffix
    # The original's may be for its own shape alone; values are set below.
    inner.update(dict.fromkeys(_PENALTIES), kernel_initializer="glorot_uniform", **part.options)
    return made


def _rename(entry: dict[str, Any], name: str) -> None:
    entry["config"]["name"] = name
    if "name" in entry:
        entry["name"] = name


def _copy_weights(old: Any, new: Any, found: Mapping[int, Replacement]) -> None:
    counterparts = {layer.name: layer for layer in sublayers(new)}
    for layer in sublayers(old):
        replacement = found.get(id(layer))
        if replacement is not None:
            _set_parts([counterparts[name] for name in replacement.names], replacement)
        elif is_network(layer):
            _copy_weights(layer, counterparts[layer.name], found)
        elif layer.weights:
            counterparts[layer.name].set_weights(layer.get_weights())
            if hasattr(layer, "finalize_state"):  # Normalization computes from its weights what it uses.
                counterparts[layer.name].finalize_state()


def _set_parts(layers: Sequence[Any], replacement: Replacement) -> None:
    for layer, part in zip(layers, replacement.parts, strict=True):
        bias = [] if part.suffix or not replacement.target.inner.use_bias else [replacement.target.inner.bias]
        layer.set_weights([part.kernel, *map(np.asarray, bias)])
