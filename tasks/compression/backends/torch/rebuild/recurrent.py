"""Recurrent layers, which an export keeps as one call: LSTM, GRU and the simple ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.compression.backends.torch._framework import fx, nn
from tasks.compression.backends.torch.rebuild.held import Call, Held
from tasks.compression.backends.torch.rebuild.making import Converter, Made, in_training_mode, unfilled

__all__ = ["CONVERTERS"]

_LSTM_OUTPUTS = {0: (0,), 1: (1, 0), 2: (1, 1)}


def _recurrent(kind: type[nn.RNNBase], gates: int, **options: Any) -> Converter:
    def convert(call: Call) -> Made | None:
        held = [call.held.get(each) for each in call["params"]]
        if any(each is None or each.kind != "parameter" for each in held):
            return None
        if call["train"] and call["dropout"] > 0:
            raise in_training_mode(call.node, "a recurrent layer leaves values out")
        parameters: list[Held] = [each for each in held if each is not None]
        layer = _layer(call, kind, gates, [each.tensor.shape for each in parameters], options)
        if layer is None:
            return None
        names = [name for names in layer._all_weights for name in names]
        if len(names) != len(parameters):
            return None
        states = call["hx"]
        given = (call["input"],) if _zeros(states) else (call["input"], _state(states))
        unpacked = _LSTM_OUTPUTS if kind is nn.LSTM else {0: (0,), 1: (1,)}
        return Made(layer, given, dict(zip(names, parameters, strict=True)), unpacked=unpacked)

    return convert


def _layer(
    call: Call, kind: type[nn.RNNBase], gates: int, shapes: Sequence[Any], options: dict[str, Any]
) -> nn.Module | None:
    """A layer of these sizes; None where the weights are not of one."""
    hidden = shapes[0][0] // gates
    projected = shapes[1][1]
    more = dict(options)
    if projected != hidden:
        if kind is not nn.LSTM:
            return None
        more["proj_size"] = projected
    return unfilled(
        kind,
        shapes[0][1],
        hidden,
        call["num_layers"],
        bias=call["has_biases"],
        batch_first=call["batch_first"],
        dropout=float(call["dropout"]),
        bidirectional=call["bidirectional"],
        **more,
    )


def _zeros(states: Any) -> bool:
    """Whether the layer begins with zeros, as it does by itself."""
    every = states if isinstance(states, list | tuple) else [states]
    return all(isinstance(each, fx.Node) and str(each.target) == "aten.zeros.default" for each in every)


def _state(states: Any) -> Any:
    return tuple(states) if isinstance(states, list | tuple) else states


CONVERTERS: dict[str, Converter] = {
    "aten.lstm.input": _recurrent(nn.LSTM, 4),
    "aten.gru.input": _recurrent(nn.GRU, 3),
    "aten.rnn_tanh.input": _recurrent(nn.RNN, 1, nonlinearity="tanh"),
    "aten.rnn_relu.input": _recurrent(nn.RNN, 1, nonlinearity="relu"),
}
