"""What several techniques share: bounded numbers and the selection of layers."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "AUTO",
    "Auto",
    "Frequency",
    "LayerPattern",
    "LayerSelection",
    "OnUnsupported",
    "OutputName",
    "Part",
    "Share",
    "Sparsity",
    "StepNumber",
]

AUTO: Final = "auto"
Auto = Literal["auto"]

OnUnsupported = Literal["error", "skip"]
Share = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]
Sparsity = Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)]
StepNumber = Annotated[int, Field(ge=0, le=10_000_000, strict=True)]
Frequency = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
OutputName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
LayerPattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Part(BaseModel):
    """Unknown keys are refused; values do not change and are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LayerSelection(Part):
    """Layers by name, as shell patterns (``*``, ``?``, ``[ab]``; case matters).

    A layer is selected when it matches one of `include` and none of `exclude`. A pattern that
    matches no layer of the model fails the job with ``layer_not_found``.
    """

    include: Annotated[tuple[LayerPattern, ...], Field(min_length=1, max_length=1000)] = ("*",)
    exclude: Annotated[tuple[LayerPattern, ...], Field(max_length=1000)] = ()
