"""``.pte`` files for ExecuTorch, with XNNPACK's kernels. They take one sample at a time."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.spec import Quantize
from tasks.compression.backends.torch._framework import executorch, torch
from tasks.compression.backends.torch.exported import export_module, exported
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.pt2e import calibrated, quantized_layers, without_unused
from tasks.compression.backends.torch.refusals import refusal
from tasks.compression.samples import Tensors, arrays_of, gathered, joined
from tasks.compression.silence import quiet

__all__ = ["predict_pte", "quantized_pte", "write_pte"]

_NAMES = "output_names"


def write_pte(network: Network, path: Path) -> None:
    """The float network. CompressionError conversion_failed."""
    path.write_bytes(_lowered(exported(network, "pte", batch=False), network))


def quantized_pte(
    network: Network, step: Quantize, samples: Tensors | None, kept: Collection[str]
) -> tuple[bytes, dict[str, str]]:
    """The file, and the type of every layer's weights in it. Weights and activations are int8: with ranges of
    the `samples`, or measured while running (linear layers alone) under dynamic schemes. Layers in `kept`
    stay float. CompressionError conversion_failed."""
    program = exported(network, "pte", batch=True)
    module = calibrated(program, _quantizer(step, kept), network, samples)
    types = quantized_layers(program, module)
    single = export_module(without_unused(module), network, "pte", batch=False)
    return _lowered(single, network), types


def predict_pte(path: Path, x: Tensors) -> Tensors:
    """The outputs of a written file as float32. ValueError for one that ExecuTorch cannot run."""
    try:
        with quiet():
            program = executorch("runtime").Runtime.get().load_program(path.read_bytes())
            forward = program.load_method("forward")
            names = _names(program)
            dtypes = [
                _DTYPES[forward.metadata.input_tensor_meta(i).dtype()] for i in range(len(arrays_of(x)))
            ]
            return joined([_answer(forward, dtypes, names, x[i : i + 1]) for i in range(len(x))])
    except (RuntimeError, KeyError) as error:
        raise ValueError((str(error).strip() or type(error).__name__).splitlines()[0][:300]) from error


def _answer(forward: Any, dtypes: list[str], names: list[str], sample: Tensors) -> Tensors:
    given = [
        torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))
        for array, dtype in zip(arrays_of(sample), dtypes, strict=True)
    ]
    # The runtime's outputs lie in memory that the next call writes to.
    return gathered(names, [np.array(value.numpy(), dtype=np.float32) for value in forward.execute(given)])


def _names(program: Any) -> list[str]:
    (held,) = program.load_method(_NAMES).execute([])
    return list(json.loads(bytes(held.numpy().tobytes())))


def _lowered(program: Any, network: Network) -> bytes:
    try:
        with quiet():
            partitioner = executorch("backends.xnnpack.partition.xnnpack_partitioner").XnnpackPartitioner()
            names = json.dumps(network.signature.output_names).encode()
            edge = executorch("exir").to_edge_transform_and_lower(
                program,
                partitioner=[partitioner],
                constant_methods={_NAMES: torch.from_numpy(np.frombuffer(names, dtype=np.uint8).copy())},
            )
            return bytes(edge.to_executorch().buffer)
    # ExecuTorch raises classes of its own, RuntimeError, AssertionError and more.
    except Exception as error:
        raise refusal("ExecuTorch refused the model", network, error, ("pte",)) from error


def _quantizer(step: Quantize, kept: Collection[str]) -> Any:
    xnnpack = executorch("backends.xnnpack.quantizer.xnnpack_quantizer")
    config = xnnpack.get_symmetric_quantization_config(
        is_per_channel=step.granularity == "per_channel", is_dynamic=not step.calibrates_ranges
    )
    quantizer = xnnpack.XNNPACKQuantizer().set_global(config)
    names = frozenset(kept)
    if names:
        quantizer.set_filter_function(lambda node: names.isdisjoint(_layers_of(node)))
    return quantizer


def _layers_of(node: Any) -> list[str]:
    return [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]


_DTYPES = {
    6: "float32",
    4: "int64",
    3: "int32",
    7: "float64",
    11: "bool",
    0: "uint8",
    1: "int8",
    5: "float16",
}
"""By the numbers of ExecuTorch's scalar types."""
