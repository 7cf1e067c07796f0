"""Networks without Keras layers, with as much of a Keras model's face as converters and exports look at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.errors import CompressionError
from tasks.compression.litert import Program
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.tflite import read_tflite
from tasks.compression.samples import Samples, arrays_of

__all__ = ["FloatProgram", "Graph", "Layerless"]


class Layerless:
    """`program` is the network as a float ``.tflite``, `outline` what is in that; `layers` are none, as Keras
    has them. Called with an array for each input, or the array of a single one, it answers with a list."""

    name = ""
    layers: tuple[()] = ()
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    @property
    def program(self) -> bytes:
        raise NotImplementedError

    @cached_property
    def outline(self) -> Outline:
        return read_tflite(self.program, Bounds())


class Graph(Layerless):
    """The signature of a SavedModel in a folder, all of whose operations have been found on the list of those
    that may be run. `loops` says that it has loops."""

    def __init__(
        self, folder: Path, signature: str, inputs: Sequence[str], outputs: Sequence[str], *, loops: bool
    ) -> None:
        self.folder, self.signature, self.loops = folder, signature, loops
        self.input_names, self.output_names = tuple(inputs), tuple(outputs)
        # What holds the variables: a signature alone lets them go.
        self._loaded: Any = tf.saved_model.load(str(folder))
        self._function: Any = self._loaded.signatures[signature]
        specs = self._function.structured_input_signature[1]
        self.inputs: list[Any] = [specs[name] for name in self.input_names]
        self.outputs: list[Any] = [self._function.structured_outputs[name] for name in self.output_names]
        self.variables: list[Any] = list(self._function.variables)

    @cached_property
    def program(self) -> bytes:
        """CompressionError conversion_failed."""
        try:
            content: bytes = to_tflite(self)
        except CompressionError as error:
            error.hint = (
                "upload the network as a .keras file: its layers can be converted where a graph cannot"
            )
            raise
        return content

    def __call__(self, inputs: Any, training: bool = False) -> list[Any]:
        given = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        if self.inputs[0].shape[0] == 1 and isinstance(given[0].shape[0], int) and given[0].shape[0] != 1:
            answers = [self._answer([part[i : i + 1] for part in given]) for i in range(given[0].shape[0])]
            return [tf.concat(parts, axis=0) for parts in zip(*answers, strict=True)]
        return self._answer(given)

    def _answer(self, given: Sequence[Any]) -> list[Any]:
        fed = {
            name: tf.cast(value, spec.dtype)
            for name, value, spec in zip(self.input_names, given, self.inputs, strict=True)
        }
        outputs = self._function(**fed)
        return [outputs[name] for name in self.output_names]


class FloatProgram(Layerless):
    """A float ``.tflite``, every operation of which has a name of its own."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.input_names, self.output_names = self.outline.input_names, self.outline.output_names

    @property
    def program(self) -> bytes:
        return self._content

    def __call__(self, inputs: Any, training: bool = False) -> list[Any]:
        given = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
        answers = self._running.predict(Samples(self.input_names, given) if len(given) > 1 else given[0])
        if isinstance(answers, Samples):
            return [answers.of(name) for name in self.output_names]
        return list(arrays_of(answers))

    @cached_property
    def _running(self) -> Program:
        return Program(self._content)
