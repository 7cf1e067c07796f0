"""The jobs of the MLPerf Tiny table: which file, with which samples, by which steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ROWS", "TinyModel", "TinyRow"]

PRUNED, INT8 = "pruned", "int8"

_HALF = {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}}
_INT8 = {"technique": "quantize", "scheme": "full_int8", "calibration_samples": 100, "io_dtype": "int8"}


@dataclass(frozen=True)
class TinyModel:
    """A published network: `file` in the data folder's ``mlperf_tiny``, `reference` the int8 file published
    beside it, `samples` of samples.SAMPLES.

    `training` is the step that carries out the pruning; a file that cannot be trained has none.
    """

    name: str
    title: str
    file: str
    reference: str
    samples: str
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TinyRow:
    """`model` sent with the steps of `job`."""

    model: TinyModel
    job: str

    @property
    def name(self) -> str:
        return f"{self.model.name}-{self.job}"

    @property
    def spec(self) -> dict[str, Any]:
        steps = [_HALF, dict(self.model.training), _INT8] if self.job == PRUNED else [_INT8]
        return {"steps": steps, "outputs": ["tflite"]}


_MODELS = (
    TinyModel(
        "ic",
        "ResNet-8, image classification",
        "ic/pretrainedResnet.h5",
        "ic/pretrainedResnet_quant.tflite",
        "cifar10",
        {"technique": "distill", "epochs": 4, "learning_rate_schedule": {"type": "cosine"}},
    ),
    TinyModel(
        "kws",
        "DS-CNN, keyword spotting",
        "kws/kws_ref_model",
        "kws/kws_ref_model.tflite",
        "keywords",
        {
            "technique": "distill",
            "epochs": 20,
            "batch_size": 16,
            "learning_rate": 1e-4,
            "freeze_batch_norm": True,
        },
    ),
    TinyModel(
        "vww",
        "MobileNetV1 0.25, visual wake words",
        "vww/vww_96.h5",
        "vww/vww_96_int8.tflite",
        "enlarged-images",
        {
            "technique": "distill",
            "weight": 1.0,
            "epochs": 5,
            "batch_size": 32,
            "learning_rate": 1e-4,
            "freeze_batch_norm": True,
        },
    ),
    TinyModel(
        "ad",
        "Autoencoder, anomaly detection",
        "ad/ad01.h5",
        "ad/ad01_int8.tflite",
        "reproducible-noise",
        {"technique": "finetune", "epochs": 20, "batch_size": 64, "learning_rate": 1e-3},
    ),
    TinyModel(
        "sww",
        "1D DS-CNN, streaming wake word",
        "sww/str_ww_ref_model.h5",
        "sww/str_ww_ref_model.tflite",
        "wake-words",
        {
            "technique": "finetune",
            "epochs": 10,
            "batch_size": 8,
            "learning_rate": 1e-4,
            "freeze_batch_norm": True,
        },
    ),
    TinyModel(
        "ic-float",
        "ResNet-8, float `.tflite`",
        "ic/pretrainedResnet.tflite",
        "ic/pretrainedResnet_quant.tflite",
        "cifar10",
    ),
    TinyModel(
        "vww-float",
        "MobileNetV1 0.25, float `.tflite`",
        "vww/vww_96_float.tflite",
        "vww/vww_96_int8.tflite",
        "enlarged-images",
    ),
    TinyModel(
        "ad-float",
        "Autoencoder, float `.tflite`",
        "ad/ad01_fp32.tflite",
        "ad/ad01_int8.tflite",
        "reproducible-noise",
    ),
)


def _rows() -> Iterator[TinyRow]:
    for model in _MODELS:
        if model.training:
            yield TinyRow(model, PRUNED)
        yield TinyRow(model, INT8)


ROWS: Mapping[str, TinyRow] = {row.name: row for row in _rows()}
