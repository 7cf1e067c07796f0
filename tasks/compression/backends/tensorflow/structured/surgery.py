"""Removing units: the network rebuilt from its config with smaller layers and the rows that are left.

The result is an ordinary model of the same class, layer names, connections, trainable flags and dtypes.
"""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.backends.tensorflow.structured.graph import is_network, kind, sublayers
from tasks.compression.errors import CompressionError
from tasks.compression.structured.flows import Path
from tasks.compression.structured.groups import Alive, Bound, Dependencies, Parameter

__all__ = ["forget_shapes", "recompile", "refusing", "remove"]


def remove(graph: Dependencies, alive: Alive) -> Any:
    """A new model with only the units in `alive`; the old one stays as it is.

    Channel i of a layer becomes the i-th that is left. The new model is not compiled. CompressionError
    unsupported_model for models that cannot be rebuilt from their config.
    """
    bound = {id(layer.layer): layer for layer in graph.layers}
    with refusing():
        config = graph.model.get_config()
    _shrink(graph.model, config, bound, alive)
    with refusing():
        pruned = _rebuild(graph.model, config, bound)
    for old, new in _pairs(graph.model, pruned):
        _copy_weights(old, new, bound[id(old)], alive)
    if pruned.count_params() != graph.parameters(alive):
        raise RuntimeError(
            f"{pruned.count_params()} parameters are left instead of {graph.parameters(alive)}"
        )
    return pruned


def recompile(old: Any, new: Any) -> bool:
    """Compile `new` as `old` is, if it is, with a fresh optimiser state; whether that could be done."""
    config = old.get_compile_config()
    if config is None:
        return True
    try:
        new.compile_from_config(config)
    except (TypeError, ValueError, KeyError, NotImplementedError):
        return False  # A loss or metric of the caller's own, not registered with Keras.
    return True


def _shrink(model: Any, config: dict[str, Any], bound: Mapping[int, Bound], alive: Alive) -> None:
    """Write the new sizes into the config of a model, nested models included."""
    for layer, entry in zip(sublayers(model), config["layers"], strict=True):
        forget_shapes(entry)
        if is_network(layer):
            _shrink(layer, entry["config"], bound, alive)
        elif (found := bound.get(id(layer))) is not None:
            for path, units in found.sizes.items():
                _write(entry["config"], path, int(np.count_nonzero(alive[units])))
            if kind(layer) != "InputLayer":
                entry["config"].pop("batch_input_shape", None)  # The input layer says it.


def forget_shapes(config: Any) -> None:
    """Keras would build layers with the shapes recorded here before it sees their inputs."""
    if isinstance(config, dict):
        if "class_name" in config:
            config.pop("build_config", None)
            config.pop("compile_config", None)
        for value in config.values():
            forget_shapes(value)
    elif isinstance(config, list | tuple):
        for value in config:
            forget_shapes(value)


def _write(config: Any, path: Path, value: int) -> None:
    *way, last = path
    for part in way:
        container = config[part]
        if isinstance(container, tuple):
            container = config[part] = list(container)
        config = container
    config[last] = value


def _rebuild(model: Any, config: dict[str, Any], bound: Mapping[int, Bound]) -> Any:
    from tasks.compression.backends.tensorflow._framework import keras

    custom = {type(layer.layer).__name__: type(layer.layer) for layer in bound.values()}
    with keras.utils.custom_object_scope(custom):
        return type(model).from_config(copy.deepcopy(config))


@contextmanager
def refusing() -> Iterator[None]:
    """CompressionError unsupported_model for what Keras raises, over many lines, in rebuilding a model."""
    try:
        yield
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        why = textwrap.shorten(str(error), 200)
        raise CompressionError(
            "unsupported_model", f"the model cannot be rebuilt from its own config: {why}"
        ) from error


def _pairs(old: Any, new: Any) -> Iterator[tuple[Any, Any]]:
    """Every layer with weights and the one of the same name in the other model."""
    counterparts = {layer.name: layer for layer in sublayers(new)}
    for layer in sublayers(old):
        counterpart = counterparts.get(layer.name)
        if is_network(layer):
            yield from _pairs(layer, counterpart)
        elif layer.weights:
            yield layer, counterpart


def _copy_weights(old: Any, new: Any, bound: Bound, alive: Alive) -> None:
    new.set_weights([_cut(parameter, alive) for parameter in bound.parameters])
    if hasattr(new, "finalize_state"):  # Normalization computes from its weights what it uses.
        new.finalize_state()


def _cut(parameter: Parameter, alive: Alive) -> npt.NDArray[Any]:
    value = np.asarray(parameter.variable)
    for number, axis in parameter.axes.items():
        value = np.compress(alive[axis.labels], value, axis=number)
    return value
