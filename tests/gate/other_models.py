"""SavedModels, TFLite files and PyTorch's archives that attack whoever loads them, written byte by byte."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

__all__ = ["FILES", "graph", "saved_model", "tflite"]

Make = Callable[[Path, Path], bytes]


def field(number: int, value: bytes | str | int) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def graph(*operations: str, function: str | None = None, asset: str | None = None) -> bytes:
    """A ``saved_model.pb`` whose graph, or whose function of that name, has the operations."""
    nodes = b"".join(field(1, field(1, f"n{i}") + field(2, name)) for i, name in enumerate(operations))
    body = nodes
    if function is not None:
        inside = b"".join(field(3, field(1, f"n{i}") + field(2, name)) for i, name in enumerate(operations))
        body = field(2, field(1, field(1, field(1, function)) + inside))
    meta = field(1, field(4, "serve")) + field(2, body) + field(7, field(1, b"")) + _signature()
    if asset is not None:
        meta += field(6, field(2, asset))
    return field(1, 1) + field(2, meta)


def _signature() -> bytes:
    tensor = field(1, "x:0") + field(2, 1) + field(3, field(2, field(1, 1)) + field(2, field(1, 4)))
    ends = field(1, field(1, "x") + field(2, tensor)) + field(2, field(1, "y") + field(2, tensor))
    return field(5, field(1, "serving_default") + field(2, ends))


def saved_model(files: dict[str, bytes], *, kind: str = "zip") -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return out.getvalue()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _graph_with(*operations: str, **options: Any) -> Make:
    def make(*_: Path) -> bytes:
        return saved_model({"m/saved_model.pb": graph(*operations, **options)})

    return make


def tflite(*, custom: str | None = None, side: int = 4) -> bytes:
    """One operation that makes `y` of `x`."""
    model, made = schema.ModelT(), schema.SubGraphT()
    model.version = 3
    code = schema.OperatorCodeT()
    number = schema.BuiltinOperator.CUSTOM if custom else schema.BuiltinOperator.RELU
    code.builtinCode = code.deprecatedBuiltinCode = number
    code.customCode = custom
    model.operatorCodes, model.buffers = [code], [schema.BufferT()]
    tensors = []
    for name in ("x", "y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, np.array([1, side], np.int32), 0
        tensors.append(tensor)
    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs, operator.outputs = np.array([0], np.int32), np.array([1], np.int32)
    made.tensors, made.operators = tensors, [operator]
    made.inputs, made.outputs = np.array([0], np.int32), np.array([1], np.int32)
    model.subgraphs = [made]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Attack:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._marker),)


def _pickled(markers: Path) -> bytes:
    return pickle.dumps(_Attack(markers / "pickled"), protocol=2)


def _torch(pickled: bytes, **more: bytes) -> bytes:
    return saved_model({"m/data.pkl": pickled, "m/version": b"3\n", **more})


FILES: dict[str, tuple[str, Make]] = {
    "sm_read": ("op_not_allowed", _graph_with("ReadFile", function="__inference_f_1")),
    "sm_write": ("op_not_allowed", _graph_with("WriteFile", function="__inference_f_1")),
    "sm_print": ("op_not_allowed", _graph_with("PrintV2")),
    "sm_list": ("op_not_allowed", _graph_with("MatchingFiles", function="__inference_f_1")),
    "sm_pyfunc": ("op_not_allowed", _graph_with("EagerPyFunc", function="__inference_f_1")),
    "sm_write_init": (
        "op_not_allowed",
        _graph_with("MutableHashTableV2", "WriteFile", function="__inference_init_1"),
    ),
    "sm_named_as_an_operation": ("op_not_allowed", _graph_with("Relu", function="ReadFile")),
    "sm_pbtxt": (
        "archive_member_not_allowed",
        lambda *_: saved_model({"m/saved_model.pbtxt": b"saved_model_schema_version: 1"}),
    ),
    "sm_asset_traversal": ("asset_path_not_allowed", _graph_with("NoOp", asset="../../canary")),
    "sm_tar_write": (
        "op_not_allowed",
        lambda *_: saved_model({"m/saved_model.pb": graph("WriteFile")}, kind="tar"),
    ),
    "tk_lambda_sm": (
        "layer_not_allowed",
        lambda *_: saved_model(
            {
                "m/saved_model.pb": graph("NoOp"),
                "m/keras_metadata.pb": field(
                    1, field(5, json.dumps({"class_name": "Lambda", "config": {"name": "l"}}))
                ),
            }
        ),
    ),
    "tfl_flex_read": ("op_not_allowed", lambda *_: tflite(custom="FlexReadFile")),
    "tfl_flex_write": ("op_not_allowed", lambda *_: tflite(custom="FlexWriteFile")),
    "tfl_8byte": ("bad_tflite", lambda *_: b"\x18\0\0\0TFL3"),
    "tfl_truncated": ("bad_tflite", lambda *_: (made := tflite())[: len(made) // 2]),
    "tfl_large": ("model_too_large", lambda *_: tflite(side=(1 << 31) - 1)),
    "pt_rawpickle": ("pickle_not_allowed", lambda _, markers: _pickled(markers)),
    "pt_zippickle": ("pickle_not_allowed", lambda _, markers: _torch(_pickled(markers))),
    "pt_script": (
        "archive_member_not_allowed",
        lambda *_: _torch(b"\x80\x02c__torch__\nNet\n.", **{"m/code/__torch__.py": b"pass"}),
    ),
    "pt_older_program": (
        "unsupported_model",
        lambda *_: saved_model({"serialized_exported_program.json": b"{}", "version": b"7.3"}),
    ),
    "pt_state_dict": (
        "unsupported_model",
        lambda *_: _torch(pickle.dumps({"epoch": 3}, protocol=2), **{"m/version": b"3\n"}),
    ),
}
