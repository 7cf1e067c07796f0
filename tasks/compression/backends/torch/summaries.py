"""The sparsity of every pruned weight over a training, as a file that TensorBoard reads when it is unpacked.

TensorBoard's events are few: a version, and numbers by name and step. They are written here, since PyTorch's
own writer needs TensorBoard to be installed where the training runs.
"""

from __future__ import annotations

import io
import struct
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tasks.compression.backends.torch.training_parts import TrainingPart
from tasks.compression.resuming import State

__all__ = ["Summaries", "checksum"]

_CASTAGNOLI = 0x82F63B78


class Summaries:
    """What `parts` tell at the beginning of each epoch and at the end, and the metrics of each epoch. Used as
    a context."""

    def __init__(self, parts: Sequence[TrainingPart]) -> None:
        self._parts = parts
        self._begun = 0
        self._written = bytearray(_record(_event(0, b"\x1a" + _sized(b"brain.Event:2"))))

    def __enter__(self) -> Summaries:
        return self

    def __exit__(self, *_: object) -> None:
        self._written.clear()

    def epoch_begins(self, epoch: int, steps: int) -> None:
        """The epoch of that number, from 0, after so many optimiser steps."""
        if epoch < self._begun:
            return  # an earlier attempt has written it
        self._begun = epoch + 1
        self._write({name: value for part in self._parts for name, value in part.summary().items()}, steps)

    def epoch_ended(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._write({f"epoch_{name}": value for name, value in metrics.items()}, epoch)

    def training_ended(self, steps: int) -> None:
        self.epoch_begins(self._begun, steps)

    def state(self) -> State:
        """What has been written so far."""
        return State({"begun": self._begun}, [np.frombuffer(bytes(self._written), np.uint8)])

    def resume(self, state: State) -> None:
        self._begun = state.told["begun"]
        self._written = bytearray(state.arrays[0].tobytes())

    def archive(self) -> bytes:
        """The events as ``tar.gz``, under a name that tells nothing of this machine."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            entry = tarfile.TarInfo("pruning/events.out.tfevents.0")
            entry.size = len(self._written)
            archive.addfile(entry, io.BytesIO(bytes(self._written)))
        return content.getvalue()

    def _write(self, values: Mapping[str, float], step: int) -> None:
        summary = b"".join(b"\x0a" + _sized(_value(name, value)) for name, value in values.items())
        if summary:
            self._written += _record(_event(step, b"\x2a" + _sized(summary)))


def _event(step: int, what: bytes) -> bytes:
    """A tensorflow.Event: wall_time is its field 1, step 2, file_version 3 and summary 5."""
    return b"\x09" + struct.pack("<d", time.time()) + b"\x10" + _varint(step) + what


def _value(name: str, value: float) -> bytes:
    """A tensorflow.Summary.Value: tag is its field 1, simple_value 2."""
    return b"\x0a" + _sized(name.encode()) + b"\x15" + struct.pack("<f", value)


def _sized(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _varint(number: int) -> bytes:
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F)
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def _record(content: bytes) -> bytes:
    """As a TFRecord: the length and the content, each with its checksum."""
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


def _masked(content: bytes) -> bytes:
    found = checksum(content)
    return struct.pack("<I", (((found >> 15) | (found << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def checksum(content: bytes) -> int:
    """CRC-32C."""
    found = 0xFFFFFFFF
    for byte in content:
        found = _TABLE[(found ^ byte) & 0xFF] ^ (found >> 8)
    return found ^ 0xFFFFFFFF


def _remainders() -> Iterator[int]:
    for number in range(256):
        remainder = number
        for _ in range(8):
            remainder = (remainder >> 1) ^ (_CASTAGNOLI if remainder & 1 else 0)
        yield remainder


_TABLE = tuple(_remainders())
