"""Quantisation-aware training: the parts of a training that round as the file in integers will."""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.spec import QuantizeAware
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.pending import Pending

__all__ = ["rounding_parts"]


def rounding_parts(
    network: Network, pending: Pending[QuantizeAware], steps: int, context: Context
) -> Sequence[TrainingPart]:
    """What takes part in a training of `steps` optimiser steps with rounding, in order."""
    raise NotImplementedError
