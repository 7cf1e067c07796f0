"""What of PyTorch layers can be pruned, and for which pattern none can."""

from __future__ import annotations

from featherweight.spec import Prune, XnnpackLatency
from tasks.compression.backends.torch.layers import LAYERS
from tasks.compression.backends.torch.prunability import no_pruning, obstacle
from tasks.compression.backends.torch.rules import global_rule, layer_rule
from tasks.compression.errors import CompressionError
from tasks.compression.mask_plan import PruningRules

__all__ = ["PRUNING", "refuse_xnnpack"]

PRUNING = PruningRules(
    layers=LAYERS,
    no_pruning=no_pruning,
    obstacle=obstacle,
    left_out=lambda layer, step: None,
    layer_rule=layer_rule,
    global_rule=global_rule,
)


def refuse_xnnpack(step: Prune, pointer: str) -> None:
    """CompressionError layer_not_supported for the pattern that no PyTorch model is faster with."""
    if isinstance(step.pattern, XnnpackLatency):
        raise CompressionError(
            "layer_not_supported",
            "XNNPACK's sparse kernels cannot run the model: they need the channels of images last, and a "
            ".tflite that is made of a PyTorch model has operations between its convolutions that they "
            "do not know",
            hint="prune with the pattern unstructured, or whole channels with the technique prune_channels",
            pointer=f"{pointer}/pattern",
        )
