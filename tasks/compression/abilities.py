"""What can be done to a model, by its kind: which techniques, and delivered as what.

    keras    a Keras network that can be built again from its configuration    everything
    graph    a SavedModel's signature: what it computes, and no layers         quantised, delivered as a graph
    tflite   a float ``.tflite``                                               quantised
    pt2      an exported program of PyTorch                                    everything
    onnx     a float ``.onnx``                                                 quantised and converted

The one place that knows: plans, the check of a submission, the job itself and the inspection of a model ask
here. It imports no framework and reads no file; tasks.compression.outline.kinds tells a file's kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from featherweight.problem import FieldError
from featherweight.resources import Technique
from featherweight.spec import CompressionSpec, OutputFormat, Quantize
from tasks.compression.catalogue import ROWS
from tasks.compression.catalogue import techniques as catalogue_techniques
from tasks.compression.outputs import PROGRAMS
from tasks.compression.quantizing.formats import lacking

__all__ = [
    "KINDS",
    "Abilities",
    "Inability",
    "ModelKind",
    "abilities",
    "framework_of",
    "kind_of_format",
    "techniques",
    "unable",
]

ModelKind = Literal["keras", "graph", "tflite", "pt2", "onnx"]

KINDS: tuple[ModelKind, ...] = get_args(ModelKind)


@dataclass(frozen=True)
class Abilities:
    """`techniques` and `outputs` are what can be asked for, `refused_techniques` and `refused_outputs` the
    rest, each with the reason. `title` names the kind in a sentence, `hint` says what to upload for more."""

    kind: ModelKind
    title: str
    techniques: tuple[str, ...]
    outputs: tuple[OutputFormat, ...]
    refused_techniques: Mapping[str, str] = field(default_factory=dict)
    refused_outputs: Mapping[str, str] = field(default_factory=dict)
    hint: str | None = None


@dataclass(frozen=True)
class Inability:
    """What of a spec a model's kind does not allow; `pointer` is into the spec. `code` is one of
    featherweight.problem.CODES: unsupported_technique or unsupported_output."""

    pointer: str
    code: str
    detail: str
    hint: str | None = None

    def fault(self) -> FieldError:
        return FieldError(pointer=self.pointer, code=self.code, detail=self.detail)


_QUANTISED: tuple[OutputFormat, ...] = ("tflite", "c_array")
_TITLES: dict[ModelKind, str] = {
    "keras": "a Keras network",
    "graph": "a SavedModel without a Keras network that can be built again",
    "tflite": "a float .tflite",
    "pt2": "an exported program of PyTorch",
    "onnx": "a float .onnx",
}
_TECHNIQUES: dict[ModelKind, tuple[str, ...]] = {
    "graph": ("quantize",),
    "tflite": ("quantize",),
    "onnx": ("quantize",),
}
_OUTPUTS: dict[ModelKind, tuple[OutputFormat, ...]] = {
    "graph": ("tflite", "saved_model", "c_array", "onnx"),
    "tflite": _QUANTISED,
}
_WHY_NO_TECHNIQUE: dict[ModelKind, str] = {
    "graph": "its layers and how to train them are not in the file",
    "tflite": "it is already converted",
    "onnx": "its layers and how to train them are not in the file",
}
_WHY_NO_OUTPUT: dict[ModelKind, str] = {
    "graph": "there is no Keras network to write",
    "tflite": "it is not converted back",
}
_HINTS: dict[ModelKind, str] = {
    "graph": "upload the .keras or .h5 file that it was exported from: everything works on those",
    "tflite": "upload the .keras or .h5 file that it was converted from: everything works on those",
    "onnx": "upload the PyTorch model, by featherweight.torch.save(model, example_inputs, 'model.pt2'), or "
    "the .keras or .h5 file that it was exported from: everything works on those",
}
_KIND_OF_FORMAT: dict[str, ModelKind] = {
    "keras_zip": "keras",
    "hdf5": "keras",
    "tflite": "tflite",
    "pt2": "pt2",
    "onnx": "onnx",
}


def framework_of(format_: str) -> str:
    """The framework that models of a format belong to: whose backend, workers and queue are theirs. Those of
    ONNX are PyTorch's, where ONNX Runtime's quantiser is."""
    return "torch" if format_ in ("pt2", "onnx") else "tensorflow"


def abilities(kind: ModelKind) -> Abilities:
    """What can be done to a model of that kind."""
    rows = [entry for entry in ROWS if entry.framework == framework_of(kind)]
    every = tuple(entry.technique for entry in rows)
    formats = tuple(dict.fromkeys(output for entry in rows for output in entry.outputs))
    can, out = _TECHNIQUES.get(kind, every), _OUTPUTS.get(kind, formats)
    return Abilities(
        kind=kind,
        title=_TITLES[kind],
        techniques=tuple(name for name in every if name in can),
        outputs=tuple(name for name in formats if name in out),
        refused_techniques={name: _WHY_NO_TECHNIQUE[kind] for name in every if name not in can},
        refused_outputs={name: _WHY_NO_OUTPUT[kind] for name in formats if name not in out},
        hint=_HINTS.get(kind),
    )


def techniques() -> list[Technique]:
    """The catalogue for callers, with the formats of each technique for each kind of model."""
    rows = {(entry.technique, entry.framework): entry for entry in ROWS}
    found = []
    for entry in catalogue_techniques():
        of_kind = {
            kind: [
                name for name in rows[entry.technique, framework_of(kind)].outputs if name in known.outputs
            ]
            for kind in KINDS
            if entry.technique in (known := abilities(kind)).techniques
        }
        found.append(entry.model_copy(update={"outputs_of_kind": of_kind}))
    return found


def kind_of_format(format_: str) -> ModelKind | None:
    """The kind of a file by its format, as tasks.compression.formats and the service name them; None for
    archives, of which only what is in them tells."""
    return _KIND_OF_FORMAT.get(format_)


def unable(spec: CompressionSpec, kind: ModelKind, why: str | None = None) -> list[Inability]:
    """What of `spec` cannot be done to a model of that kind, in the order of the spec; techniques that the
    framework does not have at all are tasks.compression.catalogue.support's. `why` says of this very file
    why it is of no better kind, for the detail."""
    known = abilities(kind)
    because = f" ({why})" if why else ""
    found = [
        Inability(
            f"/steps/{index}/technique",
            "unsupported_technique",
            f"{step.technique} cannot be done to {known.title}{because}: "
            f"{known.refused_techniques[step.technique]}; offered: {', '.join(known.techniques)}",
            known.hint,
        )
        for index, step in enumerate(spec.steps)
        if step.technique in known.refused_techniques
    ]
    if framework_of(kind) == "tensorflow" and spec.steps[-1:] and spec.steps[-1].technique == "quantize":
        found += _without_integers(spec, known, because)
    if kind == "onnx":
        found += _beyond_onnx(spec)
    found += [
        Inability(
            f"/outputs/{index}",
            "unsupported_output",
            f"{known.title}{because} cannot be delivered as {output}: {known.refused_outputs[output]}; "
            f"offered: {', '.join(known.outputs)}",
            known.hint,
        )
        for index, output in enumerate(spec.outputs)
        if output in known.refused_outputs
    ]
    return found


def _beyond_onnx(spec: CompressionSpec) -> list[Inability]:
    """Of quantize steps, what none of the outputs can hold."""
    found = []
    for index, step in enumerate(spec.steps):
        if not isinstance(step, Quantize):
            continue
        reasons = [lacking(output, step) for output in spec.outputs]
        if reasons[0] is not None and all(reasons):
            found.append(Inability(f"/steps/{index}/scheme", "unsupported_output", reasons[0], _ONNX_SCHEMES))
        if step.io_dtype != "float32" and PROGRAMS.isdisjoint(spec.outputs):
            why = "inputs and outputs of other formats than tflite and c_array stay float32"
            found.append(Inability(f"/steps/{index}/io_dtype", "unsupported_technique", why, "leave it out"))
    return found


_ONNX_SCHEMES = (
    "full_int8, dynamic_int8 and float16 work on an .onnx, per channel or per tensor; the others on the "
    "output tflite"
)


def _without_integers(spec: CompressionSpec, known: Abilities, because: str) -> list[Inability]:
    if not PROGRAMS.isdisjoint(spec.outputs):
        return []
    detail = f"{known.title}{because} is quantised as tflite or c_array; the outputs asked for hold floats"
    return [
        Inability("/outputs", "unsupported_output", detail, "add the output tflite, or leave out quantize")
    ]
