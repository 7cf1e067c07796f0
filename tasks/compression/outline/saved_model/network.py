"""The Keras network that a SavedModel was saved from, where its configuration is in the file.

Keras 2 writes keras_metadata.pb: for the model and each of its layers a JSON text; before TensorFlow 2.5 it
wrote them into the objects of saved_model.pb. Only the model's configuration is taken from it, by the same
list of classes as a ``.keras`` file's; functions in there, which Keras itself would run, are never looked at.
Keras 3 exports without any configuration.
"""

from __future__ import annotations

import json
from typing import Any

from tasks.compression.backends.tensorflow.config import KerasFile, refuse_foreign
from tasks.compression.backends.tensorflow.refusals import refuse_file
from tasks.compression.errors import CompressionError
from tasks.compression.outline.architecture import Architecture, Container, Described, architecture
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.facts import Weight
from tasks.compression.outline.saved_model.bundle import Bundle, Objects
from tasks.compression.outline.saved_model.wire import Malformed, messages, numbers, text
from tasks.compression.outline.stored import weight_names

__all__ = ["NoNetwork", "network_in", "weights_of"]

_NODES = 1
_NODE_ID, _IDENTIFIER, _METADATA = 2, 4, 5
_USER_OBJECT = 4
_OLDER_IDENTIFIER, _OLDER_METADATA = 1, 3
_MODELS = frozenset({"_tf_keras_sequential", "_tf_keras_network"})
_PLAIN_OPTIMIZER_VARIABLES = 2
_WRAPPED = {"__tuple__", "TensorShape"}  # lists that JSON has no words for


class NoNetwork(Exception):
    """The SavedModel holds no Keras network that can be built again; says why."""


def network_in(
    metadata: bytes | None, objects: memoryview, bundle: Bundle, bounds: Bounds
) -> tuple[KerasFile, Architecture]:
    """The network's configuration and how its layers are joined; `metadata` is keras_metadata.pb, `objects`
    the SavedObjectGraph, which is looked at without it. NoNetwork."""
    try:
        told = _of_the_model(objects) if metadata is None else _root(memoryview(metadata))
        if len(told) > bounds.json_bytes:
            raise NoNetwork("its Keras configuration is too large")
        root = _object(json.loads(told))
        config, training = _object(root.get("model_config")), _object(root.get("training_config"))
        built = architecture(config, bounds)
        moments = [key for key in bundle.entries if key.startswith("optimizer/")]
        file = KerasFile(
            config, training, str(root.get("keras_version", "2")), len(moments) > _PLAIN_OPTIMIZER_VARIABLES
        )
        refuse_foreign(config)
        refuse_file(file, has_inputs=built.has_inputs)
    except CompressionError as error:
        where = f", {error.layer}" if error.layer else ""
        raise NoNetwork(f"{error.detail}{where}") from error
    # Of JSON that is not what it should be about anything is raised.
    except (Malformed, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise NoNetwork("its Keras configuration cannot be read") from error
    return file, built


def weights_of(built: Architecture, bundle: Bundle) -> dict[str, tuple[Weight, ...]]:
    """Of each layer by its path, as the checkpoint has them. Malformed."""
    objects = bundle.objects()
    found: dict[str, tuple[Weight, ...]] = {}
    if objects is not None:
        _collect(built.top, 0, objects, bundle, found)
    return found


def _collect(
    model: Container, node: int, objects: Objects, bundle: Bundle, found: dict[str, tuple[Weight, ...]]
) -> None:
    """A model's layers are its children ``layer-0``, ``layer-1`` and so on, in the order of its
    configuration; the input of a sequential one is not among them."""
    members = [item for _, item in model.members]
    if model.kind == "Sequential" and members and members[0].kind == "InputLayer":
        members = members[1:]
    for number, item in enumerate(members):
        place = objects.child(node, f"layer-{number}")
        if place is None:
            continue
        if isinstance(item, Container):
            _collect(item, place, objects, bundle, found)
        else:
            found.setdefault(item.path, _weights(item, objects.variables(place), bundle))


def _weights(layer: Described, stored: list[tuple[str, str]], bundle: Bundle) -> tuple[Weight, ...]:
    """With Keras' names where the count is as expected, else with those in the file."""
    held = [(name, key) for name, key in stored if key in bundle.entries]
    wanted = weight_names(layer.kind, layer.config)
    names = wanted if len(wanted) == len(held) else [name for name, _ in held]
    return tuple(bundle.weight(name, key) for name, (_, key) in zip(names, held, strict=True))


def _root(metadata: memoryview) -> str:
    for node in messages(metadata, _NODES):
        number = list(numbers(node, _NODE_ID))
        if number and number[-1]:
            continue
        if text(node, _IDENTIFIER) not in _MODELS:
            raise NoNetwork("its network is a class of its own")
        return text(node, _METADATA)
    raise NoNetwork("its Keras configuration has no model")


def _of_the_model(objects: memoryview) -> str:
    """The JSON text that the first object of all has, as TensorFlow wrote it before 2.5."""
    root = next(messages(objects, _NODES), memoryview(b""))
    for kind in messages(root, _USER_OBJECT):
        told = text(kind, _OLDER_METADATA)
        if told and text(kind, _OLDER_IDENTIFIER) in _MODELS:
            return told
    raise NoNetwork("it holds no Keras configuration, as exports do not")


def _object(value: Any) -> dict[str, Any]:
    plain = _plain(value)
    if plain is None:
        return {}
    if not isinstance(plain, dict):
        raise ValueError("no configuration")
    return plain


def _plain(value: Any) -> Any:
    """With lists where Keras wrote tuples and shapes."""
    if isinstance(value, dict):
        if value.get("class_name") in _WRAPPED and isinstance(value.get("items"), list):
            return [_plain(item) for item in value["items"]]
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
