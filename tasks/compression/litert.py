"""Runs ``.tflite`` files in the LiteRT interpreter.

Always from bytes: given a path the interpreter does not verify the file and crashes on damaged ones.
Outputs come back as floats, whatever the file's own types are.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from tasks.compression.samples import Array, Samples, Tensors, gathered, joined, signature_names

__all__ = ["Program", "encoded", "fed", "same_answers", "tensors_by_name"]

BATCH = 256

Details = dict[str, Any]
"""What the interpreter says of a tensor: index, name, dtype, shape, quantization."""


class Program:
    """A loaded file with one interpreter; not for two threads at once.

    ValueError for a damaged file, RuntimeError for one that LiteRT cannot run."""

    def __init__(self, content: bytes, *, threads: int = 1) -> None:
        self._content = content
        self._threads = threads
        self._load()

    @property
    def content(self) -> bytes:
        """The file."""
        return self._content

    @property
    def input_dtype(self) -> str:
        """Of the inputs; several types are joined by a plus."""
        return "+".join(sorted({str(np.dtype(item["dtype"])) for item in self._inputs}))

    @property
    def open_batch(self) -> bool:
        """Whether the first axis of every input may have any size."""
        return all(int(item["shape_signature"][0]) == -1 for item in self._inputs if len(item["shape"]))

    def inner_floats(self) -> int:
        """How many tensors between inputs and outputs are float."""
        outer = {item["index"] for item in (*self._inputs, *self._outputs)}
        details = self._interpreter.get_tensor_details()
        return sum(np.dtype(item["dtype"]).kind == "f" and item["index"] not in outer for item in details)

    def predict(self, x: Tensors) -> Tensors:
        """The outputs for samples `x` (axis 0), as float32. Several inputs and outputs go by the names of the
        file's signature: its order is not that of the model it came from."""
        if self._resize(min(BATCH, len(x))):
            outputs = self._predict_in_batches(x)
        else:
            outputs = [self._predict_batch(x[index : index + 1]) for index in range(len(x))]
        self._load()
        return joined(outputs)

    def prepare(self, sample: Tensors | None = None) -> None:
        """Fill the inputs for `run`: with one sample (batch 1), or zeros."""
        if sample is not None:
            self._fill(sample)
            return
        for item in self._inputs:
            self._interpreter.set_tensor(item["index"], np.zeros(item["shape"], item["dtype"]))

    def run(self) -> None:
        """One inference on the inputs prepared."""
        self._interpreter.invoke()

    def signature(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Name, type and shape (-1 where any size goes) of every input, then of every output."""
        return [
            (item["name"], str(np.dtype(item["dtype"])), tuple(int(n) for n in item["shape_signature"]))
            for item in (*self._inputs, *self._outputs)
        ]

    def inputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape of every input as it is now, by the names that samples go by."""
        return {
            name: (str(np.dtype(item["dtype"])), tuple(int(n) for n in item["shape"]))
            for name, item in self._inputs_by_name.items()
        }

    def try_out(self, seed: int) -> list[Array]:
        """All outputs, as they are, for one sample of seeded noise."""
        generator = np.random.default_rng(seed)
        for item in self._inputs:
            self._interpreter.set_tensor(item["index"], _noise(generator, item))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(item["index"]) for item in self._outputs]

    def _load(self) -> None:
        self._interpreter = self._made()
        self._inputs: list[Details] = self._interpreter.get_input_details()
        self._outputs: list[Details] = self._interpreter.get_output_details()
        self._inputs_by_name = tensors_by_name(self._interpreter, "inputs")
        self._outputs_by_name = tensors_by_name(self._interpreter, "outputs")

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

    def _predict_in_batches(self, x: Tensors) -> list[Tensors]:
        whole = len(x) // BATCH * BATCH if len(x) > BATCH else len(x)
        step = min(BATCH, len(x))
        outputs = [self._predict_batch(x[start : start + step]) for start in range(0, whole, step)]
        if whole < len(x):
            self._resize(len(x) - whole)
            outputs.append(self._predict_batch(x[whole:]))
        return outputs

    def _resize(self, batch: int) -> bool:
        """Whether the file can run `batch` samples at once; if not, it is as it was loaded."""
        if any(list(item["shape_signature"][:1]) != [-1] for item in self._inputs):
            return False
        shapes = [(item, [batch, *item["shape"][1:]]) for item in self._inputs]
        try:
            for item, shape in shapes:
                self._interpreter.resize_tensor_input(item["index"], shape)
            self._interpreter.allocate_tensors()
            for item, shape in shapes:
                self._interpreter.set_tensor(item["index"], np.zeros(shape, item["dtype"]))
            self._interpreter.invoke()
        except (RuntimeError, ValueError):
            self._load()
            return False
        if any(list(item["shape"][:1]) != [batch] for item in self._interpreter.get_output_details()):
            self._load()
            return False
        return True

    def _predict_batch(self, x: Tensors) -> Tensors:
        # A recurrent layer's state stays in the interpreter; each call begins without one.
        self._interpreter.reset_all_variables()
        self._fill(x)
        self._interpreter.invoke()
        return gathered(self._outputs_by_name, [self._value(item) for item in self._outputs_by_name.values()])

    def _value(self, item: Details) -> Array:
        return _dequantized(self._interpreter.get_tensor(item["index"]), item["quantization"])

    def _fill(self, x: Tensors) -> None:
        for item, values in fed(self._inputs_by_name, x):
            self._interpreter.set_tensor(item["index"], encoded(values, item))


def tensors_by_name(interpreter: Any, side: Literal["inputs", "outputs"]) -> dict[str, Details]:
    """The inputs or outputs by their names in the file's signature, else by those of the tensors."""
    details = interpreter.get_input_details() if side == "inputs" else interpreter.get_output_details()
    signatures = list(interpreter.get_signature_list().values())
    if not signatures or len(signatures[0][side]) < 2:
        return {item["name"]: item for item in details}
    runner = interpreter.get_signature_runner()
    return dict(runner.get_input_details() if side == "inputs" else runner.get_output_details())


def fed(inputs: Mapping[str, Details], x: Tensors) -> list[tuple[Details, Array]]:
    """Every input with the array of `x` that goes into it. ValueError where they do not go together."""
    if not isinstance(x, Samples):
        return [(next(iter(inputs.values())), x)]
    names = x.names if set(x.names) == set(inputs) else signature_names(x.names)
    if set(names) != set(inputs):
        raise ValueError(f"its inputs are {', '.join(inputs)}, not {', '.join(names)}")
    return [(inputs[name], values) for name, values in zip(names, x.arrays, strict=True)]


def encoded(x: Array, item: Details) -> Array:
    """`x` as the tensor with the details `item` takes it, quantised where that one is."""
    dtype: np.dtype[Any] = np.dtype(item["dtype"])
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


def _noise(generator: np.random.Generator, item: Details) -> Array:
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
