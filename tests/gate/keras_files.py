"""Keras files that attack whoever loads them, written byte by byte: no framework is needed to make them."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

__all__ = ["FILES"]

KERAS3, KERAS2 = "3.15.1", "2.21.0"
KERNEL = "layers/dense/vars/0"

Make = Callable[[Path, Path], bytes]
"""A file, of the canary's path and the folder that markers would be made in."""


def archive(
    config: Any,
    *,
    version: str = KERAS3,
    fill: Callable[[Any], None] | None = None,
    more: dict[str, bytes] | None = None,
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members with one name
        made.writestr("metadata.json", json.dumps({"keras_version": version}))
        made.writestr("config.json", config if isinstance(config, str | bytes) else json.dumps(config))
        made.writestr("model.weights.h5", weights(fill))
        for name, content in (more or {}).items():
            made.writestr(name, content)
    return out.getvalue()


def hdf5(config: Any, *, version: str = KERAS2, fill: Callable[[Any], None] | None = None) -> bytes:
    def whole(file: Any) -> None:
        file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
        file.attrs["keras_version"] = version
        (fill or plain)(file.create_group("model_weights"))

    return weights(whole)


def weights(fill: Callable[[Any], None] | None = None) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        (fill or plain)(file)
    return out.getvalue()


def plain(file: Any) -> None:
    file[KERNEL] = np.ones((4, 2), np.float32)


def layer(kind: str, *, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    """As Keras 3 writes it; without `module` as Keras 2 does in HDF5."""
    node: dict[str, Any] = {"class_name": kind, "config": {"name": kind.lower(), **config}}
    if module is not None:
        node |= {"module": module, "registered_name": None}
    return node


def sequential(*layers: dict[str, Any], module: str | None = "keras") -> dict[str, Any]:
    entrance = layer("InputLayer", batch_shape=[None, 4], dtype="float32")
    return layer("Sequential", module=module, layers=[entrance, *layers])


DENSE = layer("Dense", units=2, activation="relu")
BYTECODE = {"class_name": "__lambda__", "config": {"value": "4wEAAAAA", "defaults": None, "closure": None}}
OLD_BYTECODE = ["4wEAAAAA\n", None, None]


def _lambda(function: Any, **config: Any) -> dict[str, Any]:
    return sequential(layer("Lambda", function=function, **config))


def _function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def _lookup(canary: Path) -> dict[str, Any]:
    return sequential(layer("StringLookup", vocabulary=str(canary), mask_token=None))


def _external(canary: Path) -> Callable[[Any], None]:
    def fill(file: Any) -> None:
        file.create_dataset(KERNEL, (4, 2), "<f4", external=[(str(canary), 0, 32)])

    return fill


def _linked(canary: Path) -> Callable[[Any], None]:
    def fill(file: Any) -> None:
        file[KERNEL] = h5py.ExternalLink(str(canary.with_name("victim.h5")), "x")

    return fill


def _virtual(canary: Path) -> Callable[[Any], None]:
    def fill(file: Any) -> None:
        layout = h5py.VirtualLayout((4, 2), "<f4")
        layout[:] = h5py.VirtualSource(str(canary.with_name("victim.h5")), "x", (4, 2))
        file.create_virtual_dataset(KERNEL, layout)

    return fill


def _bomb(file: Any) -> None:
    file.create_dataset(KERNEL, (1 << 20, 1 << 14), "<f4", chunks=True, compression="gzip")


def _truncated_archive() -> bytes:
    return b"PK\x03\x04" + np.random.default_rng(0).bytes(200)


def _weight_rows() -> dict[str, tuple[str, Make]]:
    rows: dict[str, tuple[str, Make]] = {}
    for case, code, fill in (
        ("extstorage", "h5_external_reference", _external),
        ("extlink", "h5_external_reference", _linked),
        ("virtual", "h5_external_reference", _virtual),
        ("shapebomb", "h5_too_large", lambda _: _bomb),
    ):
        for keras, version in (("k3", KERAS3), ("tk", KERAS2)):
            rows[f"{keras}_{case}"] = (
                code,
                lambda canary, _, fill=fill, version=version: archive(  # type: ignore[misc]
                    sequential(DENSE), version=version, fill=fill(canary)
                ),
            )
            rows[f"{keras}_{case}_h5"] = (
                code,
                lambda canary, _, fill=fill, version=version: hdf5(  # type: ignore[misc]
                    sequential(DENSE, module=None), version=version, fill=fill(canary)
                ),
            )
    return rows


def _tensorflow_function(name: str) -> dict[str, Any]:
    return sequential(layer("TFOpLambda", module=None, function=name), module=None)


FILES: dict[str, tuple[str, Make]] = {
    "k3_lambda": ("layer_not_allowed", lambda *_: archive(_lambda(BYTECODE))),
    "k3_lambda_h5": ("layer_not_allowed", lambda *_: hdf5(_lambda(BYTECODE), version=KERAS3)),
    "tk_lambda": ("layer_not_allowed", lambda *_: archive(_lambda(BYTECODE), version=KERAS2)),
    "tk_lambda_h5": (
        "layer_not_allowed",
        lambda *_: hdf5(_lambda(OLD_BYTECODE, function_type="lambda", module="__main__")),
    ),
    "k3_fn_module": (
        "layer_not_allowed",
        lambda _, markers: archive(_lambda(_function("os", "mkdir"), arguments={"mode": str(markers / "x")})),
    ),
    "tk_fn_module": (
        "layer_not_allowed",
        lambda _, markers: archive(
            _lambda(_function("os", "mkdir"), arguments={"path": str(markers / "x")}), version=KERAS2
        ),
    ),
    "fn_module_in_a_layer": (
        "layer_not_allowed",
        lambda *_: archive(sequential(layer("Activation", activation=_function("os", "mkdir")))),
    ),
    "k3_fn_getfile": (
        "layer_not_allowed",
        lambda *_: archive(_lambda(_function("keras.utils", "get_file"))),
    ),
    "k3_fn_unsafe": (
        "layer_not_allowed",
        lambda *_: archive(_lambda(_function("keras.config", "enable_unsafe_deserialization"))),
    ),
    "getfile_in_a_layer": (
        "layer_not_allowed",
        lambda *_: archive(sequential(layer("Dense", activation=_function("keras.utils", "get_file")))),
    ),
    "k3_module_class": ("layer_not_allowed", lambda *_: archive(layer("Sequential", module="sec_x"))),
    "tk_module_class": (
        "layer_not_allowed",
        lambda *_: archive(layer("Thing", module="sec_x", layers=[]), version=KERAS2),
    ),
    "k3_lookup": ("layer_not_allowed", lambda canary, _: archive(_lookup(canary))),
    "k3_lookup_h5": ("layer_not_allowed", lambda canary, _: hdf5(_lookup(canary), version=KERAS3)),
    "tk_lookup": ("layer_not_allowed", lambda canary, _: archive(_lookup(canary), version=KERAS2)),
    "tk_lookup_h5": ("layer_not_allowed", lambda canary, _: hdf5(_lookup(canary))),
    "k3_tfsm": (
        "layer_not_allowed",
        lambda canary, _: archive(sequential(layer("TFSMLayer", filepath=str(canary.parent)))),
    ),
    "tk_function_of_tensorflow": (
        "layer_not_allowed",
        lambda *_: hdf5(_tensorflow_function("io.write_file")),
    ),
    "path_in_a_text": (
        "bad_config",
        lambda canary, _: archive(sequential({**DENSE, "config": {"name": "d", "units": str(canary)}})),
    ),
    "address_in_a_text": (
        "bad_config",
        lambda *_: archive(sequential(layer("Dense", units=2, activation="gs://bucket/x"))),
    ),
    "k3_bigdense": (
        "model_too_large",
        lambda *_: archive(sequential(layer("Dense", units=1_250_000_000))),
    ),
    "bigdense_as_fraction": ("model_too_large", lambda *_: hdf5(sequential(layer("Dense", units=1.25e9)))),
    "k3_deepjson": ("bad_config", lambda *_: archive("[" * 200_000)),
    "deep_layers": ("bad_config", lambda *_: archive(_deep())),
    "k3_zipbomb": ("archive_bomb", lambda *_: archive(b" " * (512 << 20))),
    "k3_traversal_member": (
        "archive_path_not_allowed",
        lambda *_: archive(sequential(DENSE), more={"../../markers/x": b"x"}),
    ),
    "k3_dup_config": (
        "archive_duplicate_member",
        lambda *_: archive(sequential(DENSE), more={"config.json": b"{}"}),
    ),
    "k3_other_member": (
        "archive_member_not_allowed",
        lambda *_: archive(sequential(DENSE), more={"assets/vocabulary.txt": b"x"}),
    ),
    "k3_truncated": ("bad_archive", lambda *_: _truncated_archive()),
    "h5_truncated": ("bad_h5", lambda *_: b"\x89HDF\r\n\x1a\n" + bytes(500)),
    **_weight_rows(),
}
"""By the case's name: the code that it must be refused with, and how the file is made."""


def _deep() -> dict[str, Any]:
    node = sequential(DENSE)
    for _ in range(40):
        node = sequential(node)
    return node
