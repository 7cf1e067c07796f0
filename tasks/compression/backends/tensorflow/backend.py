"""The verbs of tasks.compression.backends.Backend for TensorFlow."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy.typing as npt

from featherweight.spec import Prune
from tasks.compression.backends.tensorflow import convert as _convert
from tasks.compression.backends.tensorflow import layers as _layers
from tasks.compression.backends.tensorflow import predict as _predict
from tasks.compression.backends.tensorflow._framework import configure_threads, keras
from tasks.compression.backends.tensorflow.load import load, read_model
from tasks.compression.backends.tensorflow.network import Network, Pending
from tasks.compression.facts import LayerFacts
from tasks.compression.host import library_versions

__all__ = [
    "fingerprint",
    "float_program",
    "layers",
    "load",
    "predict",
    "predict_file",
    "restore",
    "save",
    "start",
    "versions",
    "waits",
    "write",
]

Array = npt.NDArray[Any]

_DISTRIBUTIONS = (
    "ai-edge-litert",
    "litert-quantizer",
    "numpy",
    "tensorflow",
    "tensorflow-model-optimization",
    "tf-keras",
)


def start(threads: int, seed: int) -> None:
    configure_threads(threads)
    keras.utils.set_random_seed(seed)


def versions() -> dict[str, str]:
    return library_versions(*_DISTRIBUTIONS)


def predict(network: Network, x: Array) -> Array:
    return _predict.predict(network.model, x)


def layers(network: Network) -> list[LayerFacts]:
    return _layers.describe(network.model)


def fingerprint(network: Network) -> str:
    digest = hashlib.sha256(network.tflite or b"")
    for weight in network.model.weights:
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


def waits(network: Network) -> bool:
    return bool(network.pending)


def save(network: Network, directory: Path) -> None:
    _convert.write_keras(network.model, directory / "model.keras")
    if network.tflite is not None:
        (directory / "model.tflite").write_bytes(network.tflite)
    state = {
        "pending": [[item.step.model_dump(mode="json"), item.pointer] for item in network.pending],
        "pruned": dict(network.pruned),
    }
    (directory / "network.json").write_text(json.dumps(state), encoding="utf-8")


def restore(directory: Path) -> Network:
    state = json.loads((directory / "network.json").read_text(encoding="utf-8"))
    tflite = directory / "model.tflite"
    return Network(
        model=read_model(directory / "model.keras"),
        pending=tuple(Pending(Prune.model_validate(step), pointer) for step, pointer in state["pending"]),
        pruned=state["pruned"],
        tflite=tflite.read_bytes() if tflite.exists() else None,
    )


def float_program(network: Network) -> bytes:
    return _convert.to_tflite(network.model)


def write(network: Network, output: str, path: Path) -> None:
    if output == "keras":
        _convert.write_keras(network.model, path)
    else:
        path.write_bytes(network.tflite or _convert.to_tflite(network.model))


def predict_file(path: Path, x: Array) -> Array:
    return _predict.predict(read_model(path), x)
