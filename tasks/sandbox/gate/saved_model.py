"""SavedModels in a zip or tar archive: the names of their files, assets and operations.

Operations are judged in the graph and in every function of its library. What saves and restores may stand
only in the functions that TensorFlow writes for that, which nothing but the saver may call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.compression.datasets.archives import Bounds, Member, members
from tasks.compression.errors import CompressionError
from tasks.sandbox.gate.config import parse
from tasks.sandbox.gate.names import CODE_LAYERS
from tasks.sandbox.gate.saved_model_ops import CHECKPOINT_OPS, OPS
from tasks.sandbox.gate.saved_model_proto import read_metadata, read_saved_model

__all__ = ["check", "check_graph"]

_BOUNDS = Bounds(members=10_000, member_bytes=8 << 30)
_FILES = re.compile(
    r"saved_model\.pb|keras_metadata\.pb|fingerprint\.pb|assets/[A-Za-z0-9_][A-Za-z0-9._-]{0,200}"
    r"|variables/variables\.(index|data-[0-9]{5}-of-[0-9]{5})"
)
_GRAPH_BYTES = 1 << 30
_ASSET = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")
# Functions are numbered, operations are not.
_FUNCTION = re.compile(rb"[A-Za-z_][A-Za-z0-9_.-]*_[0-9]+")
_CHECKPOINT_FUNCTION = re.compile(rb"__inference__traced_(save|restore)_[0-9]+")
_HINT = "export the model for inference: model.export(folder), or tf.saved_model.save of Keras layers"


def check(path: Path) -> None:
    """CompressionError op_not_allowed, asset_path_not_allowed, archive_member_not_allowed, layer_not_allowed
    for code in what Keras wrote beside the graph; bad_model for a damaged graph; and of the archive."""
    graph: bytes | None = None
    top: tuple[str, ...] | None = None
    seen: set[str] = set()
    for member in members(path, _BOUNDS):
        folder, name = _placed(member)
        top = folder if top is None else top
        if folder != top or not _FILES.fullmatch(name):
            raise CompressionError(
                "archive_member_not_allowed",
                f"{member.name[:100]!r} does not belong into a SavedModel",
                hint="pack the folder that has saved_model.pb, and nothing beside it",
            )
        if name in seen:
            raise CompressionError("archive_duplicate_member", f"the archive holds {name} twice")
        seen.add(name)
        if name == "saved_model.pb":
            graph = member.content
        elif name == "keras_metadata.pb":
            _check_metadata(member.content)
    if graph is None:
        raise CompressionError(
            "unsupported_model",
            "the archive holds no model: there is no saved_model.pb in it",
            hint="upload a model saved by model.save('model.keras') or model.save('model.h5')",
        )
    check_graph(graph)


def check_graph(content: bytes) -> None:
    """Of a ``saved_model.pb``; errors as of `check`."""
    if len(content) > _GRAPH_BYTES:
        raise CompressionError("model_too_large", f"the graph has more than {_GRAPH_BYTES} bytes")
    found = read_saved_model(content)
    if not found.meta_graphs:
        raise CompressionError("bad_model", "the SavedModel holds no graph", hint=_HINT)
    for meta in found.meta_graphs:
        for asset in meta.asset_file_def:
            if not _ASSET.fullmatch(asset.filename):
                raise CompressionError(
                    "asset_path_not_allowed",
                    f"the asset {_text(asset.filename)!r} is not one of the archive's",
                    hint="assets are files in the folder assets, without folders in it",
                )
        _check_meta(meta)


def _placed(member: Member) -> tuple[tuple[str, ...], str]:
    """(the folder around the SavedModel, the name within it)."""
    parts = tuple(part for part in member.parts if part != ".")
    inner = 2 if len(parts) > 1 and parts[-2] in ("variables", "assets") else 1
    return parts[:-inner], "/".join(parts[-inner:])


def _check_meta(meta: Any) -> None:
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    for name in functions:
        if not _FUNCTION.fullmatch(name):
            # A function goes before an operation of its name.
            raise _op(f"a function called {_text(name)!r}")
    savers = _savers(meta)
    for node in meta.graph_def.node:
        _check_node(node, functions, in_checkpoint=False, calls_checkpoint=node.name in savers)
    for name, function in functions.items():
        in_checkpoint = _CHECKPOINT_FUNCTION.fullmatch(name) is not None
        for node in function.node_def:
            _check_node(node, functions, in_checkpoint=in_checkpoint, calls_checkpoint=False)
    for signature in meta.signature_def:
        for entry in (*signature.value.inputs, *signature.value.outputs):
            if entry.value.name.partition(b":")[0].removeprefix(b"^") in savers:
                raise _op("a signature that saves or restores")
    for gradient in meta.graph_def.library.gradient:
        for name in (gradient.function_name, gradient.gradient_func):
            if _CHECKPOINT_FUNCTION.fullmatch(name) or name not in functions:
                raise _op(f"a gradient that is {_text(name)!r}")


def _savers(meta: Any) -> set[bytes]:
    """The nodes that save and restore when a program asks the saver for it."""
    saver = meta.saver_def
    return {name.partition(b":")[0] for name in (saver.save_tensor_name, saver.restore_op_name) if name}


def _check_node(node: Any, functions: Any, *, in_checkpoint: bool, calls_checkpoint: bool) -> None:
    op = _text(node.op)
    if op not in OPS and not (in_checkpoint and op in CHECKPOINT_OPS) and node.op not in functions:
        raise _op(f"the operation {op!r}")
    called = [*_called(node.attr), *([node.op] if node.op in functions else [])]
    for name in called:
        if name not in functions:
            raise _op(f"a call of {_text(name)!r}, which is not in the file")
        if _CHECKPOINT_FUNCTION.fullmatch(name) and not calls_checkpoint:
            raise _op("a call of what saves or restores")


def _called(attributes: Any) -> Iterator[bytes]:
    """The functions named in attributes, and in the attributes of these."""
    waiting = [entry.value for entry in attributes]
    while waiting:
        value = waiting.pop()
        for function in (value.func, *value.list.func):
            if function.name:
                yield function.name
            waiting += [entry.value for entry in function.attr]


def _check_metadata(content: bytes) -> None:
    """Keras is not asked to load it; a layer of code in it says what the graph was made of."""
    for node in read_metadata(content).nodes:
        text = _text(node.metadata, None)
        found = parse(text, "keras_metadata.pb") if text else {}
        if found.get("class_name") in CODE_LAYERS:
            raise CompressionError(
                "layer_not_allowed",
                f"the model has a {found['class_name']} layer, which is not allowed",
                hint="build the model from Keras' own layers",
            )


def _text(value: bytes, limit: int | None = 100) -> str:
    return value.decode("utf-8", "replace")[:limit]


def _op(what: str) -> CompressionError:
    return CompressionError("op_not_allowed", f"the SavedModel has {what}, which is not allowed", hint=_HINT)
