"""The verbs of tasks.compression.backends.Backend for TensorFlow."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from tasks.compression.backends import Native
from tasks.compression.backends.tensorflow import convert as _convert
from tasks.compression.backends.tensorflow import layers as _layers
from tasks.compression.backends.tensorflow import predict as _predict
from tasks.compression.backends.tensorflow._framework import configure_threads, keras
from tasks.compression.backends.tensorflow.load import load, read_delivered, read_model
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.onnx import write_onnx
from tasks.compression.backends.tensorflow.programs import layers as _programs
from tasks.compression.backends.tensorflow.programs.keeping import is_kept, restored, saved
from tasks.compression.backends.tensorflow.programs.networks import Layerless
from tasks.compression.backends.tensorflow.rows import distinct_values
from tasks.compression.backends.tensorflow.saved_model import answer, write_saved_model
from tasks.compression.backends.tensorflow.stored import stored
from tasks.compression.backends.tensorflow.structured import count
from tasks.compression.contents import contents
from tasks.compression.errors import CompressionError
from tasks.compression.facts import LayerFacts
from tasks.compression.host import library_versions
from tasks.compression.onnx_program import OnnxProgram
from tasks.compression.outputs import PROGRAMS
from tasks.compression.samples import Tensors
from tasks.compression.toolchain import DISTRIBUTIONS
from tasks.compression.underway import extras, read_state, write_state

__all__ = [
    "NATIVE",
    "copy",
    "distinct_weights",
    "expected",
    "extras",
    "fingerprint",
    "float_program",
    "layers",
    "load",
    "macs",
    "predict",
    "predict_file",
    "quantised",
    "restore",
    "save",
    "saved_file",
    "start",
    "stored",
    "versions",
    "waits",
    "write",
]


NATIVE: Native = "keras"


def start(threads: int, seed: int) -> None:
    configure_threads(threads)
    keras.utils.set_random_seed(seed)


def versions() -> dict[str, str]:
    return library_versions(*DISTRIBUTIONS)


def predict(network: Network, x: Tensors) -> Tensors:
    return _predict.predict(network.model, x)


def expected(network: Network, output: str, x: Tensors) -> Tensors:
    return predict(network, x) if output not in PROGRAMS or network.simulated is None else network.simulated


def copy(network: Network) -> Network:
    return replace(network, model=_layers.copied(network.model))


def layers(network: Network, *, distinct: bool = False) -> list[LayerFacts]:
    if isinstance(network.model, Layerless):
        return _programs.described(network.model)
    described = _layers.describe(network.model)
    if not distinct:
        return described
    counts = {place.path: distinct_values(place.layer) for place in _layers.placed_layers(network.model)}
    return [replace(facts, distinct_values=counts[facts.name] or None) for facts in described]


def macs(network: Network) -> dict[str, int] | None:
    if isinstance(network.model, Layerless):
        return _programs.macs_by_operation(network.model)
    try:
        return {layer.name: layer.macs for layer in count(network.model).layers}
    except CompressionError:
        return None


def distinct_weights(network: Network) -> int:
    if isinstance(network.model, Layerless):
        return contents(network.model.program).distinct_weights
    places = _layers.placed_layers(network.model)
    return sum(
        len(np.unique(weight.numpy()))
        for place in places
        for weight in place.layer.weights
        if len(weight.shape) > 1
    )


def fingerprint(network: Network) -> str:
    digest = hashlib.sha256(network.tflite or b"")
    if isinstance(network.model, Layerless):
        digest.update(network.model.program)
        return digest.hexdigest()
    for weight in network.model.weights:
        digest.update(repr(tuple(weight.shape)).encode())
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


def waits(network: Network) -> bool:
    return bool(network.pending)


def save(network: Network, directory: Path) -> None:
    if isinstance(network.model, Layerless):
        saved(network.model, directory)
    else:
        _convert.write_keras(network.model, directory / "model.keras")
    if network.tflite is not None:
        (directory / "model.tflite").write_bytes(network.tflite)
    write_state(network, directory, {"sparse_kernels": network.sparse_kernels, "keras3": network.keras3})


def saved_file(directory: Path) -> Path:
    program = directory / "model.tflite"
    return program if program.exists() else directory / "model.keras"


def restore(directory: Path) -> Network:
    state, own = read_state(directory)
    tflite = directory / "model.tflite"
    return Network(
        model=restored(directory) if is_kept(directory) else read_model(directory / "model.keras"),
        tflite=tflite.read_bytes() if tflite.exists() else None,
        **own,
        **state,
    )


def float_program(network: Network) -> bytes:
    if isinstance(network.model, Layerless):
        return network.model.program
    program: bytes = _convert.to_tflite(network.model)
    return program


def write(network: Network, output: str, path: Path) -> None:
    if output == "keras":
        _convert.write_keras(network.model, path, keras3=network.keras3)
    elif output == "saved_model":
        write_saved_model(network.model, path)
    elif output == "onnx":
        write_onnx(network.model, path)
    else:
        path.write_bytes(network.tflite or _float_file(network))


def _float_file(network: Network) -> bytes:
    """With zeros encoded, where they are where the sparse kernels make use of them."""
    if not network.sparse_kernels:
        return float_program(network)
    content: bytes = _convert.to_tflite(network.model, _convert.encode_zeros)
    return content


def quantised(network: Network) -> frozenset[str]:
    return PROGRAMS if network.tflite is not None else frozenset()


def predict_file(output: str, path: Path, x: Tensors) -> Tensors:
    if output == "saved_model":
        return answer(path, x)
    if output == "onnx":
        return OnnxProgram(path).predict(x)
    return _predict.predict(read_delivered(path), x)
