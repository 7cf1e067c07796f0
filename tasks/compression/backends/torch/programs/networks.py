"""An ONNX program as a network that steps and measures can look at."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from tasks.compression.backends.torch.network import Network
from tasks.compression.errors import CompressionError
from tasks.compression.facts import LayerFacts, StoredLayer
from tasks.compression.onnx_program import OnnxProgram
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.described import described
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.onnx.message import read_model
from tasks.compression.outline.onnx.reading import names_of, read_onnx
from tasks.compression.outline.skeleton import cost
from tasks.compression.samples import Tensors

__all__ = ["OnnxNetwork", "stored"]


class OnnxNetwork:
    """`content` is a float program every node of which has a name of its own, and whose constants are all
    initialisers: see `loading`. It is never changed."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.converted: Network | None = None  # once it was asked for

    @cached_property
    def outline(self) -> Outline:
        return read_onnx(self.content, Bounds())

    @cached_property
    def owners(self) -> dict[str, str]:
        """The layer of every node, by its name."""
        names = names_of(read_model(self.content, Bounds()))
        return dict(zip(names, (call.layer for call in self.outline.calls), strict=True))

    def proto(self) -> Any:
        """A ModelProto to be changed."""
        import onnx

        return onnx.load_model_from_string(self.content)

    def predict(self, x: Tensors) -> Tensors:
        """Outputs for samples (axis 0), as float32. CompressionError shape_mismatch for samples that ONNX
        Runtime cannot run the program on."""
        try:
            return self._running.predict(x)
        except ValueError as error:
            raise CompressionError(
                "shape_mismatch",
                f"ONNX Runtime cannot run the model on the samples: {error}",
                hint="integers have to be indices that the model's tables have",
            ) from error

    def layers(self) -> list[LayerFacts]:
        return described(self.outline)

    def macs(self) -> dict[str, int] | None:
        found = cost(self.outline)
        return None if found.unknown else found.macs

    def distinct_weights(self) -> int:
        constants = read_model(self.content, Bounds()).constants.values()
        return sum(
            len(np.unique(values))
            for constant in constants
            if len(constant.shape) > 1
            and constant.dtype.startswith("float")
            and (values := constant.values()) is not None
        )

    @cached_property
    def _running(self) -> OnnxProgram:
        return OnnxProgram(self.content)


def stored(network: Network) -> Mapping[str, StoredLayer]:
    """The layers with weights, with the type that they have in the ``.onnx`` to be delivered."""
    found = network.types or dict.fromkeys((layer.name for layer in network.model.layers()), "float32")
    return {layer: StoredLayer(dtype) for layer, dtype in found.items()}
