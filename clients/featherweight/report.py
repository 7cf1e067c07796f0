"""The report of a job, version 1: what was done, to what, and what it cost.

Sizes are in bytes, times in seconds unless the name ends in ``_ms``, sparsity is the share of
zeros from 0 to 1. `original` describes the uploaded file, `outputs` every file delivered; the
accuracy of each is measured on the *file itself*, on a test split that neither training nor
calibration saw.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "REPORT_VERSION",
    "ClassChange",
    "DataCounts",
    "DataSource",
    "Difference",
    "EpochReport",
    "FileDigest",
    "Host",
    "Inference",
    "Latency",
    "LayerReport",
    "Measurement",
    "MissingOutput",
    "OperatorCount",
    "OutputMeasure",
    "Report",
    "ReportWarning",
    "StepReached",
    "StepReport",
    "Variant",
    "Verdict",
]

REPORT_VERSION: Final = 1

Verdict = Literal["smaller", "smaller_but_worse", "smaller_unverified", "not_smaller"]
"""The outcome in a word, by the gzipped size of the smallest output against the original's:

smaller             smaller, and the metric is not worse than the original's beyond chance
smaller_but_worse   smaller, and worse than the original beyond chance: the whole 95 % interval of
                    `difference`, which pairs the samples, is on the bad side
smaller_unverified  smaller, and there were no labels to measure the metric on
not_smaller         no output is smaller than the original

Of several outputs the worst counts: worse when one of them is, unverified when one has no labels.
"""


def _is_none(value: object) -> bool:
    return value is None


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class FileDigest(_Part):
    """A file that went in or came out. `role` is model, dataset or output."""

    role: Literal["model", "dataset", "output"]
    name: str
    bytes: int
    sha256: str


class Inference(_Part):
    """A value the caller left out: where it came from. `source` is spec, compiled_model,
    last_layer_and_labels, data or default. Of a model with several outputs `field` begins with the output's
    name and a slash."""

    field: str
    value: Any
    source: Literal["spec", "compiled_model", "last_layer_and_labels", "data", "default"]


class DataSource(_Part):
    """What was read of the data set, and how.

    `classes` are in the order of their numbers, where the data set names them: texts or class folders.
    `x_shape` is that of one sample as it was read, before a channel axis may have been added, `x_bytes` what
    all of them take decoded. `details` has what the format brings: of a table its columns, of images their
    sizes and what was done to them, of records their features.
    """

    format: Literal["npz", "csv", "parquet", "image_zip", "image_tar", "tfrecord"]
    x_shape: list[int]
    x_dtype: str
    x_bytes: int
    classes: list[str] | None = None
    details: dict[str, Any] = Field(default_factory=dict)


class DataCounts(_Part):
    """Samples in each split; the calibration samples are drawn from the training samples.

    `test_source` is ``caller`` when the data set brought its own test split."""

    samples: int
    train: int
    validation: int
    calibration: int
    test: int
    classes: int | None = None
    test_source: Literal["caller", "split"]
    source: DataSource | None = None


class EpochReport(_Part):
    """`epoch` counts from 1, anew in each `round` of a training that runs several times; null otherwise."""

    epoch: int
    round: int | None = None
    seconds: float
    metrics: dict[str, float]
    sparsity: float | None = None


class Measurement(_Part):
    """A metric on `n` test samples with its 95 % interval.

    Shares (accuracy) have the Wilson score interval (Wilson 1927), means (mean squared or absolute
    error) a seeded percentile bootstrap; `method` says which."""

    metric: str
    value: float
    low: float
    high: float
    n: int
    method: Literal["wilson", "bootstrap"]
    higher_is_better: bool = True
    confidence: float = 0.95


class StepReached(_Part):
    """The network after a step: gzipped, as a Keras file without optimiser state or as the ``.tflite`` (of an
    ``.onnx`` the ``.onnx``) that the step made of it, and its metric on the test split; of a model with
    several outputs by name too."""

    format: Literal["keras", "tflite", "pt2", "onnx"]
    gzip_bytes: int
    accuracy: Measurement | None = None
    by_output: dict[str, Measurement] | None = Field(default=None, exclude_if=_is_none)


class StepReport(_Part):
    """One step of the spec. `key` names the step's result by what made it (step and input);
    `reused` says that an earlier attempt had already made it. A training that went on from an earlier
    attempt's checkpoint has ``resumed_from_epoch`` (epochs that had ended) and ``resumed_from_step`` in
    `details`, one in rounds ``resumed_from_round``; `seconds` are those of the attempt that finished it,
    `epochs` all of the training's. `reached` is null for a step that changed nothing, or that the training
    after it carries out."""

    index: int
    technique: str
    seconds: float
    key: str
    reused: bool = False
    epochs: list[EpochReport] = Field(default_factory=list)
    details: dict[str, Any] = Field(default_factory=dict)
    reached: StepReached | None = None

    @property
    def taken_over(self) -> str | None:
        """What of the step is an earlier attempt's, in words; None for nothing."""
        if self.reused:
            return "finished by an earlier attempt"
        places = [
            f"{name} {self.details[key]}"
            for name, key in (("round", "resumed_from_round"), ("epoch", "resumed_from_epoch"))
            if self.details.get(key)
        ]
        return f"gone on with after {' and '.join(places)} of an earlier attempt" if places else None


class LayerReport(_Part):
    """A layer with weights, of the model after the last step before conversion.

    `parameters_before` are those it had in the original: more where channels were removed. Of a layer that
    a decomposition made, `made_from` is the original's layer it takes the place of, together with others;
    the one that kept the name has the parameters of that layer before, the others null, so that they are
    counted once. `sparsity_before` is that layer's.
    `target_sparsity` is null where the layer was not selected for pruning or could not be pruned;
    `skipped` then says why. `distinct_values_before` and `_after`, counted where the spec has a cluster step,
    are the most that one of the layer's kernels has, zero among them.

    `shape` is that of the layer's largest weight, `macs` the multiply-accumulates of one sample. `stored_as`
    is the type (several joined by a plus) of its weights in the ``.tflite`` output, or in the ``.keras``
    output where that is the only one; `bits` the widest of them. `snr_db` is the power of the layer's float
    output over that of the quantised file's error in it, of the first test samples, what earlier layers add
    included; null for a float file and for layers whose output is not in both files."""

    name: str
    kind: str
    parameters: int
    parameters_before: int | None = None
    sparsity_before: float
    sparsity_after: float
    target_sparsity: float | None = None
    distinct_values_before: int | None = None
    distinct_values_after: int | None = None
    shape: list[int] | None = None
    macs: int | None = None
    stored_as: str | None = None
    bits: int | None = None
    snr_db: float | None = None
    skipped: str | None = None
    made_from: str | None = None


class Latency(_Part):
    """Milliseconds an inference of batch 1 took in `runtime` on the worker's CPU."""

    p50_ms: float
    p95_ms: float
    runs: int
    threads: int
    runtime: str


class Difference(_Part):
    """By how much the metric changed against the original, `n` test samples paired: the output's value of
    each less the original's, and the mean's seeded percentile bootstrap interval (Efron 1979)."""

    metric: str
    value: float
    low: float
    high: float
    n: int
    method: Literal["paired_bootstrap"] = "paired_bootstrap"
    higher_is_better: bool = True
    confidence: float = 0.95


class ClassChange(_Part):
    """The share of the `n` test samples (or places in them) of the class `label` that are named rightly:
    `before` by the original, `after` by the output, and `change` from the one to the other."""

    label: int
    n: int
    before: float
    after: float
    change: float


class OperatorCount(_Part):
    """How often the operation `name` is in a ``.tflite``. Of these `in_float` compute in floating point, and
    `hybrid` take float inputs and multiply them by integer weights; the others are integer, or convert."""

    name: str
    count: int
    in_float: int
    hybrid: int


class OutputMeasure(_Part):
    """What was measured of one output of several. `accuracy` says by its metric's name where it is the
    agreement with the original, for want of labels.

    `difference` and `by_class` (the worst change first, 1,000 at most) compare with the original, by labels.
    `flipped` is the share of the test split's decisions that are not the original's. `calibration_error` is
    the expected calibration error of the probabilities, in 15 bins of equal width (Guo et al. 2017)."""

    accuracy: Measurement | None = None
    max_abs_difference: float | None = None
    agreement: float | None = None
    difference: Difference | None = None
    flipped: float | None = None
    calibration_error: float | None = None
    by_class: list[ClassChange] | None = None


class Variant(_Part):
    """One file: its size, and what was measured running it. Of a model with several outputs `by_output` has
    every one by its name; what it says is said here of the first that has labels, or of the first.

    `gzip_bytes` are of ``gzip -9``, `zstd_bytes` of ``zstd -9``. `distinct_weights` adds up how many values
    each kernel of the file takes, as stored; `macs` are one sample's multiply-accumulates, null where they
    cannot be counted. `peak_activation_bytes` is the most that tensors alive at the same time take, of one
    sample, which no runtime can do without; `arena_bytes` what LiteRT set aside to run one sample with its
    own kernels, variables and scratch included and the file's constants not, null where it does not tell."""

    name: str
    format: str
    bytes: int
    gzip_bytes: int
    zstd_bytes: int | None = None
    sha256: str
    parameters: int | None = None
    nonzero_parameters: int | None = None
    distinct_weights: int | None = None
    macs: int | None = None
    scheme: str | None = None
    input_dtype: str | None = None
    accuracy: Measurement | None = None
    latency: Latency | None = None
    peak_activation_bytes: int | None = None
    arena_bytes: int | None = None
    operators: list[OperatorCount] | None = None
    # |output - float reference| on the samples verified; null where nothing could be compared.
    max_abs_difference: float | None = None
    agreement: float | None = None
    difference: Difference | None = None
    flipped: float | None = None
    calibration_error: float | None = None
    by_class: list[ClassChange] | None = None
    compression_ratio: float | None = None
    by_output: dict[str, OutputMeasure] | None = Field(default=None, exclude_if=_is_none)


class ReportWarning(_Part):
    code: str
    message: str
    layer: str | None = None


class MissingOutput(_Part):
    """An output that was asked for and not made, because of what the problem of this `code` says; `layer` is
    the one that is to blame, where it is known."""

    output: str
    code: str
    detail: str
    hint: str | None = None
    layer: str | None = None


class Host(_Part):
    cpu: str
    cores: int
    memory_bytes: int
    platform: str
    # What confined the process that made this: Landlock's version and seccomp, or external.
    sandbox: str | None = None


class Report(_Part):
    """All of it. `spec` is the resolved spec: every default and ``auto`` replaced by its value.

    `baseline` is the original converted to a float ``.tflite`` without any compression: what the
    latencies of the outputs are compared with. `missing` are the outputs that could not be made, of a spec
    whose `on_unsupported` is ``skip``."""

    version: Literal[1] = REPORT_VERSION
    job_id: str | None = None
    created_at: datetime
    verdict: Verdict
    spec: dict[str, Any]
    seed: int
    inputs: list[FileDigest]
    files: list[FileDigest]
    inferred: list[Inference]
    data: DataCounts | None = None
    steps: list[StepReport]
    layers: list[LayerReport]
    original: Variant
    baseline: Variant | None = None
    outputs: list[Variant]
    missing: list[MissingOutput] = Field(default_factory=list)
    warnings: list[ReportWarning]
    versions: dict[str, str]
    host: Host
    seconds: float
