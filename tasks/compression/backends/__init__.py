"""The frameworks. Each is a package with the same file names and, in ``backend``, the same verbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from featherweight.report import ReportWarning
from tasks.compression.facts import LayerFacts, ModelFacts, StoredLayer
from tasks.compression.samples import Tensors

__all__ = ["Backend", "LoadedModel", "Native"]

Native = Literal["keras", "pt2"]


class LoadedModel(Protocol):
    """A caller's model: `network` is the backend's own and goes through the handlers."""

    @property
    def network(self) -> Any: ...
    @property
    def facts(self) -> ModelFacts: ...


class Backend(Protocol):
    """The verbs the pipeline uses of a framework. A module of that shape is a backend.

    `NATIVE` is the format that networks are kept in between steps.
    """

    NATIVE: Native

    def start(self, threads: int, seed: int) -> None:
        """Set threads (0: all cores) and seeds, before anything is computed."""

    def versions(self) -> dict[str, str]:
        """Of every library that has a part in the result."""

    def load(self, path: Path, scratch: Path, warn: Callable[[ReportWarning], None]) -> LoadedModel:
        """Read an uploaded file without running code from it.

        CompressionError bad_model, unsupported_model."""

    def predict(self, network: Any, x: Tensors) -> Tensors:
        """Outputs for samples, as float32."""

    def expected(self, network: Any, output: str, x: Tensors) -> Tensors:
        """What an output of that format should answer to the samples `x` of the test split: what the network
        does, rounded where it learned to be."""

    def copy(self, network: Any) -> Any:
        """One whose weights no step that changes `network` touches."""

    def layers(self, network: Any, *, distinct: bool = False) -> list[LayerFacts]:
        """Every layer with weights, in the order of the model; their distinct values are counted on demand,
        since that takes longer than all the rest."""

    def macs(self, network: Any) -> Mapping[str, int] | None:
        """The multiply-accumulates of one sample by layer; None where the network cannot be traced."""

    def distinct_weights(self, network: Any) -> int:
        """How many values each kernel takes, added up over the kernels."""

    def stored(self, network: Any, samples: Tensors | None) -> Mapping[str, StoredLayer]:
        """Its layers with weights as its ``.tflite`` has them; those that cannot be told apart in there are
        left out. Signal and noise are of the `samples`."""

    def fingerprint(self, network: Any) -> str:
        """Equal only for networks that would be delivered as the same files."""

    def waits(self, network: Any) -> bool:
        """Whether steps were taken in that a later one has yet to carry out."""

    def save(self, network: Any, directory: Path) -> None:
        """Write the network into an empty directory, so that `restore` brings it back."""

    def saved_file(self, directory: Path) -> Path:
        """The file of the network in a directory that `save` wrote: the ``.tflite`` that a step made of it,
        else its weights in float."""

    def restore(self, directory: Path) -> Any: ...

    def float_program(self, network: Any) -> bytes:
        """The network as a float ``.tflite``, uncompressed. CompressionError conversion_failed."""

    def write(self, network: Any, output: str, path: Path) -> None:
        """Write an output format of the catalogue to `path`. CompressionError conversion_failed."""

    def extras(self, network: Any) -> Mapping[str, bytes]:
        """Files to be delivered beside the outputs, by name."""

    def predict_file(self, output: str, path: Path, x: Tensors) -> Tensors:
        """Outputs of a written file that holds no LiteRT program, loaded afresh in its own runtime.

        ValueError for one that its runtime cannot run."""
