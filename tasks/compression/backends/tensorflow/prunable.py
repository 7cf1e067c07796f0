"""What of Keras layers can be pruned, and which models XNNPACK's sparse kernels run."""

from __future__ import annotations

from typing import Any

from featherweight.spec import Prune, XnnpackLatency
from tasks.compression.backends.tensorflow._framework import sparsity
from tasks.compression.backends.tensorflow.layers import LAYERS
from tasks.compression.backends.tensorflow.prunability import NOT_FOR_XNNPACK, no_pruning, obstacle
from tasks.compression.backends.tensorflow.rules import global_rule, layer_rule
from tasks.compression.errors import CompressionError
from tasks.compression.mask_plan import PruningRules

__all__ = ["PRUNING", "check_xnnpack"]


def check_xnnpack(model: Any, pointer: str) -> None:
    """CompressionError layer_not_supported for a model that XNNPACK's sparse kernels cannot run."""
    policy = _Policy()
    try:
        policy.ensure_model_supports_pruning(model)
    except ValueError as error:
        name = None if policy.refused is None else policy.refused.name
        raise CompressionError(
            "layer_not_supported",
            f"XNNPACK's sparse kernels cannot run the model: {error}" + (f" ({name})" if name else ""),
            hint="they take 1x1 convolutions between a padded 3x3 convolution of stride 2 on 3 channels and "
            "a GlobalAveragePooling2D; other networks can be pruned with the pattern unstructured",
            layer=name,
            pointer=f"{pointer}/pattern",
        ) from error


class _Policy(sparsity.PruneForLatencyOnXNNPack):  # type: ignore[misc]
    """TFMOT's policy, which says the kind of the layer it refuses; `refused` is the layer."""

    def __init__(self) -> None:
        self.refused: Any = None

    def _check_layer_support(self, layer: Any) -> bool:
        supported = bool(super()._check_layer_support(layer))
        if not supported:
            self.refused = layer
        return supported


def _left_out(layer: Any, step: Prune) -> str | None:
    if isinstance(step.pattern, XnnpackLatency) and not _Policy().allow_pruning(layer):
        return NOT_FOR_XNNPACK
    return None


PRUNING = PruningRules(
    layers=LAYERS,
    no_pruning=no_pruning,
    obstacle=obstacle,
    left_out=_left_out,
    layer_rule=layer_rule,
    global_rule=global_rule,
)
