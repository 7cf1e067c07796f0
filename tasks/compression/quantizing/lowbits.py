"""Quantisation of weights by litert-quantizer: 8, 4 and 2 bits, an operation at a time.

What its kernels and algorithms cannot do it leaves in float without a word, or stops at, or LiteRT answers
nonsense; so every operation is checked first and given a recipe of its own.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

from featherweight.spec import Quantize
from tasks.compression.errors import CompressionError
from tasks.compression.litert import Program, fed, tensors_by_name
from tasks.compression.quantizing.weight_kernels import obstacle, weight_bits
from tasks.compression.samples import Samples, Tensors, signature_names
from tasks.compression.tflite import Operation

__all__ = ["loadable", "obstacle", "quantize_weights", "sample_inputs", "weight_bits"]

_ALGORITHMS = {
    "min_max": "MIN_MAX_UNIFORM_QUANT",
    "mse": "MSE",
    "octav": "OCTAV",
    "gptq": "GPTQ",
    # Rotation by multiplication: the other kind needs a custom operation in the runtime.
    "hadamard": "DECOMPOSED_HADAMARD_ROTATION",
}
_GRANULARITIES = {"per_channel": "CHANNELWISE", "per_tensor": "TENSORWISE"}


def quantize_weights(
    content: bytes,
    step: Quantize,
    chosen: Sequence[Operation],
    samples: Tensors | None,
) -> bytes:
    """The float file `content` with the weights of the `chosen` operations quantised; all have passed
    `obstacle`. `samples` are what ``gptq`` is calibrated on. CompressionError
    conversion_failed."""
    from litert_quantizer.quantizer import Quantizer

    if not chosen:
        return content
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            quantizer = Quantizer(bytearray(content))
            for operation in chosen:
                _add(quantizer, operation, step)
            ranges = _ranges(quantizer, content, samples) if quantizer.need_calibration else None
            result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        # It raises ValueError, RuntimeError, KeyError and more, by way of its algorithms.
        except Exception as error:
            raise CompressionError(
                "conversion_failed",
                f"litert-quantizer refused the model: {(str(error).strip() or type(error).__name__)[:300]}",
                hint="exclude the layer it names, or choose the algorithm min_max",
            ) from error
    return loadable(bytes(result.quantized_model))


def loadable(content: bytes) -> bytes:
    """`content` itself. CompressionError conversion_failed for a file that LiteRT does not run."""
    try:
        Program(content)
    except (RuntimeError, ValueError) as error:
        raise CompressionError(
            "conversion_failed",
            f"LiteRT does not run the quantised model: {(str(error).strip() or type(error).__name__)[:300]}",
            hint="choose other weight_bits or another granularity",
        ) from error
    return content


def _add(quantizer: Any, operation: Operation, step: Quantize) -> None:
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import QuantGranularity, TFLOperationName

    # An operation's scope is the names of its outputs, each with a semicolon after it.
    scope = f"^{re.escape(''.join(f'{name};' for name in operation.outputs))}$"
    name = _GRANULARITIES.get(step.granularity, f"BLOCKWISE_{step.block_size}")
    algorithm = "FLOAT_CASTING" if step.scheme == "float16" else _ALGORITHMS[step.algorithm]
    computed_in_float = step.scheme in ("float16", "weight_only")
    add = quantizer.add_weight_only_config if computed_in_float else quantizer.add_dynamic_config
    kind = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}.get(operation.kind, operation.kind)
    add(
        scope,
        TFLOperationName[kind],
        weight_bits(step),
        granularity=QuantGranularity["TENSORWISE" if step.scheme == "float16" else name],
        algorithm_key=AlgorithmName[algorithm],
    )


def _ranges(quantizer: Any, content: bytes, samples: Tensors | None) -> Any:
    if samples is None:
        raise ValueError("there are no samples to calibrate on")
    return quantizer.calibrate(sample_inputs(content, samples), num_threads=1)


def sample_inputs(content: bytes, samples: Tensors) -> dict[str, list[dict[str, Any]]]:
    """The samples one by one, by the names of the inputs in the signature of the file, as litert-quantizer
    takes them."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    key, signature = next(iter(interpreter.get_signature_list().items()))
    names = signature_names(samples.names) if isinstance(samples, Samples) else signature["inputs"]
    inputs = fed(tensors_by_name(interpreter, "inputs"), samples)
    columns = [values.astype(item["dtype"], copy=False) for item, values in inputs]
    batches = [
        {name: column[index : index + 1] for name, column in zip(names, columns, strict=True)}
        for index in range(len(samples))
    ]
    return {key: batches}
