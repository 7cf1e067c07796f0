"""Post-training quantisation of exported programs by torchao's pt2e: ``.pt2`` files with int8 weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from featherweight.spec import Quantize
from tasks.compression.backends.torch._framework import torch, torchao
from tasks.compression.backends.torch.converting import examples
from tasks.compression.backends.torch.exported import archived, export_module, exported
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.predict import as_tensors
from tasks.compression.backends.torch.refusals import refusal
from tasks.compression.samples import Tensors
from tasks.compression.silence import quiet

__all__ = ["calibrated", "quantized_layers", "quantized_pt2", "without_unused"]

CALIBRATED_AT_ONCE = 64


def quantized_pt2(
    network: Network, step: Quantize, samples: Tensors | None, kept: Collection[str]
) -> tuple[bytes, dict[str, str]]:
    """The archive, and the type of every layer's weights in it. Weights are int8, activations uint8: with
    ranges of the `samples`, or measured while running (linear layers alone) under dynamic schemes. Layers in
    `kept` stay float.

    It needs torchao to be imported before ``torch.export.load`` reads it: its operators are registered there.
    CompressionError conversion_failed."""
    program = exported(network, "pt2")
    module = calibrated(program, _quantizer(step, kept), network, samples)
    types = quantized_layers(program, module)
    made = export_module(without_unused(module), network, "pt2")
    return archived(made, network.signature), types


def calibrated(program: Any, quantizer: Any, network: Network, samples: Tensors | None) -> Any:
    """The quantised module of an exported program. CompressionError conversion_failed."""
    pt2e = torchao("quantization.pt2e.quantize_pt2e")
    try:
        with quiet(), torch.no_grad():
            prepared = pt2e.prepare_pt2e(program.module(), quantizer)
            for given in _batches(network, samples):
                prepared(*given)
            return pt2e.convert_pt2e(prepared)
    # It raises AssertionError, RuntimeError, ValueError and more.
    except Exception as error:
        raise refusal(
            "torchao could not quantise the model",
            network,
            error,
            ("pt2", "pte"),
            hint="leave out the outputs pt2 and pte, or choose the scheme dynamic_int8",
        ) from error


def _batches(network: Network, samples: Tensors | None) -> Iterator[tuple[torch.Tensor, ...]]:
    """What the prepared model is run on: zeros where no ranges are measured, since that is when weights are
    looked at too."""
    if samples is None:
        yield examples(network.signature, batch=2)
        return
    for start in range(0, len(samples), CALIBRATED_AT_ONCE):
        yield as_tensors(samples[start : start + CALIBRATED_AT_ONCE], network.signature)


def without_unused(module: Any) -> Any:
    """The module without parameters and buffers that its graph does not use: the float weights that integers
    took the place of."""
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name, _ in [*module.named_parameters(), *module.named_buffers()]:
        if name not in used:
            owner, _, last = name.rpartition(".")
            delattr(module.get_submodule(owner), last)
    return module


def quantized_layers(program: Any, module: Any) -> dict[str, str]:
    """The type of the weights of every layer of `program` that has a matrix of them: ``int8`` where their
    float values are no longer used by `module`, which was made of it."""
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    types: dict[str, set[str]] = {}
    for name, value in program.named_parameters():
        if value.dim() > 1:
            layer = name.rpartition(".")[0]
            dtype = str(value.dtype).removeprefix("torch.")
            types.setdefault(layer, set()).add(dtype if name in used else "int8")
    return {layer: "+".join(sorted(found)) for layer, found in types.items()}


def _quantizer(step: Quantize, kept: Collection[str]) -> Any:
    x86 = torchao("quantization.pt2e.quantizer.x86_inductor_quantizer")
    dynamic = not step.calibrates_ranges
    config = x86.get_default_x86_inductor_quantization_config(is_dynamic=dynamic)
    if step.granularity == "per_tensor":
        config = replace(config, weight=_per_tensor(config.weight))
    quantizer = x86.X86InductorQuantizer().set_global(config)
    for path in kept:
        quantizer.set_module_name_qconfig(path, None)
    return quantizer


def _per_tensor(weight: Any) -> Any:
    observer = torchao("quantization.pt2e.observer").MinMaxObserver
    return replace(
        weight,
        qscheme=torch.per_tensor_symmetric,
        ch_axis=None,
        observer_or_fake_quant_ctr=observer.with_args(eps=2**-12),
    )
