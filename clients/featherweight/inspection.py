"""An inspection, version 1: what is in a model file, and what can be done to it, told without running it.

Fields that end in ``_estimate`` are estimates; docs/inspection.md says how they are made. `possible` is null
where only a job can tell.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "INSPECTION_VERSION",
    "InspectedLayer",
    "InspectedObstacle",
    "InspectedOutput",
    "InspectedTechnique",
    "InspectedTensor",
    "InspectedTotals",
    "Inspection",
]

INSPECTION_VERSION: Final = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class InspectedObstacle(_Part):
    """Why something cannot be done, by a code of the problems (``/problems/<code>``); `layer` is the layer
    that is to blame, where one is."""

    code: str
    detail: str
    hint: str | None = None
    layer: str | None = None


class InspectedTensor(_Part):
    """An input or an output of the model. `shape` has the batch axis first, null for open sizes, and is null
    where the file does not tell."""

    name: str
    shape: list[int | None] | None = None


class InspectedLayer(_Part):
    """A layer, or an operation of a ``.tflite`` or ``.onnx``, in the order of the file. `layer` is the path
    that patterns of a spec match.

    `output_shape` is that of its first output in its first call; `macs` are those of all `calls` for one
    sample, null where they do not follow from the file. `dtype` is what its weights are stored as, several
    joined by a plus."""

    layer: str
    kind: str
    output_shape: list[int | None] | None = None
    calls: int
    parameters: int
    nonzero_parameters: int
    weight_bytes: int
    dtype: str | None = None
    macs: int | None = None


class InspectedTotals(_Part):
    """`macs` are for one sample, null where the file does not tell those of the layers in `macs_unknown`;
    sizes left open count as 1 in those of `macs_assumed`. `activation_bytes_peak_estimate` is the most that
    tensors alive at the same time take for one sample in float32, null where shapes are not known."""

    parameters: int
    nonzero_parameters: int
    weight_bytes: int
    macs: int | None = None
    macs_unknown: list[str] = Field(default_factory=list)
    macs_assumed: list[str] = Field(default_factory=list)
    activation_bytes_peak_estimate: int | None = None


class InspectedTechnique(_Part):
    """Whether a technique can be done to this model as `step`, everything else of it at its default.

    `layers` are those it would change or train, `left_alone` those with weights that it would leave as they
    are. Not possible, `why` says it; `possible` is null where only the job can tell, and `open` then says
    what of it. `outputs` are the formats that show the technique's effect and can be had of this model."""

    technique: str
    title: str
    step: dict[str, Any]
    needs_data: bool
    possible: bool | None
    why: InspectedObstacle | None = None
    open: str | None = None
    layers: list[str] = Field(default_factory=list)
    left_alone: list[InspectedObstacle] = Field(default_factory=list)
    outputs: list[str] = Field(default_factory=list)


class InspectedOutput(_Part):
    """Whether the model can be had in a format, not null but for layers that only a converter can judge."""

    output: str
    possible: bool | None
    why: InspectedObstacle | None = None
    open: str | None = None


class Inspection(_Part):
    """The answer of ``POST /v1/models/{id}/inspection``. `usable` is whether a job would take the model at
    all; if not, `problem` says why, and all that could be read is told nevertheless.

    `format` is keras_zip, hdf5, saved_model, tflite or what else the file is, `written_by` the program and
    version that wrote it, where the file says so. `kind` is what can be done to it: keras and pt2
    (everything), graph, tflite or onnx (quantised); `kind_reason` says of this file why no more."""

    object: Literal["inspection"] = "inspection"
    version: Literal[1] = INSPECTION_VERSION
    model_id: str | None = None
    filename: str | None = None
    sha256: str | None = None
    format: str
    framework: str
    kind: str | None = None
    kind_reason: str | None = None
    written_by: str | None = None
    bytes: int
    name: str | None = None
    usable: bool
    problem: InspectedObstacle | None = None
    inputs: list[InspectedTensor] = Field(default_factory=list)
    outputs: list[InspectedTensor] = Field(default_factory=list)
    layers: list[InspectedLayer] = Field(default_factory=list)
    totals: InspectedTotals | None = None
    techniques: list[InspectedTechnique] = Field(default_factory=list)
    formats: list[InspectedOutput] = Field(default_factory=list)
