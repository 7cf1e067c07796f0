"""Small whole model files, written as Keras 2 writes them but without Keras."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import h5py
import numpy as np

__all__ = ["dense_model", "graph_archive", "keras_archive", "npz"]


def dense_model(units: int = 32, inputs: int = 64) -> bytes:
    """A ``.keras`` file: `inputs` -> ``hidden`` (Dense of `units`) -> ``out`` (Dense of 4)."""
    chance = np.random.default_rng(0)
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": [None, inputs], "dtype": "float32", "name": "given"},
        },
        _dense("hidden", units, "relu"),
        _dense("out", 4, "softmax"),
    ]
    weights = {
        "layers/dense/vars/0": chance.normal(size=(inputs, units)).astype(np.float32),
        "layers/dense/vars/1": np.zeros(units, np.float32),
        "layers/dense_1/vars/0": chance.normal(size=(units, 4)).astype(np.float32),
        "layers/dense_1/vars/1": np.zeros(4, np.float32),
    }
    config = {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}
    return keras_archive(config, weights)


def _dense(name: str, units: int, activation: str) -> dict[str, Any]:
    config = {"name": name, "trainable": True, "units": units, "activation": activation, "use_bias": True}
    return {"class_name": "Dense", "config": config}


def keras_archive(
    config: dict[str, Any] | str, weights: dict[str, Any] | bytes, *, version: str = "2.21.0"
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("model.weights.h5", weights if isinstance(weights, bytes) else _hdf5(weights))
    return out.getvalue()


def _hdf5(weights: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        for path, value in weights.items():
            file[path] = value
    return out.getvalue()


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def graph_archive(operation: str = "MatMul") -> bytes:
    """A SavedModel in a zip: four numbers in, two out, of a graph that holds one operation."""
    signature = _message(1, _named("x", _tensor(4))) + _message(2, _named("y", _tensor(2)))
    graph = (
        _message(1, _message(4, b"serve"))
        + _message(2, _message(1, _message(1, b"node") + _message(2, operation.encode())))
        + _message(5, _named("serving_default", signature))
        + _message(7, _message(1, b""))
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("saved_model.pb", _message(2, graph))
    return out.getvalue()


def _message(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer: bytes, text or another message."""
    size, length = bytearray(), len(content)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + content


def _named(name: str, content: bytes) -> bytes:
    """An entry of a map."""
    return _message(1, name.encode()) + _message(2, content)


def _tensor(size: int) -> bytes:
    """Of float32 samples, as many as there are, of that many values."""
    any_number = bytes([1 << 3, *[255] * 9, 1])  # -1
    shape = _message(2, any_number) + _message(2, bytes([1 << 3, size]))
    return bytes([2 << 3, 1]) + _message(3, shape)
