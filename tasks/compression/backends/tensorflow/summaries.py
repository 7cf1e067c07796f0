"""TFMOT's PruningSummaries of a training, as one file that TensorBoard reads when it is unpacked."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tasks.compression.backends.tensorflow._framework import sparsity

__all__ = ["Summaries"]


class Summaries(sparsity.PruningSummaries):  # type: ignore[misc]
    """The sparsity and threshold of every pruned weight at the beginning of each epoch and at the end, and
    the metrics of each epoch. Used as a context: the log folder goes with it."""

    def __init__(self, scratch: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(dir=scratch)
        super().__init__(log_dir=self._folder.name, write_graph=False)
        self._epochs = 0

    def __enter__(self) -> Summaries:
        return self

    def __exit__(self, *_: object) -> None:
        self._file_writer.close()
        self._folder.cleanup()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        self._epochs = epoch + 1

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        # TFMOT writes when an epoch begins: the last masks would be missing.
        self.on_epoch_begin(self._epochs)
        super().on_train_end(logs)

    def archive(self) -> bytes:
        """The event files as ``tar.gz``, under names that tell nothing of this machine."""
        content = io.BytesIO()
        root = Path(self._folder.name)
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            for folder in sorted({path.parent for path in root.rglob("events.out.tfevents.*")}):
                for number, path in enumerate(sorted(folder.glob("events.out.tfevents.*"))):
                    name = folder.relative_to(root) / f"events.out.tfevents.{number}"
                    _add(archive, name.as_posix(), path.read_bytes())
        return content.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
