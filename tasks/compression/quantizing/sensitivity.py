"""Which layers quantisation hurts: one pass of a float file and its quantised copy, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.compression.quantizing.inside import Inside
from tasks.compression.quantizing.tracing import Traced
from tasks.compression.samples import Array, Tensors

__all__ = ["SAMPLES", "LayerError", "layer_errors"]

SAMPLES = 32


@dataclass(frozen=True)
class LayerError:
    """`snr_db` is the power of the layer's float output over that of the quantised one's error, `cosine` that
    of the angle between the two, over all samples; `added` the share of noise in its output beyond what was
    in its input. All include what earlier layers did, but for `added`."""

    layer: str
    snr_db: float
    cosine: float
    added: float


@dataclass
class _Sums:
    signal: float = 0.0
    noise: float = 0.0
    product: float = 0.0
    other: float = 0.0

    def add(self, reference: Array, values: Array) -> None:
        ours = reference.astype(np.float64).ravel()
        # What is not finite carries no signal.
        theirs = np.nan_to_num(values.astype(np.float64).ravel(), nan=0.0, posinf=0.0, neginf=0.0)
        self.signal += float(ours @ ours)
        self.other += float(theirs @ theirs)
        self.product += float(ours @ theirs)
        self.noise += float(np.square(ours - theirs).sum())

    @property
    def share(self) -> float:
        """Of noise in signal."""
        return self.noise / self.signal if self.signal > 0 else 0.0

    @property
    def snr_db(self) -> float:
        # 200 dB is beyond float32: no difference at all.
        return min(200.0, -10 * math.log10(self.share)) if self.share > 0 else 200.0

    @property
    def cosine(self) -> float:
        size = math.sqrt(self.signal * self.other)
        return self.product / size if size > 0 else 1.0


def layer_errors(
    reference: bytes, quantized: bytes, traced: Sequence[Traced], samples: Tensors
) -> list[LayerError]:
    """An entry for each traced layer with weights, the most harmful first, of the two files' inner tensors
    for `samples`, of which SAMPLES are enough. Layers whose output is not in both files are left out."""
    layers = [item for item in traced if item.layer is not None and item.operation.weights is not None]
    pair = Inside(reference), Inside(quantized)
    names = {name for item in layers for name in (*item.operation.inputs, *item.operation.outputs)}
    shared = [name for name in names if all(name in one.places for one in pair)]
    sums = {name: _Sums() for name in shared}
    for index in range(len(samples)):
        for one in pair:
            one.run(samples[index : index + 1])
        for name in shared:
            sums[name].add(pair[0].value(name), pair[1].value(name))
    found: dict[str, LayerError] = {}
    for item in layers:
        entry = _error(item, sums)
        if entry is not None and (entry.layer not in found or entry.added > found[entry.layer].added):
            found[entry.layer] = entry
    return sorted(found.values(), key=lambda entry: -entry.added)


def _error(item: Traced, sums: dict[str, _Sums]) -> LayerError | None:
    output = sums.get(item.operation.outputs[0])
    if output is None or item.layer is None:
        return None
    before = max((sums[name].share for name in item.operation.inputs if name in sums), default=0.0)
    added = max(0.0, output.share - before)
    return LayerError(item.layer, round(output.snr_db, 3), round(output.cosine, 6), added)
