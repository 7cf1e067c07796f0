"""SavedModels in a zip or tar archive: their files, assets and operations, as the outline's reader judges
them, and what Keras wrote beside the graph."""

from __future__ import annotations

from pathlib import Path

from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.saved_model.members import KERAS, members
from tasks.compression.outline.saved_model.reading import understood
from tasks.compression.outline.saved_model.wire import Malformed, messages, text
from tasks.sandbox.gate.config import parse
from tasks.sandbox.gate.names import CODE_LAYERS

__all__ = ["check"]

_NODES, _METADATA = 1, 5


def check(path: Path) -> None:
    """CompressionError op_not_allowed, asset_path_not_allowed, archive_member_not_allowed, layer_not_allowed
    for code in Keras' metadata; bad_model, unsupported_model; and of the archive."""
    files = dict(members(path, Bounds()))
    if KERAS in files:
        _check_metadata(files[KERAS])
    understood(files, Bounds())


def _check_metadata(content: bytes) -> None:
    """Keras is never asked to load it; a layer of code in it says what the graph was made of."""
    try:
        texts = [text(node, _METADATA) for node in messages(memoryview(content), _NODES)]
    except Malformed as error:
        raise CompressionError("bad_model", f"{KERAS} is damaged or cut off: {error}") from error
    for metadata in filter(None, texts):
        name = parse(metadata, KERAS).get("class_name")
        if name in CODE_LAYERS:
            raise CompressionError(
                "layer_not_allowed",
                f"the model has a {name} layer, which is not allowed",
                hint="build the model from Keras' own layers",
            )
