"""What a model file says of its network: layers, the calls between them, and what is stored of weights.

Everything is JSON, so that an outline made in one process can be kept and used in another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.compression.abilities import ModelKind

__all__ = ["DISTINCT_COUNTED", "Call", "Layer", "Outline", "Refusal", "Weight"]

DISTINCT_COUNTED = 256
"""Up to so many different values of a weight are counted."""

Shape = tuple[int | None, ...]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Weight(_Part):
    """A stored array. `distinct` is the number of different values, None above DISTINCT_COUNTED."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    zeros: int = 0
    distinct: int | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @classmethod
    def counted(cls, name: str, shape: tuple[int, ...], dtype: str, values: np.ndarray[Any, Any]) -> Self:
        """Of that name, shape and type, with the zeros and the different ones of `values`."""
        different = len(np.unique(values))
        return cls(
            name=name,
            shape=shape,
            dtype=dtype,
            zeros=values.size - int(np.count_nonzero(values)),
            distinct=different if different <= DISTINCT_COUNTED else None,
        )


class Layer(_Part):
    """A layer that is no model itself. `path` is its name, after those of the models it is nested in;
    `config` what the file says of it, without initialisers, regularisers and constraints. `listed` is False
    for the input of a sequential model, which Keras does not show among its layers."""

    path: str
    name: str
    kind: str
    config: dict[str, Any] = Field(default_factory=dict)
    weights: tuple[Weight, ...] = ()
    listed: bool = True

    @property
    def parameters(self) -> int:
        return sum(weight.size for weight in self.weights)

    @property
    def nonzero(self) -> int:
        return sum(weight.size - weight.zeros for weight in self.weights)

    def weight(self, name: str) -> Weight | None:
        return next((weight for weight in self.weights if weight.name == name), None)


class Call(_Part):
    """One call of a layer: `inputs` and `outputs` are numbers of tensors. `arguments` and `keywords` are what
    an operation was called with beside tensors, which stand as None."""

    layer: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = Field(default_factory=dict)


class Refusal(_Part):
    """Why a job would refuse the file, in the job's own words."""

    code: str
    detail: str
    hint: str | None = None
    layer: str | None = None


class Outline(_Part):
    """`tensors` has the shape of each tensor with its batch axis, None where it is not known, `types` the
    type of each, empty where all are float32; `writer` is the program that wrote the file; `inputs` and
    `outputs` are numbers of tensors, `input_names` and `output_names` what Keras calls these. `traced` is
    False where the file does not tell how the layers are joined (subclassed models). `output_activation` is
    the last layer's. `kind` is what can be done to it, `why` says of a graph what is in the way of more. The
    layers of a graph are its variables, those of a ``.tflite`` its operations; `loops` says that a graph has
    loops in it."""

    format: str
    framework: str
    kind: ModelKind = "keras"
    why: str | None = None
    keras: str | None = None
    writer: str | None = None
    name: str = ""
    bytes: int = 0
    layers: tuple[Layer, ...] = ()
    calls: tuple[Call, ...] = ()
    tensors: tuple[Shape | None, ...] = ()
    types: tuple[str, ...] = ()
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    traced: bool = True
    loops: bool = False
    output_activation: str | None = None
    loss: str | None = None
    has_optimizer_state: bool = False
    refused: Refusal | None = None

    def listed(self) -> Iterator[Layer]:
        """The layers a pattern can name, in the order of the model."""
        return (layer for layer in self.layers if layer.listed)

    def shapes(self, numbers: tuple[int, ...]) -> list[Shape | None]:
        return [self.tensors[number] for number in numbers]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)
