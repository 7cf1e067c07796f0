"""What a quantize_aware step will do to a PyTorch model."""

from __future__ import annotations

from collections import Counter

from featherweight.spec import QuantizeAware
from tasks.compression.backends.torch.plans.operations import is_exact, ranks, single_channels
from tasks.compression.backends.torch.qat.support import FOLDED_INTO, NORMS, obstacle
from tasks.compression.outline.facts import Call, Outline
from tasks.compression.planning.state import Context, State
from tasks.compression.planning.techniques.quantize_aware import chosen, planned
from tasks.compression.rounding_choice import Support

__all__ = ["check", "plan"]


def check(outline: Outline, step: QuantizeAware, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found, layer_not_supported."""
    chosen(outline, step, pointer, _support(outline))


def plan(state: State, step: QuantizeAware, context: Context) -> State:
    outline = state.outline
    choice, axes = chosen(outline, step, context.pointer, _support(outline)), ranks(outline)
    return planned(
        state,
        step,
        context,
        choice,
        # There is no kernel for depthwise convolutions with fewer than 8 bits.
        narrow=lambda layer: not single_channels(layer),
        exact=lambda layer: is_exact(layer, axes),
    )


def _support(outline: Outline) -> Support:
    layers = {layer.path: layer for layer in outline.listed()}
    times = Counter(call.layer for call in outline.calls)
    obstacles = {
        path: "the network calls it at several places"
        if times[path] > 1
        else obstacle(layer.kind, int(layer.config.get("groups", 1)))
        for path, layer in layers.items()
    }
    users: dict[int, list[Call]] = {}
    for call in outline.calls:
        for number in dict.fromkeys(call.inputs):
            users.setdefault(number, []).append(call)
    folds = {}
    for call in outline.calls:
        after = [each for number in call.outputs for each in users.get(number, ())]
        ends = any(number in outline.outputs for number in call.outputs)
        if ends or len(after) != 1 or call.layer not in layers or layers[call.layer].kind not in FOLDED_INTO:
            continue
        if after[0].layer in layers and layers[after[0].layer].kind in NORMS:
            folds[after[0].layer] = call.layer
    norms = frozenset(path for path, layer in layers.items() if layer.kind in NORMS)
    return Support(obstacles, norms, folds)
