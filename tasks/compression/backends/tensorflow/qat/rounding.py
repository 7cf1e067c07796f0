"""What quantisation-aware training does in a training: it wraps the network, and converts it in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from featherweight.spec import QuantizeAware
from tasks.compression.backends.tensorflow.layers import has_matrices, placed_layers
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.predict import predict
from tasks.compression.backends.tensorflow.qat.delivery import converted, stored_types
from tasks.compression.backends.tensorflow.qat.keeping import Keeping
from tasks.compression.backends.tensorflow.qat.ranges import calibrate, settle_weights
from tasks.compression.backends.tensorflow.qat.request import Chosen, chosen
from tasks.compression.backends.tensorflow.qat.simulation import Simulation, simulated
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.litert import Program
from tasks.compression.outputs import PROGRAMS
from tasks.compression.pending import Pending
from tasks.compression.rounding_choice import CALIBRATED_ON, CALLED
from tasks.compression.rounding_report import ends_in_float, note
from tasks.compression.split import draw

__all__ = ["rounding_parts"]


def rounding_parts(
    network: Network, pending: Pending[QuantizeAware], steps: int, context: Context
) -> Sequence[TrainingPart]:
    """Those of a training that carries out a quantize_aware step: what rounds first, then what keeps.

    CompressionError layer_not_supported for a network that cannot be rounded as asked."""
    choice = chosen(network.model, pending.step, pending.pointer)
    simulation = simulated(network.model, choice.quantized, choice.norms, pending.step)
    keeping = Keeping(network, simulation, steps, context)
    called = CALLED[keeping.zeros, keeping.shared_values]
    return [Rounding(simulation, choice, pending, context, called), keeping]


class Rounding(TrainingPart):
    """Trains a simulation in the network's place; `called` names what that is in the report."""

    def __init__(
        self,
        simulation: Simulation,
        choice: Chosen,
        pending: Pending[QuantizeAware],
        context: Context,
        called: str,
    ) -> None:
        self._simulation = simulation
        self._choice = choice
        self._step = pending.step
        self._pointer = pending.pointer
        self._context = context
        self._called = called
        self._makes_file = not context.lost or not PROGRAMS.isdisjoint(context.outputs)

    def wrap(self, model: Any) -> Any:
        """Converts a first time: what the converter refuses is said before the training, not after it. Where
        the file is left out, the float network learns to be rounded all the same."""
        data, simulation = self._context.training_data, self._simulation
        calibrate(simulation.model, data.x[draw(data.train, CALIBRATED_ON, self._context.seed)])
        if self._makes_file:
            try:
                self._check_ends(converted(simulation, self._step))
            except CompressionError as error:
                if error.code != "conversion_failed":
                    raise
                self._makes_file = False
                self._context.leave_out(PROGRAMS, error)
        return simulation.model

    def unwrap(self, model: Any) -> Any:
        settle_weights(model)
        return self._simulation.floats()

    def outcome(self, network: Network, taken: int, context: Context) -> Network:
        if not self._makes_file:
            return network
        content = converted(self._simulation, self._step)
        types = stored_types(self._simulation, content)
        note(content, types, self._step, self._choice, self._matrices(), self._called, context)
        data = context.training_data
        simulated = predict(self._simulation.model, data.x[data.test])
        return replace(network, tflite=content, simulated=simulated)

    def _matrices(self) -> list[str]:
        places = placed_layers(self._simulation.source)
        return [place.path for place in places if has_matrices(place.layer)]

    def _check_ends(self, content: bytes) -> None:
        ends = [dtype for _, dtype, _ in Program(content).signature()]
        if self._step.io_dtype == "int8" and set(ends) != {"int8"}:
            raise ends_in_float(self._pointer)
