"""``saved_model.pb``, read by protobuf from its description: no framework is loaded for it.

SavedModel.meta_graphs (2) -> MetaGraphDef: graph_def (2), saver_def (3), signature_def (5),
                                            asset_file_def (6)
GraphDef: node (1), library (2)    FunctionDefLibrary.function (1) -> FunctionDef: signature (1), node_def (3)
Only the fields that the gate looks at are described; protobuf passes the others by.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from tasks.compression.errors import CompressionError

__all__ = ["read_metadata", "read_saved_model"]

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "featherweight.saved_model"
_TEXT = "text"

# Message: {field: (number, type, repeated)}; a map is a repeated message of key (1) and value (2).
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "NameAttrList": {"name": (1, _TEXT, False), "attr": (2, "AttrEntry", True)},
    "ListValue": {"func": (9, "NameAttrList", True)},
    "AttrValue": {"list": (1, "ListValue", False), "func": (10, "NameAttrList", False)},
    "AttrEntry": {"key": (1, _TEXT, False), "value": (2, "AttrValue", False)},
    "NodeDef": {
        "name": (1, _TEXT, False),
        "op": (2, _TEXT, False),
        "input": (3, _TEXT, True),
        "attr": (5, "AttrEntry", True),
    },
    "OpDef": {"name": (1, _TEXT, False)},
    "FunctionDef": {"signature": (1, "OpDef", False), "node_def": (3, "NodeDef", True)},
    "GradientDef": {"function_name": (1, _TEXT, False), "gradient_func": (2, _TEXT, False)},
    "Library": {"function": (1, "FunctionDef", True), "gradient": (2, "GradientDef", True)},
    "GraphDef": {"node": (1, "NodeDef", True), "library": (2, "Library", False)},
    "SaverDef": {
        "filename_tensor_name": (1, _TEXT, False),
        "save_tensor_name": (2, _TEXT, False),
        "restore_op_name": (3, _TEXT, False),
    },
    "TensorInfo": {"name": (1, _TEXT, False)},
    "TensorEntry": {"key": (1, _TEXT, False), "value": (2, "TensorInfo", False)},
    "SignatureDef": {"inputs": (1, "TensorEntry", True), "outputs": (2, "TensorEntry", True)},
    "SignatureEntry": {"key": (1, _TEXT, False), "value": (2, "SignatureDef", False)},
    "AssetFileDef": {"filename": (2, _TEXT, False)},
    "MetaGraphDef": {
        "graph_def": (2, "GraphDef", False),
        "saver_def": (3, "SaverDef", False),
        "signature_def": (5, "SignatureEntry", True),
        "asset_file_def": (6, "AssetFileDef", True),
    },
    "SavedModel": {"meta_graphs": (2, "MetaGraphDef", True)},
    # keras_metadata.pb
    "SavedObject": {"identifier": (4, _TEXT, False), "metadata": (5, _TEXT, False)},
    "SavedMetadata": {"nodes": (1, "SavedObject", True)},
}


def read_saved_model(content: bytes) -> Any:
    """CompressionError bad_model for bytes that are no SavedModel."""
    return _read("SavedModel", content)


def read_metadata(content: bytes) -> Any:
    return _read("SavedMetadata", content)


def _read(name: str, content: bytes) -> Any:
    try:
        return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}")).FromString(
            content
        )
    except (message.DecodeError, RecursionError) as error:
        raise CompressionError("bad_model", "the SavedModel is damaged or cut off") from error


def _pool() -> Any:
    # A pool of its own: TensorFlow has these messages, under other names, in the common one.
    file = descriptor_pb2.FileDescriptorProto(name="saved_model.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind == _TEXT:
                # bytes: names that are no UTF-8 are for the gate to refuse.
                described.field.add(name=field, number=number, type=_Field.TYPE_BYTES, label=label)
                continue
            of = f".{_PACKAGE}.{kind}"
            described.field.add(
                name=field, number=number, type=_Field.TYPE_MESSAGE, type_name=of, label=label
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _pool()
