"""What TFMOT's PruningSummaries shows, as one file that TensorBoard reads when it is unpacked.

TFMOT's own callback needs TensorBoard to be installed where the training runs, with its web server. It writes
when an epoch begins, so that the last masks are missing; these are not here. The names are TFMOT's.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks.compression.backends.tensorflow._framework import keras, tf
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.resuming import State

__all__ = ["Summaries"]


class Summaries(keras.callbacks.Callback):  # type: ignore[misc]
    """The sparsity and threshold of every pruned weight at the beginning of each epoch and at the end, and
    the metrics of each epoch. Used as a context: the log folder goes with it."""

    def __init__(self, scratch: Path, parts: Sequence[TrainingPart]) -> None:
        super().__init__()
        self._parts = parts
        self._folder = tempfile.TemporaryDirectory(dir=scratch)
        self._writer = tf.summary.create_file_writer(self._folder.name)
        self._begun = self._epochs = 0

    def __enter__(self) -> Summaries:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._folder.cleanup()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        if epoch < self._begun:
            return  # an earlier attempt has written it
        self._begun = epoch + 1
        values = {name: value for part in self._parts for name, value in part.summary().items()}
        self._write(values, int(self.model.optimizer.iterations.numpy()))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._write({f"epoch_{name}": float(value) for name, value in (logs or {}).items()}, epoch)
        self._epochs = epoch + 1

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        self.on_epoch_begin(self._epochs)

    def state(self) -> State:
        """What has been written so far."""
        self._writer.flush()
        written = [np.fromfile(path, np.uint8) for path in self._files()]
        return State({"begun": self._begun, "epochs": self._epochs}, written)

    def resume(self, state: State) -> None:
        self._begun, self._epochs = state.told["begun"], state.told["epochs"]
        for number, content in enumerate(state.arrays):
            # Sorted before the new writer's own file, whose name has the time where this has a nought.
            content.tofile(Path(self._folder.name) / f"events.out.tfevents.0.{number:04}")

    def archive(self) -> bytes:
        """The event files as ``tar.gz``, under names that tell nothing of this machine."""
        self._writer.flush()
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            for number, path in enumerate(self._files()):
                entry = tarfile.TarInfo(f"pruning/events.out.tfevents.{number}")
                entry.size = path.stat().st_size
                with path.open("rb") as file:
                    archive.addfile(entry, file)
        return content.getvalue()

    def _files(self) -> list[Path]:
        return sorted(Path(self._folder.name).iterdir())

    def _write(self, values: Mapping[str, float], step: int) -> None:
        # tf.summary.scalar is a part of TensorBoard; writing its events is not.
        metadata = tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = "scalars"
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.write(name, tf.constant(value, tf.float32), step=step, metadata=metadata)
