"""A SavedModel's archive as a whole: what can be done with it, and its outline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasks.compression.abilities import ModelKind
from tasks.compression.backends.tensorflow.config import KerasFile
from tasks.compression.errors import CompressionError
from tasks.compression.outline.architecture import Architecture
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.facts import Layer, Weight
from tasks.compression.outline.saved_model.bundle import OBJECTS, Bundle, read_bundle
from tasks.compression.outline.saved_model.captured import captured_keys
from tasks.compression.outline.saved_model.members import GRAPH, KERAS, members
from tasks.compression.outline.saved_model.network import NoNetwork, network_in, weights_of
from tasks.compression.outline.saved_model.program import Program, TensorSpec, read_program
from tasks.compression.outline.saved_model.wire import Malformed

__all__ = ["SavedModel", "read_saved_model", "understood"]

_COMPUTED: Final = frozenset({"float32", "int32", "int64"})
_VALUE: Final = "/.ATTRIBUTES/VARIABLE_VALUE"
_NO_WEIGHTS: Final = ("optimizer/", "keras_api/", "save_counter", OBJECTS)


@dataclass(frozen=True)
class SavedModel:
    """`network` is the Keras network in it, as far as that can be built again, else `why` says what is in
    the way."""

    program: Program
    bundle: Bundle
    network: tuple[KerasFile, Architecture] | None
    why: str | None

    @property
    def kind(self) -> ModelKind:
        return "graph" if self.network is None else "keras"

    def weights(self) -> dict[str, tuple[Weight, ...]]:
        """Of the Keras layers by path; of a graph, each variable by its name. CompressionError bad_model."""
        try:
            if self.network is not None:
                return weights_of(self.network[1], self.bundle)
            return {
                key.removesuffix(_VALUE): (self.bundle.weight(key.removesuffix(_VALUE), key),)
                for key in self._keys()
                if self.bundle.entries[key].dtype == "float32"
            }
        except Malformed as error:
            raise CompressionError(
                "bad_model", f"the variables are damaged or cut off: {error}", hint="pack and upload it again"
            ) from error

    def _keys(self) -> list[str]:
        """Of the variables that the signature computes with, else of all that may be weights."""
        objects = self.bundle.objects()
        if objects is not None:
            found = captured_keys(self.program.objects, objects, self.program.signature.name)
            if found is not None:
                return [key for key in found if key in self.bundle.entries]
        return [key for key in sorted(self.bundle.entries) if not key.startswith(_NO_WEIGHTS)]

    def variables(self) -> tuple[Layer, ...]:
        """Of a graph: what has weights in it, as layers."""
        return tuple(
            Layer(path=path, name=path, kind="Variable", weights=weights)
            for path, weights in self.weights().items()
        )


def read_saved_model(path: Path, bounds: Bounds) -> SavedModel:
    """Of a zip or tar archive.

    CompressionError of `members` and `read_program`, bad_model for a damaged file, unsupported_model for a
    graph whose signature cannot be converted."""
    return understood(dict(members(path, bounds)), bounds)


def understood(files: Mapping[str, bytes], bounds: Bounds) -> SavedModel:
    """The same of the archive's files, by name."""
    program = read_program(files[GRAPH], bounds)
    bundle = read_bundle(files, bounds)
    try:
        return SavedModel(
            program, bundle, network_in(files.get(KERAS), program.objects, bundle, bounds), None
        )
    except NoNetwork as error:
        _check_signature(program)
        return SavedModel(program, bundle, None, str(error))


def _check_signature(program: Program) -> None:
    """A signature that is converted takes samples, and answers each of them."""
    for side, specs in (("input", program.signature.inputs), ("output", program.signature.outputs)):
        for spec in specs:
            why = _unfit(spec)
            if why is not None:
                raise CompressionError(
                    "unsupported_model",
                    f"the {side} {spec.name} of the signature {program.signature.name} {why}",
                    hint="save a signature that takes and gives tensors of float32, int32 or int64 whose "
                    "first axis is the samples, of any number",
                )


def _unfit(spec: TensorSpec) -> str | None:
    if spec.dtype not in _COMPUTED:
        return f"is of the type {spec.dtype}"
    if spec.shape is None:
        return "is of no known shape"
    if not spec.shape:
        return "has no axis for the samples"
    if spec.shape[0] not in (None, 1):
        return f"takes {spec.shape[0]} samples at once, no more and no fewer"
    return None
