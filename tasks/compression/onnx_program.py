"""Runs ``.onnx`` files in ONNX Runtime, on the CPU and in one thread."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks.compression.samples import Array, Samples, Tensors, gathered, joined, signature_names

__all__ = ["OnnxProgram"]

BATCH = 256


class OnnxProgram:
    """A loaded file. ValueError for one that ONNX Runtime cannot run, in one line that says why."""

    def __init__(self, file: Path | bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; they are raised too
        try:
            self._session = onnxruntime.InferenceSession(
                file if isinstance(file, bytes) else file.read_bytes(),
                options,
                providers=["CPUExecutionProvider"],
            )
        # Its exceptions are of a class for each status, below Exception and nothing in between.
        except Exception as error:
            raise ValueError(_first_line(error)) from error
        self._inputs = {item.name: np.dtype(_DTYPES[item.type]) for item in self._session.get_inputs()}
        size = self._session.get_inputs()[0].shape[0]
        self._batch = size if isinstance(size, int) else BATCH
        self._prepared: dict[str, Array] = {}
        self._outputs = [item.name for item in self._session.get_outputs()]

    def predict(self, x: Tensors) -> Tensors:
        """The outputs for samples `x` (axis 0), as float32; several inputs and outputs go by their names.
        ValueError for samples that the file cannot be run on."""
        return joined([self._answer(x[i : i + self._batch]) for i in range(0, len(x), self._batch)])

    def prepare(self, sample: Tensors | None = None) -> None:
        """What `run` is to run on: one sample (batch 1), or zeros, where open sizes are 1."""
        if sample is not None:
            self._prepared = self._fed(sample)
            return
        self._prepared = {
            item.name: np.zeros(
                [size if isinstance(size, int) else 1 for size in item.shape], self._inputs[item.name]
            )
            for item in self._session.get_inputs()
        }

    def run(self) -> None:
        """One inference on the inputs prepared."""
        self._session.run(self._outputs, self._prepared)

    def _answer(self, x: Tensors) -> Tensors:
        try:
            values = self._session.run(self._outputs, self._fed(x))
        except Exception as error:  # of a class for each status too
            raise ValueError(_first_line(error)) from error
        return gathered(self._outputs, [np.asarray(value, dtype=np.float32) for value in values])

    def _fed(self, x: Tensors) -> dict[str, Array]:
        arrays: dict[str, Array] = {next(iter(self._inputs)): x} if not isinstance(x, Samples) else {}
        if isinstance(x, Samples):
            names = x.names if set(x.names) == set(self._inputs) else signature_names(x.names)
            arrays = dict(zip(names, x.arrays, strict=True))
        return {
            name: np.ascontiguousarray(values, dtype=self._inputs[name]) for name, values in arrays.items()
        }


_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
