"""How channels go through each kind of call: by the tables of layers and of operations.

A removed channel is as good as zero wherever it is *consumed*, that is, enters a kernel that mixes
channels. A rule is right if cutting all its axes leaves every other channel exactly as it was; so
normalisation over channels, or softmax, lets none be removed. What has no rule is Opaque: the channels that
go in and come out are kept, and the report says at which layer. Only exact classes of PyTorch's have rules.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.compression.backends.torch.structured.graph import Call, Layer
from tasks.compression.backends.torch.structured.layer_rules import LAYERS, MAKERS
from tasks.compression.backends.torch.structured.operation_rules import OPERATIONS
from tasks.compression.backends.torch.structured.placing import NONE, Rule, at, followed
from tasks.compression.structured.channels import Channels, Labels
from tasks.compression.structured.flows import Flow, Opaque

__all__ = ["flow"]


def flow(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """Apply the layer's rule, and note on the outputs along which axis channels go; Opaque if it has none or
    does not know the case at hand."""
    if not call.inputs:
        return _fixed(call, _origin(call))
    makes = call.layer.kind in MAKERS and _is_known(call.layer)
    if not makes and followed(call, inputs)[0].axis is None:
        return _fixed(call, call.inputs[0].why)
    try:
        if call.layer.shared_with is not None:
            raise Opaque(f"it shares weights with {call.layer.shared_with}")
        rule = _rule(call.layer)
        if rule is None:
            raise Opaque("channels cannot be followed through this kind of layer")
        return rule(call, inputs, channels)
    except Opaque as why:
        _fixed(call, at(call, str(why)))
        raise


def _rule(layer: Layer) -> Rule | None:
    if layer.module is None:
        return OPERATIONS.get(layer.kind)
    return LAYERS.get(layer.kind) if _is_known(layer) else None


def _is_known(layer: Layer) -> bool:
    return layer.module is not None and type(layer.module).__module__.startswith("torch.nn.modules.")


def _origin(call: Call) -> str:
    if call.layer.kind == "Input":
        return "they are joined to an input of the model"
    return f"they are joined to the constant {call.layer.path}"


def _fixed(call: Call, why: str) -> Flow:
    """Channels are not followed behind the call."""
    for tensor in call.outputs:
        tensor.axis, tensor.why = None, why
    return Flow(tuple(NONE for _ in call.outputs))
