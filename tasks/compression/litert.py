"""Runs ``.tflite`` files in the LiteRT interpreter.

Always from bytes: given a path the interpreter does not verify the file and crashes on damaged ones.
Outputs come back as floats, whatever the file's own types are.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Program", "same_answers"]

BATCH = 256

Array = npt.NDArray[Any]


class Program:
    """A loaded file with one interpreter; not for two threads at once.

    ValueError for a damaged file, RuntimeError for one that LiteRT cannot run."""

    def __init__(self, content: bytes, *, threads: int = 1) -> None:
        self._content = content
        self._threads = threads
        self._load()

    @property
    def input_dtype(self) -> str:
        return str(np.dtype(self._inputs[0]["dtype"]))

    @property
    def single(self) -> bool:
        """One input and one output, so that `predict` has something to say."""
        return len(self._inputs) == 1 and len(self._outputs) == 1

    @property
    def open_batch(self) -> bool:
        """Whether the first axis of every input may have any size."""
        return all(int(item["shape_signature"][0]) == -1 for item in self._inputs if len(item["shape"]))

    def inner_floats(self) -> int:
        """How many tensors between inputs and outputs are float."""
        outer = {item["index"] for item in (*self._inputs, *self._outputs)}
        details = self._interpreter.get_tensor_details()
        return sum(np.dtype(item["dtype"]).kind == "f" and item["index"] not in outer for item in details)

    def predict(self, x: Array) -> Array:
        """The outputs for samples `x` (axis 0), as float32."""
        if self._resize(min(BATCH, len(x))):
            outputs = self._predict_in_batches(x)
        else:
            outputs = [self._predict_batch(x[index : index + 1]) for index in range(len(x))]
        self._load()
        return np.concatenate(outputs)

    def prepare(self, sample: Array | None = None) -> None:
        """Fill the inputs for `run`: with one sample (batch 1), or zeros."""
        for item in self._inputs:
            value = np.zeros(item["shape"], item["dtype"]) if sample is None else self._encode(sample)
            self._interpreter.set_tensor(item["index"], value)

    def run(self) -> None:
        """One inference on the inputs prepared."""
        self._interpreter.invoke()

    def signature(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Name, type and shape (-1 where any size goes) of every input, then of every output."""
        return [
            (item["name"], str(np.dtype(item["dtype"])), tuple(int(n) for n in item["shape_signature"]))
            for item in (*self._inputs, *self._outputs)
        ]

    def try_out(self, seed: int) -> list[Array]:
        """All outputs, as they are, for one sample of seeded noise."""
        generator = np.random.default_rng(seed)
        for item in self._inputs:
            self._interpreter.set_tensor(item["index"], _noise(generator, item))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(item["index"]) for item in self._outputs]

    def _load(self) -> None:
        self._interpreter = self._made()
        self._inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self._outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    def _made(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interpreter = Interpreter(model_content=self._content, num_threads=self._threads)
            try:
                interpreter.allocate_tensors()
            except RuntimeError:
                # XNNPACK refuses some graphs that the reference kernels run.
                interpreter = Interpreter(
                    model_content=self._content,
                    num_threads=self._threads,
                    experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                )
                interpreter.allocate_tensors()
        return interpreter

    def _predict_in_batches(self, x: Array) -> list[Array]:
        whole = len(x) // BATCH * BATCH if len(x) > BATCH else len(x)
        step = min(BATCH, len(x))
        outputs = [self._predict_batch(x[start : start + step]) for start in range(0, whole, step)]
        if whole < len(x):
            self._resize(len(x) - whole)
            outputs.append(self._predict_batch(x[whole:]))
        return outputs

    def _resize(self, batch: int) -> bool:
        """Whether the file can run `batch` samples at once; if not, it is as it was loaded."""
        item = self._inputs[0]
        if int(item["shape_signature"][0]) != -1:
            return False
        try:
            self._interpreter.resize_tensor_input(item["index"], [batch, *item["shape"][1:]])
            self._interpreter.allocate_tensors()
            self._interpreter.set_tensor(item["index"], np.zeros([batch, *item["shape"][1:]], item["dtype"]))
            self._interpreter.invoke()
        except (RuntimeError, ValueError):
            self._load()
            return False
        if int(self._interpreter.get_output_details()[0]["shape"][0]) != batch:
            self._load()
            return False
        return True

    def _predict_batch(self, x: Array) -> Array:
        # A recurrent layer's state stays in the interpreter; each call begins without one.
        self._interpreter.reset_all_variables()
        self._interpreter.set_tensor(self._inputs[0]["index"], self._encode(x))
        self._interpreter.invoke()
        output = self._outputs[0]
        return _dequantized(self._interpreter.get_tensor(output["index"]), output["quantization"])

    def _encode(self, x: Array) -> Array:
        item = self._inputs[0]
        dtype = np.dtype(item["dtype"])
        scale, zero = item["quantization"]
        if dtype.kind in "iu" and scale:
            limits = np.iinfo(dtype)
            steps = np.round(x.astype(np.float32) / scale) + zero
            return np.asarray(np.clip(steps, limits.min, limits.max), dtype=dtype)
        return np.ascontiguousarray(x, dtype=dtype)


def _dequantized(values: Array, quantization: tuple[float, int]) -> Array:
    scale, zero = quantization
    if values.dtype.kind in "iu" and scale:
        return np.asarray((values.astype(np.float32) - zero) * scale, dtype=np.float32)
    return values.astype(np.float32)


def _noise(generator: np.random.Generator, item: dict[str, Any]) -> Array:
    dtype = np.dtype(item["dtype"])
    if dtype.kind == "f":
        return np.asarray(generator.random(item["shape"]), dtype=dtype)
    # Wide integers are indices, of which every table has the first two.
    highest = 127 if dtype.itemsize == 1 else 2
    return np.asarray(generator.integers(0, highest, item["shape"]), dtype=dtype)


def same_answers(content: bytes, other: bytes) -> bool:
    """Whether two files have equal inputs and outputs and give the same bits for a sample of noise; not so
    where one cannot be run on it."""
    try:
        first, second = Program(content), Program(other)
        pairs = list(zip(first.try_out(seed=0), second.try_out(seed=0), strict=True))
    except (RuntimeError, ValueError):
        return False
    return first.signature() == second.signature() and all(
        np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f") for ours, theirs in pairs
    )
