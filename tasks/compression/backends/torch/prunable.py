"""What of PyTorch layers can be pruned, and for which pattern none can."""

from __future__ import annotations

from tasks.compression.backends.torch.layers import LAYERS
from tasks.compression.backends.torch.prunability import no_pruning, obstacle
from tasks.compression.backends.torch.rules import global_rule, layer_rule
from tasks.compression.mask_plan import PruningRules

__all__ = ["PRUNING"]

PRUNING = PruningRules(
    layers=LAYERS,
    no_pruning=no_pruning,
    obstacle=obstacle,
    left_out=lambda layer, step: None,
    layer_rule=layer_rule,
    global_rule=global_rule,
)
