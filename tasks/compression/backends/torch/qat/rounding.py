"""What quantisation-aware training does in a training: it wraps the network, and converts it in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from featherweight.spec import Cluster, QuantizeAware
from tasks.compression.backends.torch._framework import fx
from tasks.compression.backends.torch.layers import placed_layers, weights
from tasks.compression.backends.torch.masking import Masking
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.predict import predict
from tasks.compression.backends.torch.projection import Projection
from tasks.compression.backends.torch.qat.delivery import converted
from tasks.compression.backends.torch.qat.request import chosen
from tasks.compression.backends.torch.qat.simulation import calibrate, rounded_weights, simulated
from tasks.compression.backends.torch.training_parts import State, TrainingPart
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.litert import Program
from tasks.compression.outputs import PROGRAMS
from tasks.compression.pending import Pending
from tasks.compression.rounding_choice import CALIBRATED_ON, CALLED, Chosen
from tasks.compression.rounding_report import ends_in_float, note
from tasks.compression.samples import Tensors
from tasks.compression.split import draw
from tasks.compression.tflite import operations

__all__ = ["rounding_parts"]


def rounding_parts(
    network: Network, pending: Pending[QuantizeAware], steps: int, context: Context
) -> Sequence[TrainingPart]:
    """Those of a training that carries out a quantize_aware step: what rounds first, then what keeps zeros
    and shared values.

    CompressionError layer_not_found; layer_not_supported as rounding_choice.choose."""
    choice = chosen(network.model, pending.step, pending.pointer)
    shares = bool(network.shared or network.waiting(Cluster))
    keeping: Projection | Masking = (Projection if shares else Masking)(network, steps, context)
    rounding = Rounding(network, choice, pending, context, CALLED[keeping.zeros, shares])
    return [rounding, _OfNetwork(keeping, network.model)]


class Rounding(TrainingPart):
    """Trains a simulation in the network's place; `called` names what that is in the report."""

    def __init__(
        self,
        network: Network,
        choice: Chosen,
        pending: Pending[QuantizeAware],
        context: Context,
        called: str,
    ) -> None:
        self._network = network
        self._choice = choice
        self._step = pending.step
        self._pointer = pending.pointer
        self._context = context
        self._called = called
        self._makes_file = not context.lost or not PROGRAMS.isdisjoint(context.outputs)
        self._simulation = simulated(network, choice.quantized, pending.step.weight_bits)

    def wrap(self, model: fx.GraphModule) -> fx.GraphModule:
        """Converts a first time: what the converter refuses is said before the training, not after it. Where
        the file is left out, the float network learns to be rounded all the same."""
        calibrate(self._simulation, self._network.signature, self._samples())
        if self._makes_file:
            try:
                content, _ = converted(self._network, self._step, self._samples()[:2], self._floats())
                self._check_ends(content)
            except CompressionError as error:
                if error.code != "conversion_failed":
                    raise
                self._makes_file = False
                self._context.leave_out(PROGRAMS, error)
        return self._simulation

    def unwrap(self, model: fx.GraphModule) -> fx.GraphModule:
        return self._network.model

    def outcome(self, network: Network, taken: int, context: Context) -> Network:
        if not self._makes_file:
            return network
        simulation, samples = self._simulation, self._samples()
        calibrate(simulation, network.signature, samples, widest=True)
        rounded = replace(network, model=rounded_weights(network, simulation))
        content, types = converted(rounded, self._step, samples, self._floats())
        note(content, types, self._step, self._choice, self._matrices(), self._called, context)
        data = context.training_data
        answers = predict(simulation, network.signature, data.x[data.test])
        return replace(network, files={**network.files, "tflite": content}, simulated=answers)

    def _samples(self) -> Tensors:
        data = self._context.training_data
        return data.x[draw(data.train, CALIBRATED_ON, self._context.seed)]

    def _floats(self) -> frozenset[str]:
        return self._choice.unselected | self._choice.left_float.keys()

    def _matrices(self) -> list[str]:
        places = placed_layers(self._network.model)
        return [place.path for place in places if any(value.dim() > 1 for value in weights(place.layer))]

    def _check_ends(self, content: bytes) -> None:
        """Integers at an end that are made floats at once would be of no use."""
        graph = operations(content)
        names = {name for name, _, _ in Program(content).signature()}
        made_float = {name for item in graph if item.kind == "DEQUANTIZE" for name in item.inputs}
        made_integer = {name for item in graph if item.kind == "QUANTIZE" for name in item.outputs}
        if self._step.io_dtype == "int8" and names & (made_float | made_integer):
            raise ends_in_float(self._pointer)


class _OfNetwork(TrainingPart):
    """Another part, for the network whose layers the simulation shares."""

    def __init__(self, part: TrainingPart, model: fx.GraphModule) -> None:
        self._part, self._model = part, model
        self.settled = part.settled

    def wrap(self, model: fx.GraphModule) -> fx.GraphModule:
        self._part.wrap(self._model)
        return model

    def begin(self, model: fx.GraphModule) -> None:
        self._part.begin(self._model)

    def before_step(self, step: int) -> None:
        self._part.before_step(step)

    def after_step(self, step: int) -> None:
        self._part.after_step(step)

    def sparsity(self) -> float | None:
        return self._part.sparsity()

    def summary(self) -> Mapping[str, float]:
        return self._part.summary()

    def state_dict(self) -> State:
        return self._part.state_dict()

    def load_state_dict(self, state: State) -> None:
        self._part.load_state_dict(state)

    def unwrap(self, model: fx.GraphModule) -> fx.GraphModule:
        self._part.unwrap(self._model)
        return model

    def outcome(self, network: Network, taken: int, context: Context) -> Network:
        noted: Network = self._part.outcome(network, taken, context)
        return noted
