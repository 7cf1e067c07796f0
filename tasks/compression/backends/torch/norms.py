"""Batch normalisation in a training: frozen where it is asked for, and in batches of one sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.compression.backends.torch._framework import fx, nn

__all__ = ["Norms"]

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Norms:
    """Those of `model` that normalise by the statistics of a batch."""

    def __init__(self, model: fx.GraphModule) -> None:
        self.layers = [
            layer for layer in model.modules() if isinstance(layer, _KINDS) and layer.running_mean is not None
        ]
        self._frozen = False

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """They compute as in inference and do not change."""
        held = [value for layer in self.layers for value in layer.parameters() if value.requires_grad]
        self._frozen = True
        for value in held:
            value.requires_grad_(False)
        try:
            yield
        finally:
            self._frozen = False
            for value in held:
                value.requires_grad_(True)

    def begin_epoch(self) -> None:
        """After the model was put into training."""
        self._train(not self._frozen)

    @contextmanager
    def of(self, samples: int) -> Iterator[None]:
        """For a batch of so many: one sample has no spread, and is normalised as in inference."""
        alone = samples == 1 and not self._frozen
        if alone:
            self._train(False)
        try:
            yield
        finally:
            if alone:
                self._train(True)

    def _train(self, training: bool) -> None:
        for layer in self.layers:
            layer.train(training)
