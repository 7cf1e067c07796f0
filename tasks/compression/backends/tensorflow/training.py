"""The training function that Keras' fit() calls, traced once and without AutoGraph.

What fit() builds itself is rewritten from its source by AutoGraph and traced twice, since variables are
made on the way; for a small network that takes longer than the training. Keras' own layers, its
optimisers and TFMOT's wrappers use TensorFlow's control flow themselves, so the graph is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.tensorflow.training_parts import TrainingPart

__all__ = ["prepare_training"]


def prepare_training(model: Any, x: Any, y: Any, parts: Sequence[TrainingPart] = ()) -> None:
    """Give a compiled `model` its training function; `x` and `y`, arrays or tuples of them, are a sample or
    two to shape it by. `parts` have a word after every optimiser step, in their order."""
    _make_variables(model, x, y)
    model.train_function = tf.function(_steps(model, parts), autograph=False)


def _make_variables(model: Any, x: Any, y: Any) -> None:
    """All that the first training step would make: the optimiser's slots, and the metrics of the loss."""
    optimizer = model.optimizer
    if hasattr(optimizer, "_create_all_weights"):  # Keras' legacy optimisers
        optimizer._create_all_weights(model.trainable_variables)
    else:
        optimizer.build(model.trainable_variables)
    labels, outputs = tf.nest.map_structure(tf.constant, y), model(x, training=False)
    model.compiled_loss(labels, outputs, regularization_losses=model.losses)
    model.compiled_metrics.update_state(labels, outputs)
    model.reset_metrics()


def _steps(model: Any, parts: Sequence[TrainingPart]) -> Any:
    """One step, or as many as the model's `steps_per_execution` says at that time."""

    def step(batches: Any) -> Any:
        logs = model.train_step(next(batches))
        for part in parts:
            part.after_step()
        model._train_counter.assign_add(1)
        return logs

    def group(batches: Any) -> Any:
        def body(done: Any) -> Any:
            step(batches)
            return done + 1

        count = tf.cast(model._steps_per_execution, tf.int64)
        tf.while_loop(lambda done: done < count, body, [tf.constant(0, tf.int64)])
        return model.get_metrics_result()

    return step if int(model._steps_per_execution) == 1 else group
