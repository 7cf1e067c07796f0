"""Which of the layers that a quantize_aware step selects are rounded, and what is said of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from featherweight.spec import QuantizeAware
from tasks.compression.errors import CompressionError
from tasks.compression.selection import refused

__all__ = ["CALIBRATED_ON", "CALLED", "Chosen", "Support", "choose"]

CALIBRATED_ON = 256
"""Samples that the ranges of activations begin with."""

CALLED = {
    (False, False): "quantisation-aware training",
    (True, False): "sparsity-preserving quantisation-aware training (PQAT)",
    (False, True): "cluster-preserving quantisation-aware training (CQAT)",
    (True, True): "sparsity- and cluster-preserving quantisation-aware training (PCQAT)",
}
"""What it is called in the report, by whether zeros and whether shared values are kept."""


@dataclass(frozen=True)
class Support:
    """By the paths of layers: `obstacles` says why one cannot be rounded while training, None where it can;
    `norms` are the batch normalisations; `folds_into` names, for one of them, the convolution that LiteRT has
    as one operation with it."""

    obstacles: Mapping[str, str | None]
    norms: frozenset[str]
    folds_into: Mapping[str, str]

    def alone(self, paths: Iterable[str]) -> frozenset[str]:
        """The normalisations among `paths` without their convolution among them."""
        chosen = frozenset(paths)
        return frozenset(path for path in chosen & self.norms if self.folds_into.get(path) not in chosen)


@dataclass(frozen=True)
class Chosen:
    """Paths of layers: `quantized` are those to round, of these `norms` the normalisations that stand alone;
    `left_float` says why others that were selected cannot be rounded; `unselected` are the rest."""

    quantized: frozenset[str]
    norms: frozenset[str]
    left_float: Mapping[str, str]
    unselected: frozenset[str]


def choose(
    selected: Mapping[str, bool], everything: Iterable[str], known: Support, step: QuantizeAware, pointer: str
) -> Chosen:
    """What `step` rounds of the layers it selects, inputs apart; for each whether it has a matrix of weights.

    CompressionError layer_not_supported for a selected layer that cannot be rounded, where the step says
    ``error``, and when none with weights can.
    """
    quantized = frozenset(path for path in selected if known.obstacles[path] is None)
    left = {path: why for path in selected if (why := known.obstacles[path]) is not None}
    if left and step.on_unsupported == "error":
        path, why = next(iter(left.items()))
        raise refused(path, "quantisation-aware training", why, pointer)
    if not any(selected[path] for path in quantized):
        why = f": {next(iter(left.values()))}" if left else ""
        raise CompressionError(
            "layer_not_supported",
            f"no selected layer with weights can learn to be rounded{why}",
            hint="select other layers, or use quantize after training",
            pointer=f"{pointer}/layers",
        )
    rest = frozenset(everything) - quantized - left.keys()
    return Chosen(quantized, known.alone(quantized), left, rest)
