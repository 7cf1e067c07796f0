"""Reads what a Keras file says of itself, as JSON, without building anything from it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.compression.errors import CompressionError
from tasks.compression.facts import CompiledState
from tasks.compression.outline.archive import parse_json

__all__ = ["KerasFile", "layers_of", "read_config", "refuse_foreign", "refuse_unsafe"]

_MAX_JSON = 64 << 20
_REFUSED = {
    "Lambda": "replace it by a layer of Keras' own: the code inside a Lambda is never run here",
    "TFSMLayer": "it loads another program from outside the file; build the model from Keras layers",
}
_OWN_PACKAGES = frozenset({"keras", "tf_keras"})
_PLAIN = frozenset({"function"})  # activations and the like, by name
_LOSSES = {
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
    "binary_crossentropy",
    "mean_squared_error",
    "mean_absolute_error",
}
_ALIASES = {"mse": "mean_squared_error", "mae": "mean_absolute_error", "bce": "binary_crossentropy"}
_ACCURACIES = {"accuracy", "acc", "sparse_categorical_accuracy", "categorical_accuracy"}
_ERROR_METRICS = {"mean_squared_error", "mean_absolute_error", "mse", "mae"}
# An optimiser without moments still stores its step count and learning rate.
_PLAIN_OPTIMIZER_VARIABLES = 2


@dataclass(frozen=True)
class KerasFile:
    """`model` and `training` are the configurations in the file; `keras` the version that wrote it."""

    model: Mapping[str, Any]
    training: Mapping[str, Any]
    keras: str
    has_optimizer_state: bool

    @property
    def major(self) -> int:
        head = self.keras.partition(".")[0]
        return int(head) if head.isdigit() else 2

    def compiled(self) -> CompiledState:
        """Loss and metrics in the contract's words; what has no word there is listed as ignored."""
        loss, from_logits, why = _loss(self.training.get("loss"))
        metrics, unknown = _metrics(self.training.get("metrics"))
        ignored = [("loss", why)] if why else []
        ignored += [("metric", f"{name} is not one the spec knows") for name in unknown]
        return CompiledState(loss, from_logits, metrics, tuple(ignored), self.has_optimizer_state)


def read_config(path: Path, kind: str) -> KerasFile:
    """Of a ``keras_zip`` or ``hdf5`` file. CompressionError bad_model for a damaged one, unsupported_model
    for one with weights alone."""
    try:
        return _read_zip(path) if kind == "keras_zip" else _read_hdf5(path)
    except CompressionError:
        raise
    # h5py and zipfile raise about anything for bytes that are not what they should be.
    except Exception as error:
        raise CompressionError(
            "bad_model", f"the model file is damaged or cut off: {error}", hint="save and upload it again"
        ) from error


def refuse_unsafe(config: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise layer_not_allowed for layers that carry code, and for classes not in `known`."""
    for layer in layers_of(config):
        name = layer.get("class_name")
        label = str(_config_of(layer).get("name", ""))
        if name in _REFUSED:
            raise CompressionError(
                "layer_not_allowed", f"the model has a {name} layer", hint=_REFUSED[str(name)], layer=label
            )
        if name not in known and layer is config:
            raise CompressionError(
                "unsupported_model",
                f"the model is of a class of its own, {name}, and its graph is in that class's code",
                hint="build it with an Input and keras.Model(inputs, outputs), or as a Sequential of layers",
            )
        if name not in known:
            raise CompressionError(
                "layer_not_allowed",
                f"the model has a layer of the class {name}, which is not one of Keras' own",
                hint="custom classes cannot be loaded here; build the layer from Keras' own layers",
                layer=label,
            )


def refuse_foreign(config: Mapping[str, Any]) -> None:
    """Raise layer_not_allowed where the configuration names a class or function from outside of Keras. What a
    model was compiled with is never restored, and may be anything."""
    for node in _objects({key: value for key, value in config.items() if key != "compile_config"}):
        module, name = node.get("module"), node.get("class_name")
        inside = module is None or str(module).partition(".")[0] in _OWN_PACKAGES
        if not inside and not (module == "builtins" and name in _PLAIN):
            raise CompressionError(
                "layer_not_allowed",
                f"the model's configuration names {module}.{name}, which is not Keras' own",
                hint="custom classes and functions cannot be loaded here",
            )


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            if "class_name" in node:
                yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def layers_of(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The layer configurations in a model's, nested models' and wrapped layers too, the model's own first."""
    waiting: list[Any] = [config]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Mapping):
            continue
        yield node
        inner = _config_of(node)
        waiting += inner.get("layers", []) if isinstance(inner.get("layers"), list) else []
        waiting += [
            inner[key]
            for key in ("layer", "backward_layer", "cell")
            if isinstance(inner.get(key), Mapping) and "class_name" in inner[key]
        ]


def _config_of(node: Mapping[str, Any]) -> Mapping[str, Any]:
    config = node.get("config")
    return config if isinstance(config, Mapping) else {}


def _read_zip(path: Path) -> KerasFile:
    with zipfile.ZipFile(path) as archive:
        config = _json(archive, "config.json")
        metadata = _json(archive, "metadata.json")
        if "model.weights.h5" not in archive.namelist():
            raise CompressionError("bad_model", "the model file holds no weights")
        training = config.get("compile_config") or {}
        state = bool(training) and _zip_has_optimizer_state(archive)
    return KerasFile(config, training, str(metadata.get("keras_version", "2")), state)


def _json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    if archive.getinfo(name).file_size > _MAX_JSON:
        raise CompressionError("bad_model", f"{name} in the model file is too large")
    return parse_json(archive.read(name), name)


def _zip_has_optimizer_state(archive: zipfile.ZipFile) -> bool:
    import h5py

    with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
        variables = file.get("optimizer/vars")
        return variables is not None and len(variables) > _PLAIN_OPTIMIZER_VARIABLES


def _read_hdf5(path: Path) -> KerasFile:
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise CompressionError(
                "unsupported_model",
                "the HDF5 file holds weights without the model they belong to",
                hint="save the whole model: model.save('model.keras')",
            )
        model = json.loads(file.attrs["model_config"])
        training = json.loads(file.attrs.get("training_config", "{}"))
        version = str(file.attrs.get("keras_version", "2"))
        state = _hdf5_has_optimizer_state(file)
    if not isinstance(model, dict) or not isinstance(training, dict):
        raise CompressionError("bad_model", "the configuration in the model file is none")
    return KerasFile(model, training, version, state)


def _hdf5_has_optimizer_state(file: Any) -> bool:
    names = file["optimizer_weights"].attrs.get("weight_names", ()) if "optimizer_weights" in file else ()
    return len(names) > _PLAIN_OPTIMIZER_VARIABLES


def _loss(value: Any) -> tuple[str | None, bool | None, str | None]:
    """(name, from_logits, why it is ignored) of a loss in a training configuration."""
    while isinstance(value, list | dict) and len(value) == 1 and not _is_object(value):
        value = value[0] if isinstance(value, list) else next(iter(value.values()))
    if value is None:
        return None, None, None
    name = _name(value)
    if name not in _LOSSES:
        return None, None, f"{name or 'a loss of its own'} is not one the spec knows"
    config = _config_of(value) if isinstance(value, Mapping) else {}
    if config.get("label_smoothing"):
        return None, None, f"{name} with label smoothing is not one the spec knows"
    # A loss given by name has Keras' default: probabilities.
    return name, bool(config.get("from_logits", False)), None


def _metrics(value: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Metrics the contract knows, and the names of the others."""
    names = [_metric_name(item) for item in _flat(value)]
    known = {name: word for name in names if (word := _metric_word(name)) is not None}
    unknown = [name for name in names if name not in known and name != "loss"]
    return tuple(dict.fromkeys(known.values())), tuple(unknown)


def _metric_word(name: str) -> str | None:
    if name in _ACCURACIES:
        return "accuracy"
    if name in _ERROR_METRICS:
        return _ALIASES.get(name, name)
    return "binary_accuracy" if name == "binary_accuracy" else None


def _metric_name(item: Any) -> str:
    if isinstance(item, Mapping) and isinstance(_config_of(item).get("fn"), str):
        return _snake(str(_config_of(item)["fn"]))
    return _name(item)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, dict) and not _is_object(value):
        for item in value.values():
            yield from _flat(item)
    elif value is not None:
        yield value


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and "class_name" in value


def _name(value: Any) -> str:
    if isinstance(value, Mapping):
        # Functions are written as {"class_name": "function", "config": name}.
        inner = value.get("config")
        value = inner if isinstance(inner, str) else value.get("class_name", "")
    name = _snake(str(value))
    return _ALIASES.get(name, name)


def _snake(name: str) -> str:
    if name.islower():
        return name
    return "".join(
        f"_{letter.lower()}" if letter.isupper() and index else letter.lower()
        for index, letter in enumerate(name)
    )
