"""The walk through a Keras configuration (JSON, of Keras 2 or 3): every class, module and function in it must
be on a list, no text may name a file or an address, no number ask for more than a model has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.compression.errors import CompressionError
from tasks.sandbox.gate.names import CLASSES, CODE_LAYERS, FUNCTIONS, LOOKUPS, SIZES, TENSORFLOW_FUNCTIONS

__all__ = ["LARGEST", "check_config", "parse"]

LARGEST = 1 << 24
MAX_DEPTH = 64
MAX_NODES = 1_000_000

_MODELS = frozenset({"Functional", "Model", "Sequential"})
_MODULE = re.compile(
    r"(tf_)?keras(\.src)?(\.(activations|backend|constraints|dtype_policies|engine|initializers|layers|losses|metrics"
    r"|mixed_precision|models|ops|optimizers|random|regularizers)(\.[A-Za-z0-9_]+)*"
    r"|\.applications\.(convnext|inception_resnet_v2))?"
)
# Identities and seeds are numbers of any size, and size nothing.
_ANY_NUMBER = frozenset({"shared_object_id", "seed"})
# What loaders do not read: the compiled state is never restored.
_UNREAD = frozenset({"compile_config"})
_REFUSED_KEYS = frozenset({"filepath", "call_endpoint", "vocabulary_file", "vocabulary", "idf_weights"})
_WAY_OUT = "build the model from Keras' own layers; code and files beside the model are never loaded here"


def parse(text: str | bytes, name: str) -> dict[str, Any]:
    """A JSON object. CompressionError bad_config."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CompressionError(
            "bad_config", f"{name} is no JSON that can be read: {str(error)[:100]}", pointer=f"/{name}"
        ) from error
    if not isinstance(value, dict):
        raise CompressionError("bad_config", f"{name} is no configuration", pointer=f"/{name}")
    return value


def check_config(config: Mapping[str, Any], pointer: str) -> None:
    """Of a whole model. CompressionError layer_not_allowed, bad_config, model_too_large, with `pointer` and
    the place below it."""
    if config.get("class_name") not in _MODELS:
        raise _refused(f"{config.get('class_name')!r}", pointer, None)
    for place, key, value, layer in _walk(config, pointer):
        if isinstance(value, Mapping):
            _check_node(value, place, layer)
        elif isinstance(value, str):
            _check_text(value, place, layer)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            _check_number(key, value, place, layer)


def _walk(config: Any, pointer: str) -> Iterator[tuple[str, str, Any, str | None]]:
    """(pointer, key, value, the layer it stands in) of every value."""
    waiting: list[tuple[str, str, Any, str | None, int]] = [(pointer, "", config, None, 0)]
    seen = 0
    while waiting:
        place, key, value, layer, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_NODES:
            what = f"nested deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else f"of over {MAX_NODES} values"
            raise CompressionError("bad_config", f"the configuration is {what}", pointer=pointer)
        if isinstance(value, Mapping):
            layer = _name(value) or layer
            yield place, key, value, layer
            waiting += [
                (f"{place}/{_escaped(name)}", name, item, layer, depth + 1)
                for name, item in value.items()
                if name not in _UNREAD
            ]
        elif isinstance(value, list):
            waiting += [(f"{place}/{i}", key, item, layer, depth + 1) for i, item in enumerate(value)]
        else:
            yield place, key, value, layer


def _name(node: Mapping[str, Any]) -> str | None:
    inner = node.get("config")
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return name[:100] if isinstance(name, str) else None


def _escaped(name: str) -> str:
    return name[:100].replace("~", "~0").replace("/", "~1")


def _check_node(node: Mapping[str, Any], place: str, layer: str | None) -> None:
    for key in node.keys() & _REFUSED_KEYS:
        if node[key] not in (None, [], ""):
            raise _refused(f"a value for {key!r}", f"{place}/{key}", layer)
    module = node.get("module")
    if module is not None and "class_name" in node and module != "builtins" and not _is_keras(module):
        raise _refused(f"the module {str(module)[:100]!r}", f"{place}/module", layer)
    if "class_name" in node:
        _check_class(node, place, layer)


def _check_class(node: Mapping[str, Any], place: str, layer: str | None) -> None:
    name = node["class_name"]
    # Keras 2 writes its newer optimisers so.
    plain = name.removeprefix("Custom>") if isinstance(name, str) else ""
    if plain in CODE_LAYERS | LOOKUPS:
        raise _refused(f"a {plain} layer", place, layer)
    if plain == "function":
        if node.get("config") not in FUNCTIONS:
            raise _refused(f"the function {str(node.get('config'))[:100]!r}", place, layer)
    elif plain not in CLASSES:
        raise _refused(f"the class {str(name)[:100]!r}", place, layer)
    if plain in ("TFOpLambda", "SlicingOpLambda"):
        config = node.get("config")
        function = config.get("function") if isinstance(config, Mapping) else None
        if function not in TENSORFLOW_FUNCTIONS:
            raise _refused(f"the function tf.{str(function)[:100]}", place, layer)


def _check_text(text: str, place: str, layer: str | None) -> None:
    if text.startswith(("/", "\\", "~/")) or "://" in text or "\0" in text:
        raise CompressionError(
            "bad_config",
            "a value of the configuration names a file or an address",
            hint=_WAY_OUT,
            layer=layer,
            pointer=place,
        )


def _check_number(key: str, value: float, place: str, layer: str | None) -> None:
    sized = isinstance(value, int) or key in SIZES
    if key not in _ANY_NUMBER and sized and not -LARGEST <= value <= LARGEST:
        raise CompressionError(
            "model_too_large",
            f"{key[:60]!r} is {str(value)[:40]}; {LARGEST} is the limit",
            layer=layer,
            pointer=place,
        )


def _is_keras(module: Any) -> bool:
    return isinstance(module, str) and _MODULE.fullmatch(module) is not None


def _refused(what: str, place: str, layer: str | None) -> CompressionError:
    return CompressionError(
        "layer_not_allowed",
        f"the model has {what}, which is not allowed",
        hint=_WAY_OUT,
        layer=layer,
        pointer=place,
    )
