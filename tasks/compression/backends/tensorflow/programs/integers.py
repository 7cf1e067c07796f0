"""full_int8 and int16x8 of a float ``.tflite``, by TensorFlow's own calibrator and quantiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tasks.compression.backends.tensorflow._framework import calibrator, tf
from tasks.compression.backends.tensorflow.converted import not_quantised
from tasks.compression.backends.tensorflow.programs.networks import FloatProgram
from tasks.compression.litert import fed, tensors_by_name
from tasks.compression.quantizing.int16 import refuse_unknown_int16
from tasks.compression.samples import Tensors

__all__ = ["calibrated_program", "int16_program"]


def calibrated_program(model: FloatProgram, samples: Tensors) -> bytes:
    """The program with the range that every tensor had over `samples`. CompressionError conversion_failed."""
    return _made(model, lambda tool: tool.calibrate(_each(model, samples)))


def int16_program(model: FloatProgram, samples: Tensors) -> bytes:
    """int16x8: activations int16, weights int8, inputs and outputs float.

    CompressionError conversion_failed, also for a file with operations not known to run."""
    content = _made(
        model,
        lambda tool: tool.calibrate_and_quantize(
            _each(model, samples), tf.float32, tf.float32, False, tf.int16, tf.int64
        ),
    )
    refuse_unknown_int16(content)
    return content


def _made(model: FloatProgram, make: Callable[[Any], Any]) -> bytes:
    try:
        return bytes(make(calibrator().Calibrator(model.program)))
    # It raises RuntimeError and ValueError, and what its parts raise.
    except Exception as error:
        raise not_quantised(error) from error


def _each(model: FloatProgram, samples: Tensors) -> Callable[[], Iterator[list[Any]]]:
    """The samples one by one, an array for each input in the order of the file."""
    from ai_edge_litert.interpreter import Interpreter

    inputs = fed(tensors_by_name(Interpreter(model_content=model.program), "inputs"), samples)
    columns = [(item["index"], values.astype(item["dtype"], copy=False)) for item, values in inputs]
    order = {number: place for place, number in enumerate(model.outline.inputs)}
    columns.sort(key=lambda column: order[column[0]])

    def each() -> Iterator[list[Any]]:
        for index in range(len(samples)):
            yield [column[index : index + 1] for _, column in columns]

    return each
