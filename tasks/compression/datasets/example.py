"""``tf.train.Example``, read by protobuf from its description: no framework is loaded for it.

Example.features (1) -> Features.feature (1): map<string, Feature>
Feature.kind: bytes_list (1) | float_list (2) | int64_list (3), each with its values (1)
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from tasks.compression.errors import CompressionError

__all__ = ["features_of"]

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "featherweight.example"


def features_of(record: bytes, number: int) -> Any:
    """The features by their names. CompressionError bad_data where the record is no Example."""
    try:
        return _EXAMPLE.FromString(record).features.feature
    except (message.DecodeError, RecursionError) as error:
        raise CompressionError("bad_data", f"record {number} is no tf.train.Example") from error


def _example_class() -> Any:
    # A pool of its own: TensorFlow has these messages, under other names, in the common one.
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package=_PACKAGE, syntax="proto3")
    for name, kind in (
        ("BytesList", _Field.TYPE_BYTES),
        ("FloatList", _Field.TYPE_FLOAT),
        ("Int64List", _Field.TYPE_INT64),
    ):
        _field(file.message_type.add(name=name), "value", 1, kind, repeated=True)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), start=1):
        of = f".{_PACKAGE}.{''.join(part.capitalize() for part in name.split('_'))}"
        _field(feature, name, number, _Field.TYPE_MESSAGE, of=of).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    _field(entry, "key", 1, _Field.TYPE_STRING)
    _field(entry, "value", 2, _Field.TYPE_MESSAGE, of=f".{_PACKAGE}.Feature")
    of = f".{_PACKAGE}.Features.FeatureEntry"
    _field(features, "feature", 1, _Field.TYPE_MESSAGE, of=of, repeated=True)
    example = file.message_type.add(name="Example")
    _field(example, "features", 1, _Field.TYPE_MESSAGE, of=f".{_PACKAGE}.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


def _field(
    owner: Any, name: str, number: int, kind: Any, *, of: str | None = None, repeated: bool = False
) -> Any:
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    return owner.field.add(name=name, number=number, type=kind, type_name=of, label=label)


_EXAMPLE = _example_class()
