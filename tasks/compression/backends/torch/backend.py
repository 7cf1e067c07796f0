"""The verbs of tasks.compression.backends.Backend for PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from featherweight.spec import OutputFormat
from tasks.compression.backends import Native
from tasks.compression.backends.torch import layers as _layers
from tasks.compression.backends.torch import predict as _predict
from tasks.compression.backends.torch._framework import configure_threads, torch
from tasks.compression.backends.torch.load import load
from tasks.compression.backends.torch.network import Network, Signature
from tasks.compression.backends.torch.programs.networks import OnnxNetwork
from tasks.compression.backends.torch.programs.networks import stored as _stored_program
from tasks.compression.backends.torch.stored_model import read_model, save_model
from tasks.compression.facts import LayerFacts, StoredLayer
from tasks.compression.host import library_versions
from tasks.compression.outputs import FILES, PROGRAMS
from tasks.compression.samples import Tensors
from tasks.compression.toolchain import TORCH
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

NATIVE: Native = "pt2"

_MODEL = "network.pt2"
_PROGRAM = "program.onnx"


def _is_program(network: Network) -> bool:
    return isinstance(network.model, OnnxNetwork)


def _of_layers(network: Network) -> Network:
    """Of an ONNX program the network that is rebuilt of it, in float or as it was quantised."""
    if not _is_program(network):
        return network
    from tasks.compression.backends.torch.programs.converting import converted

    return converted(network)


def start(threads: int, seed: int) -> None:
    configure_threads(threads)
    torch.manual_seed(seed)


def versions() -> dict[str, str]:
    return library_versions(*TORCH)


def predict(network: Network, x: Tensors) -> Tensors:
    if isinstance(network.model, OnnxNetwork):
        return network.model.predict(x)
    return _predict.predict(network.model, network.signature, x)


def expected(network: Network, output: str, x: Tensors) -> Tensors:
    if output in network.files and network.simulated is not None:
        return network.simulated
    return predict(network, x)


def copy(network: Network) -> Network:
    return network if _is_program(network) else replace(network, model=_layers.copied(network.model))


def layers(network: Network, *, distinct: bool = False) -> list[LayerFacts]:
    if isinstance(network.model, OnnxNetwork):
        return network.model.layers()
    described = _layers.describe(network.model)
    if not distinct:
        return described
    counts = {
        place.path: max((_distinct(kernel) for kernel in _layers.kernels(place.layer)), default=None)
        for place in _layers.placed_layers(network.model)
    }
    return [replace(facts, distinct_values=counts[facts.name]) for facts in described]


def macs(network: Network) -> Mapping[str, int] | None:
    if isinstance(network.model, OnnxNetwork):
        return network.model.macs()
    from tasks.compression.backends.torch.structured import count

    return {layer.name: layer.macs for layer in count(network.model, network.signature).layers}


def distinct_weights(network: Network) -> int:
    if isinstance(network.model, OnnxNetwork):
        return network.model.distinct_weights()
    return sum(_distinct(value) for value in network.model.parameters() if value.dim() > 1)


def _distinct(kernel: torch.Tensor) -> int:
    return len(torch.unique(kernel.detach()))


def fingerprint(network: Network) -> str:
    digest = hashlib.sha256()
    for output, content in sorted(network.files.items()):
        digest.update(output.encode() + hashlib.sha256(content).digest())
    if isinstance(network.model, OnnxNetwork):
        digest.update(network.model.content)
        return digest.hexdigest()
    for name, value in network.model.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def waits(network: Network) -> bool:
    return bool(network.pending)


def save(network: Network, directory: Path) -> None:
    if isinstance(network.model, OnnxNetwork):
        (directory / _PROGRAM).write_bytes(network.model.content)
    else:
        save_model(network.model, network.signature, directory / _MODEL)
    for output, content in network.files.items():
        (directory / FILES[output]).write_bytes(content)
    own = {
        "signature": asdict(network.signature),
        "files": sorted(network.files),
        "types": dict(network.types),
    }
    write_state(network, directory, own)


def saved_file(directory: Path) -> Path:
    made = [directory / FILES["tflite"], directory / _MODEL]
    if (directory / _PROGRAM).exists():
        made = [directory / FILES["onnx"], directory / _PROGRAM]
    return next(path for path in made if path.exists())


def restore(directory: Path) -> Network:
    state, own = read_state(directory)
    told, program = own["signature"], directory / _PROGRAM
    return Network(
        model=OnnxNetwork(program.read_bytes()) if program.exists() else read_model(directory / _MODEL),
        signature=Signature(
            input_names=tuple(told["input_names"]),
            input_shapes=tuple(tuple(shape) for shape in told["input_shapes"]),
            input_dtypes=tuple(told["input_dtypes"]),
            output_names=tuple(told["output_names"]),
        ),
        files={output: (directory / FILES[output]).read_bytes() for output in own["files"]},
        types=own.get("types", {}),
        **state,
    )


def stored(network: Network, samples: Tensors | None) -> Mapping[str, StoredLayer]:
    if _is_program(network) and "tflite" not in network.files:
        return _stored_program(network)
    from tasks.compression.backends.torch.stored import stored as told

    return told(_of_layers(network), samples)


def float_program(network: Network) -> bytes:
    from tasks.compression.backends.torch.convert import to_tflite

    return to_tflite(_of_layers(network))


def write(network: Network, output: OutputFormat, path: Path) -> None:
    if output in network.files:
        path.write_bytes(network.files[output])
    elif output == "pt2":
        save_model(network.model, network.signature, path)
    elif isinstance(network.model, OnnxNetwork) and output == "onnx":
        path.write_bytes(network.model.content)
    elif isinstance(network.model, OnnxNetwork):
        write(_of_layers(network), output, path)
    elif output == "onnx":
        from tasks.compression.backends.torch.onnx import write_onnx

        write_onnx(network, path)
    elif output == "pte":
        from tasks.compression.backends.torch.pte import write_pte

        write_pte(network, path)
    else:
        path.write_bytes(float_program(network))


def quantised(network: Network) -> frozenset[str]:
    return frozenset(network.files) | (PROGRAMS if "tflite" in network.files else frozenset())


def predict_file(output: str, path: Path, x: Tensors) -> Tensors:
    from tasks.compression.backends.torch.written import predict_written

    return predict_written(output, path, x)
