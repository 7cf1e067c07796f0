"""Looks at the inner tensors of a ``.tflite`` while it runs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from tasks.compression.litert import encoded, fed, tensors_by_name
from tasks.compression.samples import Array, Tensors

__all__ = ["Inside"]


class Inside:
    """A program whose inner tensors can be read after a run; XNNPACK would keep them to itself."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._interpreter: Any = Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
            )
            self._interpreter.allocate_tensors()
        self._inputs = tensors_by_name(self._interpreter, "inputs")
        self.places: dict[str, Any] = {
            item["name"]: item for item in self._interpreter.get_tensor_details() if item["name"]
        }

    def run(self, sample: Tensors) -> None:
        # A recurrent layer's state stays in the interpreter; each sample begins without one.
        self._interpreter.reset_all_variables()
        for item, values in fed(self._inputs, sample):
            self._interpreter.set_tensor(item["index"], encoded(values, item))
        self._interpreter.invoke()

    def value(self, name: str) -> Array:
        item = self.places[name]
        values = self._interpreter.get_tensor(item["index"])
        scale, zero = item["quantization"]
        if values.dtype.kind in "iu" and scale:
            return np.asarray((values.astype(np.float32) - zero) * scale)
        return np.asarray(values)
