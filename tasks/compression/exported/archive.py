"""The zip archive that ``torch.export.save`` writes: which members it has, and what its JSON says of them."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.compression.datasets.archives import BROKEN, Bounds, checked, damaged, zip_content
from tasks.compression.errors import CompressionError
from tasks.compression.exported.program import Program, Weight, checked_program
from tasks.compression.exported.schema import HINT, bad, boolean, listed, mapped, qualified, record, variable
from tasks.compression.exported.tensors import check_bytes, check_weight

__all__ = ["NAMES", "SAMPLES", "members_of", "read_program"]

NAMES = "extra/featherweight.json"
"""The names that the caller gave inputs and outputs: ``{"input_names": [...], "output_names": [...]}``."""
SAMPLES = re.compile(r"data/sample_inputs/[\w-]+\.pt")

_BOUNDS = Bounds(members=100_000, member_bytes=8 << 30)
_JSON_BYTES = 64 << 20
_MODEL = re.compile(r"models/(?P<name>[\w-]{1,100})\.json")
_MEMBER = re.compile(
    rf"archive_format|archive_version|byteorder|version|\.format_version|\.storage_alignment|\.data/version"
    rf"|\.data/serialization_id|{_MODEL.pattern}|data/weights/(?:weight_[0-9]{{1,6}}|[\w-]+_weights_config\.json)"
    rf"|data/constants/(?:tensor_[0-9]{{1,6}}|[\w-]+_constants_config\.json)|{SAMPLES.pattern}"
    rf"|{re.escape(NAMES)}"
)
_SMALL = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}

Members = Mapping[str, zipfile.ZipInfo]


def read_program(path: Path) -> Program:
    """What a loader may see of the archive. Only its JSON is read; of weights, how many bytes they have.

    CompressionError bad_model, unsupported_model, already_quantized, op_not_allowed, pickle_not_allowed,
    archive_member_not_allowed, model_too_large, and those of archives.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members, root = members_of(archive, path)
            return _read(archive, members, root)
    except BROKEN as error:
        raise damaged(error) from error


def members_of(archive: zipfile.ZipFile, path: Path) -> tuple[Members, str]:
    """The members by their names below the one folder they all lie in, and that folder."""
    found: dict[str, zipfile.ZipInfo] = {}
    roots = set()
    for info in checked(archive, path, _BOUNDS):
        root, _, name = info.filename.partition("/")
        roots.add(root)
        if not _MEMBER.fullmatch(name):
            raise CompressionError(
                "archive_member_not_allowed",
                f"{info.filename[:100]!r} does not belong into an exported program",
                hint=HINT,
            )
        if info.compress_type != zipfile.ZIP_STORED:
            raise CompressionError(
                "bad_model",
                f"{info.filename[:100]!r} is compressed, which torch.export.save does not do",
                hint="upload the file as it was saved",
            )
        found[name] = info
    if len(roots) != 1:
        raise CompressionError("bad_model", "the archive has more than one folder", hint=HINT)
    return found, roots.pop()


def _read(archive: zipfile.ZipFile, members: Members, root: str) -> Program:
    for name, content in _SMALL.items():
        if name not in members or members[name].file_size > 64:
            bad("the archive", f"lacks {name}")
        if zip_content(archive, members[name]).strip() != content:
            bad(name, f"is not {content.decode()}")
    models = [match["name"] for name in members if (match := _MODEL.fullmatch(name))]
    if len(models) != 1:
        bad("the archive", f"holds {len(models)} programs; one is taken")
    weights = _weights(archive, members, "data/weights", f"{models[0]}_weights_config.json", "weight_")
    constants = _weights(archive, members, "data/constants", f"{models[0]}_constants_config.json", "tensor_")
    model = checked_program(_json(archive, members, f"models/{models[0]}.json"))
    _check_held(model, weights, constants)
    return Program(model, weights, constants, root, _names(archive, members))


def _json(archive: zipfile.ZipFile, members: Members, name: str) -> Any:
    if name not in members:
        bad("the archive", f"lacks {name}")
    if members[name].file_size > _JSON_BYTES:
        raise CompressionError("model_too_large", f"{name} has more than {_JSON_BYTES} bytes")
    try:
        return json.loads(
            zip_content(archive, members[name]), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        bad(name, f"is no strict JSON ({str(error)[:80]})")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _whatever(value: Any, where: str) -> Any:
    return value


def _plain(value: Any, where: str) -> bool:
    if boolean(value, where):
        raise CompressionError("pickle_not_allowed", f"{where} asks for pickled weights", hint=HINT)
    return False


_config = record(
    {
        "config": mapped(
            qualified,
            record(
                {
                    "path_name": variable,
                    "is_param": boolean,
                    "use_pickle": _plain,
                    "tensor_meta": _whatever,
                }
            ),
        )
    }
)


def _weights(
    archive: zipfile.ZipFile, members: Members, folder: str, config: str, prefix: str
) -> dict[str, Weight]:
    found = {}
    entries: dict[str, Any] = _config(_json(archive, members, f"{folder}/{config}"), config)["config"]
    for name, entry in entries.items():
        if not entry["path_name"].startswith(prefix):
            raise CompressionError(
                "archive_member_not_allowed", f"{name} of {config} is no tensor but an object", hint=HINT
            )
        member = f"{folder}/{entry['path_name']}"
        if member not in members:
            bad("the archive", f"lacks {member}")
        description, needed = check_weight(entry["tensor_meta"], name)
        check_bytes(name, needed, members[member].file_size)
        found[name] = Weight(member, description, entry["is_param"])
    return found


def _check_held(
    model: Mapping[str, Any], weights: Mapping[str, Weight], constants: Mapping[str, Weight]
) -> None:
    """Every tensor that the program is given is there."""
    for spec in model["graph_module"]["signature"]["input_specs"]:
        ((kind, held),) = spec.items()
        name = held.get(f"{kind}_name")
        known = constants if kind == "tensor_constant" else {**weights, **constants}
        if kind in ("parameter", "buffer", "tensor_constant") and name not in known:
            bad("the archive", f"lacks the {kind.replace('_', ' ')} {name}")


def _names(archive: zipfile.ZipFile, members: Members) -> Mapping[str, list[str]]:
    if NAMES not in members:
        return {}
    check = record(
        {"input_names": listed(variable), "output_names": listed(variable)},
        {"input_names": None, "output_names": None},
    )
    found: dict[str, list[str] | None] = check(_json(archive, members, NAMES), NAMES)
    for key, names in found.items():
        if names is not None and len(set(names)) != len(names):
            bad(NAMES, f"has a name twice in {key}")
    return {key: names for key, names in found.items() if names is not None}
