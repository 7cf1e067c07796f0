"""TFRecord files of ``tf.train.Example``: what the features are, the spec declares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from featherweight.data import RecordFeature, RecordReading
from tasks.compression.datasets.classes import Classes, ordering
from tasks.compression.datasets.example import features_of
from tasks.compression.datasets.images import Decoder
from tasks.compression.datasets.read import Array, Read, Request, fitted_shape, named, nothing_there
from tasks.compression.datasets.recordframes import records
from tasks.compression.datasets.samplefile import SampleFile
from tasks.compression.errors import CompressionError

__all__ = ["read_records"]

_LISTED = 20
_TARGET = np.dtype(np.float32)


def read_records(request: Request, *, packed: bool) -> Read:
    """CompressionError invalid_request without a schema, column_missing, bad_data, shape_mismatch,
    dtype_not_allowed, label_out_of_range, array_too_large, too_few_samples."""
    schema = request.reading.tfrecord
    if schema is None:
        raise CompressionError(
            "invalid_request",
            f"a TFRecord file does not say what its features are; {_found(request, packed)}",
            hint="declare those to be read, the input and the label in data.tfrecord",
            pointer="/data/tfrecord",
        )
    reader = _Reader(request, schema)
    for number, record in enumerate(records(request.path, packed=packed), start=1):
        reader.take(features_of(record, number), number)
    return reader.finish()


def _found(request: Request, packed: bool) -> str:
    first = next(records(request.path, packed=packed), None)
    if first is None:
        raise nothing_there(request.path)
    features = features_of(first, 1)
    told = [f"{name} ({features[name].WhichOneof('kind') or 'empty'})" for name in sorted(features)[:_LISTED]]
    return f"the first record has {', '.join(told) or 'none'}"


class _Reader:
    def __init__(self, request: Request, schema: RecordReading) -> None:
        self._request = request
        self._schema = schema
        self._input = schema.features[schema.input]
        images = self._input.encoding == "image"
        self._decoder = Decoder(request.shape, request.reading.image) if images else None
        shape = self._decoder.shape if self._decoder else fitted_shape(self._input.shape, request.shape)
        self._samples = SampleFile(request.scratch / "x.bin", shape)
        self._labels: list[Any] = []
        self._classes = self._named_classes()

    def _named_classes(self) -> Classes | None:
        if self._schema.label is None:
            return None
        wanted = self._request.reading.classes
        text = self._schema.features[self._schema.label].encoding == "text"
        if wanted is None and not text:
            return None
        return Classes(wanted if isinstance(wanted, tuple) else None)

    def take(self, features: Any, number: int) -> None:
        self._samples.append(self._sample(features, number)[np.newaxis])
        if self._schema.label is not None:
            self._labels.append(self._label(features, self._schema.label, number))

    def _sample(self, features: Any, number: int) -> Array:
        name = self._schema.input
        if self._decoder is not None:
            return self._decoder.decode(_bytes(features, name, number), f"{name} of record {number}")
        values = _values(features, name, self._input, number)
        with np.errstate(over="ignore"):
            return values.astype(_TARGET).reshape(self._samples.shape)

    def _label(self, features: Any, name: str, number: int) -> Any:
        declared = self._schema.features[name]
        where = f"record {number}"
        if declared.encoding == "text":
            try:
                text = _bytes(features, name, number).decode()
            except UnicodeDecodeError:
                raise _fault("bad_data", f"{where}: {name} is no text in UTF-8", name) from None
            return self._classes.number(text, where) if self._classes else text
        values = _values(features, name, declared, number)
        if self._classes is None:
            return values
        if values.size != 1:
            raise _fault(
                "shape_mismatch", f"{where}: {name} has {values.size} values, and classes need one", name
            )
        value = values.reshape(-1)[0].item()
        return self._classes.number(str(int(value) if float(value).is_integer() else value), where)

    def finish(self) -> Read:
        if not self._samples.count:
            raise nothing_there(self._request.path)
        details: dict[str, Any] = {
            "records": self._samples.count,
            "input": self._schema.input,
            "label": self._schema.label,
            "features": {name: each.model_dump(mode="json") for name, each in self._schema.features.items()},
        }
        if self._decoder is not None:
            details |= self._decoder.details()
        names = None
        y = np.asarray(self._labels) if self._schema.label is not None else None
        if self._classes is not None and y is not None:
            names, place = self._classes.finish()
            y = place[y]
            details["class_order"] = ordering(self._classes.given, names)
        return Read(named(self._samples, y), names, details)


def _values(features: Any, name: str, declared: RecordFeature, number: int) -> Array:
    """The array that a feature holds, of the shape declared."""
    if declared.encoding == "raw":
        values = _raw(_bytes(features, name, number), name, declared, number)
    else:
        kind = _kind(features, name, number)
        if kind not in ("int64_list", "float_list"):
            raise _fault(
                "dtype_not_allowed", f"record {number}: {name} is a {kind}, and no list of numbers", name
            )
        raw = getattr(features[name], kind).value
        values = np.fromiter(raw, np.int64 if kind == "int64_list" else np.float32, len(raw))
    count = math.prod(declared.shape)
    if values.size != count:
        raise _fault(
            "shape_mismatch",
            f"record {number}: {name} has {values.size} values, and {count} are declared",
            name,
        )
    return values.reshape(declared.shape)


def _raw(content: bytes, name: str, declared: RecordFeature, number: int) -> Array:
    dtype = np.dtype(declared.dtype).newbyteorder("<")
    if len(content) % dtype.itemsize:
        raise _fault(
            "shape_mismatch", f"record {number}: {name} has {len(content)} bytes, no {declared.dtype}", name
        )
    return np.frombuffer(content, dtype).astype(declared.dtype)


def _bytes(features: Any, name: str, number: int) -> bytes:
    kind = _kind(features, name, number)
    values = getattr(features[name], kind).value
    if kind != "bytes_list" or len(values) != 1:
        raise _fault(
            "dtype_not_allowed",
            f"record {number}: {name} is a {kind} of {len(values)}, and no single bytes",
            name,
        )
    return bytes(values[0])


def _kind(features: Any, name: str, number: int) -> str:
    if name not in features:
        there = ", ".join(sorted(features)[:_LISTED]) or "none"
        raise _fault(
            "column_missing", f"record {number} has no feature {name!r}", name, hint=f"it has {there}"
        )
    kind = features[name].WhichOneof("kind")
    if kind is None:
        raise _fault("value_missing", f"record {number}: {name} is empty", name)
    return str(kind)


def _fault(code: str, detail: str, name: str, *, hint: str | None = None) -> CompressionError:
    pointer = "/data/tfrecord/features/" + name.replace("~", "~0").replace("/", "~1")
    return CompressionError(code, detail, hint=hint, pointer=pointer)
