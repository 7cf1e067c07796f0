"""``.keras`` archives: three members, a configuration of allowed names, weights that lie in the file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tasks.compression.datasets.archives import BROKEN, Bounds, checked, damaged, zip_content
from tasks.compression.errors import CompressionError
from tasks.sandbox.gate.config import check_config, parse
from tasks.sandbox.gate.hdf5 import check_weights

__all__ = ["check"]

_BOUNDS = Bounds(members=100, member_bytes=8 << 30)
_JSON_BYTES = 64 << 20
_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")


def check(path: Path) -> None:
    """CompressionError of the archive, of the configuration (`check_config`) or the weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in checked(archive, path, _BOUNDS)}
            _check_names(members)
            for name in _MEMBERS[:2]:
                if members[name].file_size > _JSON_BYTES:
                    raise CompressionError(
                        "bad_config", f"{name} has more than {_JSON_BYTES} bytes", pointer=f"/{name}"
                    )
            config = parse(zip_content(archive, members["config.json"]), "config.json")
            parse(zip_content(archive, members["metadata.json"]), "metadata.json")
            weights = zip_content(archive, members["model.weights.h5"])
    except BROKEN as error:
        raise damaged(error) from error
    except MemoryError as error:
        raise CompressionError("model_too_large", "the weights need more memory than there is") from error
    check_config(config, "/config.json")
    check_weights(io.BytesIO(weights))


def _check_names(members: Mapping[str, zipfile.ZipInfo]) -> None:
    for name in members:
        if name not in _MEMBERS:
            raise CompressionError(
                "archive_member_not_allowed",
                f"{name[:100]!r} does not belong into a .keras file",
                hint="save the model with model.save('model.keras'), without lookup layers",
            )
    for name in _MEMBERS:
        if name not in members:
            raise CompressionError("bad_model", f"the model file has no {name}", hint="save the whole model")
