"""Small whole model files, written as Keras 2 writes them but without Keras."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import h5py
import numpy as np

__all__ = ["dense_model", "keras_archive", "npz"]


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
