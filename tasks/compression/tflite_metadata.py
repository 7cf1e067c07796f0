"""What a ``.tflite`` says of itself, by TFLite's metadata schema, version 1.0 (identifier M001).

A table ModelMetadata is stored in a buffer that the model names TFLITE_METADATA. Files it mentions, here
the labels of the output's classes, follow the model in a zip archive: one appended to another file is
read from its end. No program's answers depend on any of it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import flatbuffers

from featherweight.spec import TfliteMetadata
from tasks.compression.errors import CompressionError
from tasks.compression.facts import ModelFacts
from tasks.compression.tflite import ends, with_entry

__all__ = ["ENTRY", "LABELS", "check_labels", "described"]

ENTRY = "TFLITE_METADATA"
LABELS = "labels.txt"

_IDENTIFIER = b"M001"
_PARSER = "1.0.0"  # the oldest that understands every field written here
_AXIS_LABELS = 2  # AssociatedFileType.TENSOR_AXIS_LABELS: one for each value of the tensor
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)

Slots = Sequence[int | str | None]
"""The fields of a table by their number: the place of something written before, a text, or nothing."""


def check_labels(metadata: TfliteMetadata | None, facts: ModelFacts) -> None:
    """CompressionError invalid_request where there are not as many labels as the output has classes."""
    if metadata is None or not metadata.labels:
        return
    if len(facts.outputs) != 1:
        raise _mismatch(
            f"labels are for a model with one output, and this one has {len(facts.outputs)}", "leave them out"
        )
    classes = facts.outputs[0][-1] if facts.outputs[0] else None
    if classes != len(metadata.labels):
        raise _mismatch(
            f"there are {len(metadata.labels)} labels, and the last axis of the output has {classes} values",
            "give one label for each value, in their order",
        )


def described(content: bytes, metadata: TfliteMetadata) -> bytes:
    """The same program with `metadata` in it, and with its labels, where it has some, as `LABELS`."""
    inputs, outputs = ends(content)
    written = with_entry(content, ENTRY, _model_metadata(metadata, inputs, outputs))
    return _with_file(written, LABELS, "\n".join(metadata.labels) + "\n") if metadata.labels else written


def _model_metadata(metadata: TfliteMetadata, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    builder = flatbuffers.Builder(1024)
    files = [_table(builder, [LABELS, None, None, None], {2: _AXIS_LABELS})] if metadata.labels else []
    associated = _vector(builder, files)
    taken = _vector(builder, [_table(builder, [name, *[None] * 6]) for name in inputs])
    given = _vector(builder, [_table(builder, [name, *[None] * 5, associated]) for name in outputs])
    graphs = _vector(builder, [_table(builder, [None, None, taken, given, None, None, None])])
    root = _table(
        builder,
        [
            metadata.name or None,
            metadata.description or None,
            metadata.version or None,
            graphs,
            metadata.author or None,
            metadata.license or None,
            None,
            _PARSER,
        ],
    )
    builder.Finish(root, _IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: flatbuffers.Builder, slots: Slots, small: dict[int, int] | None = None) -> int:
    """Write a table whose fields are texts and things written before; `small` are those of one byte."""
    places = [builder.CreateString(value) if isinstance(value, str) else value for value in slots]
    builder.StartObject(len(slots))
    for slot, place in enumerate(places):
        if place is not None:
            builder.PrependUOffsetTRelativeSlot(slot, place, 0)
    for slot, value in (small or {}).items():
        builder.PrependInt8Slot(slot, value, 0)
    return int(builder.EndObject())


def _vector(builder: flatbuffers.Builder, places: Sequence[int]) -> int | None:
    """None for an empty one, which is left out."""
    if not places:
        return None
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())


def _with_file(content: bytes, name: str, text: str) -> bytes:
    packed = io.BytesIO(content)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), text.encode())
    return packed.getvalue()


def _mismatch(detail: str, hint: str) -> CompressionError:
    return CompressionError("invalid_request", detail, hint=hint, pointer="/tflite_metadata/labels")
