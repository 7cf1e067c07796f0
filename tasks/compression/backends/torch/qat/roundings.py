"""Values rounded as the integer file has them, gradients let through where nothing was cut off.

The straight-through estimator of Bengio et al. 2013, on the affine grids of Jacob et al. 2018: symmetric, one
for each output channel, for weights, asymmetric for activations.
"""

from __future__ import annotations

from typing import Any

from tasks.compression.backends.torch._framework import nn, torch

__all__ = ["RoundedActivation", "RoundedWeight", "channel_axis", "stored_bits"]

_DECAY = 0.99
_NARROWEST = 1e-3
_LOW, _HIGH = -128, 127


def stored_bits(layer: nn.Module, weight_bits: int) -> int:
    """Those that a file stores the weights of a layer in: there is no kernel for depthwise convolutions, and
    one of a single input channel becomes one, with fewer than 8."""
    depthwise = isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups == layer.in_channels
    return 4 if weight_bits <= 4 and not depthwise else 8


def channel_axis(layer: nn.Module) -> int:
    """The axis of the output channels in the weight of a layer."""
    return 1 if isinstance(layer, nn.ConvTranspose2d) else 0


class RoundedWeight(nn.Module):  # type: ignore[misc]
    """`layer`, computing with its weight rounded: to `weight_bits` first, and then to those the file has."""

    def __init__(self, layer: nn.Module, weight_bits: int) -> None:
        super().__init__()
        self.layer = layer
        self._bits = tuple(dict.fromkeys((weight_bits, stored_bits(layer, weight_bits))))

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        changed = {"weight": self.weight()}
        answer: torch.Tensor = torch.func.functional_call(self.layer, changed, given)
        return answer

    def weight(self) -> torch.Tensor:
        """As the file will have it, dequantised."""
        axis, value = channel_axis(self.layer), self.layer.weight
        others = [number for number in range(value.dim()) if number != axis]
        widest = value.detach().abs().amax(dim=others)
        # A channel without a weight has the range of the widest: its bias needs a scale.
        widest = torch.where(widest > 0, widest, widest.max().clamp_min(1e-12))
        zeros = torch.zeros_like(widest, dtype=torch.int32)
        for bits in self._bits:
            most = 2 ** (bits - 1) - 1
            value = torch.fake_quantize_per_channel_affine(value, widest / most, zeros, axis, -most, most)
        return value


class RoundedActivation(nn.Module):  # type: ignore[misc]
    """Rounds to 256 levels between the ends of a range that follows what it sees in training.

    `measuring` lets values pass and gathers their ranges, which `settle` then takes over.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.full((), _NARROWEST))
        self.measuring = False
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, values: Any) -> Any:
        """What is no tensor of floats, token ids or sizes, comes back as it is."""
        if not (isinstance(values, torch.Tensor) and values.is_floating_point()):
            return values
        if self.measuring:
            self._seen.append(_ends(values))
            return values
        if self.training:
            low, high = _ends(values)
            self.low.lerp_(low, 1 - _DECAY)
            self.high.lerp_(high, 1 - _DECAY)
        scale = ((self.high - self.low) / (_HIGH - _LOW)).clamp_min(1e-9)
        zero = (_LOW - torch.round(self.low / scale)).clamp(_LOW, _HIGH).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(values, scale, zero, _LOW, _HIGH)

    def settle(self, *, widest: bool) -> None:
        """Take over the ranges measured: their mean, or the widest."""
        self.measuring = False
        if not self._seen:
            return
        lows, highs = (torch.stack(ends) for ends in zip(*self._seen, strict=True))
        low, high = (lows.min(), highs.max()) if widest else (lows.mean(), highs.mean())
        self.low.copy_(low)
        # An activation that was always 0 keeps a range: nothing can be divided by none.
        self.high.copy_(high if high > low else low + _NARROWEST)
        self._seen.clear()


def _ends(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a range with 0 in it, which the grid has to hold exactly."""
    low, high = torch.aminmax(values.detach())
    return low.clamp_max(0), high.clamp_min(0)
