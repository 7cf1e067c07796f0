"""Post-training quantisation: of which outputs, of which layers, calibrated on which samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from featherweight.spec import OutputFormat, Quantize
from tasks.compression.backends.torch.layers import select
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.onnx import quantized_onnx
from tasks.compression.backends.torch.programs.converting import converted
from tasks.compression.backends.torch.programs.networks import OnnxNetwork
from tasks.compression.backends.torch.programs.quantize import check_program, of_layers, quantize_program
from tasks.compression.backends.torch.pt2e import quantized_pt2
from tasks.compression.backends.torch.pte import quantized_pte
from tasks.compression.backends.torch.source import matrices, read_source, unselected
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.outputs import PROGRAMS
from tasks.compression.quantizing.account import account
from tasks.compression.quantizing.calibration import best, calibration_subsets
from tasks.compression.quantizing.float_layers import leave_float
from tasks.compression.quantizing.formats import QUANTISED, lacking, none_offered
from tasks.compression.quantizing.makers import by_weights
from tasks.compression.quantizing.source import Make, Source
from tasks.compression.quantizing.static import Ranges, in_integers, measured_ranges
from tasks.compression.samples import Tensors

__all__ = ["check", "quantize"]

Quantized = tuple[bytes, dict[str, str]]
_OTHERS: dict[OutputFormat, Callable[[Network, Quantize, Tensors | None, frozenset[str]], Quantized]] = {
    "onnx": quantized_onnx,
    "pt2": quantized_pt2,
    "pte": quantized_pte,
}


@dataclass(frozen=True)
class _Chosen:
    """What every format is made with: the `samples` ranges are calibrated on, the layers left in float."""

    samples: Tensors | None
    kept: frozenset[str]


def check(network: Network, step: Quantize, pointer: str) -> None:
    """CompressionError layer_not_found."""
    if isinstance(network.model, OnnxNetwork):
        check_program(network.model, step, pointer)
        return
    select(network.model, step.layers, f"{pointer}/layers")


def quantize(network: Network, step: Quantize, context: Context) -> Network:
    """Make a quantised file for every output asked for; the PyTorch model stays float.

    A format that cannot hold the scheme is written in float, and said to be. What sensitivity and candidates
    for calibration decide is decided on the ``.tflite`` and holds for all. One that cannot be made is left
    out as of Context.leave_out. CompressionError conversion_failed; unsupported_output where no output can
    be had as asked; layer_not_supported when none of the layers selected can be.
    """
    if isinstance(network.model, OnnxNetwork):
        if {*context.outputs} <= {"onnx"} and not step.compares:
            return quantize_program(network, step, context)
        built = converted(network)
        made = quantize(built, of_layers(network, built, step, context.pointer), context)
        return replace(network, files=made.files, types=context.record.details["layers"])
    wanted = context.outputs or ("tflite",)
    offered = _offered(wanted, step, context)
    files: dict[OutputFormat, bytes] = {}
    content, chosen = _first(network, step, context, offered)
    if content is not None:
        files["tflite"] = content
    for output in (name for name in offered if name in _OTHERS):
        try:
            files[output], layers = _OTHERS[output](network, step, chosen.samples, chosen.kept)
        except CompressionError as error:
            if error.code != "conversion_failed":
                raise
            context.leave_out([output], error)
        else:
            _tell(output, files[output], layers, step, chosen, context)
    return replace(network, files={**network.files, **files})


def _first(
    network: Network, step: Quantize, context: Context, offered: Sequence[OutputFormat]
) -> tuple[bytes | None, _Chosen]:
    """The ``.tflite``, None where it is not asked for or cannot be had; and what the others are made with."""
    programs = PROGRAMS.intersection(offered)
    if step.compares or programs:
        try:
            content, chosen = _program(network, step, context)
        except CompressionError as error:
            if error.code != "conversion_failed":
                raise
            if step.compares:
                raise _undecided(error, step, context) from error
            context.leave_out(programs, error)
        else:
            return (content if programs else None), chosen
    subsets = _subsets(step, context)
    return None, _Chosen(subsets[0] if subsets else None, unselected(network, step, context.pointer))


def _undecided(error: CompressionError, step: Quantize, context: Context) -> CompressionError:
    part = "sensitivity" if step.sensitivity is not None else "calibration_candidates"
    return CompressionError(
        "conversion_failed",
        f"what {part} decides is decided on the .tflite: {error.detail}",
        hint=f"leave out {part}",
        layer=error.layer,
        pointer=f"{context.pointer}/{part}",
    )


def _offered(wanted: Sequence[OutputFormat], step: Quantize, context: Context) -> list[OutputFormat]:
    why = {output: lacking(output, step) for output in wanted}
    offered = [output for output, reason in why.items() if reason is None]
    if not offered and not context.lost:
        raise none_offered(why.values(), f"{context.pointer}/scheme")
    for output, reason in why.items():
        if reason is not None and output in QUANTISED:
            context.warn("output_left_float", output=output, why=reason)
    return offered


def _program(network: Network, step: Quantize, context: Context) -> tuple[bytes, _Chosen]:
    """The ``.tflite``."""
    source = read_source(network, step, context)
    subsets = _subsets(step, context)
    makers = [_maker(source, step, samples) for samples in subsets] or [_maker(source, step, None)]
    make = makers[0] if len(makers) == 1 else best(makers, source, context)
    samples = subsets[makers.index(make)] if subsets else None
    content, kept = make(source.unselected), source.unselected
    if step.sensitivity is not None:
        content, kept = leave_float(make, content, source, step, step.sensitivity, context)
    account(content, source, kept, step, context, matrices(network))
    return content, _Chosen(samples, kept)


def _subsets(step: Quantize, context: Context) -> list[Tensors]:
    """The samples of every candidate for calibration; none where nothing is calibrated."""
    if not step.calibrates:
        return []
    data = context.training_data
    subsets = [data.x[chosen] for chosen in calibration_subsets(data, step, context.seed)]
    context.record.details["calibration_samples"] = len(subsets[0])
    if len(subsets) > 1:
        context.record.details["calibration"] = {"samples": [len(samples) for samples in subsets]}
    return subsets


def _maker(source: Source, step: Quantize, samples: Tensors | None) -> Make:
    if samples is not None and step.calibrates_ranges:
        return partial(_by_integers, source, step, samples, {})
    return partial(by_weights, source, step, samples)


def _by_integers(
    source: Source, step: Quantize, samples: Tensors, measured: dict[str, Ranges], kept: frozenset[str]
) -> bytes:
    """`measured` remembers the ranges, which do not depend on the layers kept."""
    if "ranges" not in measured:
        measured["ranges"] = measured_ranges(source.program, samples)
    left = [item.operation for item in source.traced if item.layer in kept]
    return in_integers(source.program, step, samples, measured["ranges"], left)


def _tell(
    output: str, content: bytes, layers: dict[str, str], step: Quantize, chosen: _Chosen, context: Context
) -> None:
    """What became of the layers in a format beside LiteRT's."""
    told = context.record.details.setdefault("outputs", {})
    told[output] = {"scheme": step.scheme, "bytes": len(content), "layers": layers}
    if "layers" not in context.record.details:
        context.record.details.update(scheme=step.scheme, bytes=len(content), layers=layers)
    for layer, dtype in layers.items():
        if layer not in chosen.kept and dtype == "float32":
            context.warn("left_float", layer=layer, why=f"{output} has no kernel for it in this scheme")
