"""Post-training quantisation of the ``tflite`` output."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from featherweight.techniques.parts import LayerSelection, Part

__all__ = ["Quantize", "Sensitivity"]


class Sensitivity(Part):
    """Leave the layers that quantisation hurts most in float until the metric on the validation split
    is at most `max_drop` (0.01 is a percentage point) below the float model's, but no more than
    `max_float_layers` of them."""

    max_drop: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_float_layers: Annotated[int, Field(ge=1, le=1000, strict=True)] = 3


class Quantize(Part):
    """Post-training quantisation of the TFLite output; ``keras`` outputs keep float weights.

    float16       weights stored in 16 bits, computed in float
    dynamic_int8  weights int8 per channel, activations quantised while running; needs no data
    full_int8     weights and activations int8, activation ranges calibrated on
                  `calibration_samples` samples of the training split
    int16x8       weights int8, activations int16, calibrated likewise
    weight_only   weights of `weight_bits` (8, 4 or 2), computed in float; needs no data, but for ``gptq``
    dynamic       weights of `weight_bits`, activations int8 quantised while running; likewise

    `granularity` (one scale for each output channel, each tensor or each block of `block_size`
    weights) and `algorithm` (how scales are chosen; ``gptq`` also corrects the rounding, Frantar et
    al. 2023; ``octav`` Sakr et al. 2022; ``hadamard`` rotates first) are for ``weight_only`` and
    ``dynamic``; ``full_int8`` may be ``per_tensor`` too. `layers` not selected stay float. With
    `calibration_candidates` above 1 that many seeded calibration subsets are tried, and the best on
    the validation split is taken. `io_dtype` is the type of the model's inputs and outputs under
    ``full_int8``.
    """

    technique: Literal["quantize"]
    scheme: Literal["float16", "dynamic_int8", "full_int8", "int16x8", "weight_only", "dynamic"] = "full_int8"
    calibration_samples: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 200
    calibration_candidates: Annotated[int, Field(ge=1, le=32, strict=True)] = 1
    io_dtype: Literal["float32", "int8"] = "float32"
    weight_bits: Literal[8, 4, 2] = 8
    granularity: Literal["per_channel", "per_tensor", "blockwise"] = "per_channel"
    block_size: Literal[32, 64, 128, 256] = 32
    algorithm: Literal["min_max", "mse", "octav", "gptq", "hadamard"] = "min_max"
    layers: LayerSelection = LayerSelection()
    sensitivity: Sensitivity | None = None

    @model_validator(mode="after")
    def _combinable(self) -> Quantize:
        changed = [name for name in _OF_WEIGHTS if getattr(self, name) != _DEFAULTS[name]]
        if self.scheme == "full_int8" and self.granularity == "per_tensor":
            changed.remove("granularity")
        if changed and self.scheme not in ("weight_only", "dynamic"):
            raise ValueError(f"{', '.join(changed)}: only the schemes weight_only and dynamic have these")
        if self.io_dtype == "int8" and self.scheme != "full_int8":
            raise ValueError("io_dtype int8 goes with the scheme full_int8")
        calibrated = self.scheme in ("full_int8", "int16x8")
        if self.calibration_candidates > 1 and not calibrated:
            raise ValueError("calibration_candidates goes with the schemes full_int8 and int16x8")
        return self


_OF_WEIGHTS = ("weight_bits", "granularity", "block_size", "algorithm")
_DEFAULTS = {name: Quantize.model_fields[name].default for name in _OF_WEIGHTS}
