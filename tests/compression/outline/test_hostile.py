"""Files that strangers made up: refused with a sentence, never followed, never a crash."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.reading import read_outline
from tests.compression.outline.outcomes import REFUSALS, outcome
from tests.service.models import dense_model, keras_archive

CONFIG = json.loads(zipfile.ZipFile(io.BytesIO(dense_model())).read("config.json"))
PLACE = "layers/dense/vars/0"


def refused(content: bytes, tmp_path: Path, **bounds: Any) -> CompressionError:
    path = tmp_path / "m.keras"
    path.write_bytes(content)
    with pytest.raises(CompressionError) as caught:
        read_outline(path, Bounds(**bounds))
    assert caught.value.code in REFUSALS
    assert str(tmp_path) not in caught.value.detail
    return caught.value


def archive(tmp_path: Path, fill: Any) -> bytes:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        fill(file)
    return keras_archive(CONFIG, path.read_bytes())


def test_arrays_stored_elsewhere_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x01" * 400)

    def external(file: Any) -> None:
        file.create_dataset(PLACE, (10, 10), "<f4", external=[(str(secret), 0, 400)])

    assert "lies outside" in refused(archive(tmp_path, external), tmp_path).detail


def test_links_to_elsewhere_are_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.zeros(4)

    def linked(file: Any) -> None:
        file["layers/dense/vars/0"] = h5py.ExternalLink(str(other), "x")

    def soft(file: Any) -> None:
        file["elsewhere"] = np.zeros(4)
        file["layers/dense/vars/0"] = h5py.SoftLink("/elsewhere")

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(other), "x", (4,))
        file.create_virtual_dataset("v", layout)

    for fill in (linked, soft, virtual):
        assert "lies outside" in refused(archive(tmp_path, fill), tmp_path).detail


def test_arrays_larger_than_their_file_are_not_allocated(tmp_path: Path) -> None:
    def bomb(file: Any) -> None:
        file.create_dataset(PLACE, (1 << 20, 1 << 14), "<f4", chunks=True, compression="gzip")

    assert "hardly any are stored" in refused(archive(tmp_path, bomb), tmp_path).detail


def test_groups_that_hold_themselves_end(tmp_path: Path) -> None:
    def loop(file: Any) -> None:
        layers = file.create_group("layers")
        layers["again"] = layers

    assert "nested deeper" in refused(archive(tmp_path, loop), tmp_path).detail


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[" * 200_000, "damaged"),
        (json.dumps({"class_name": "Sequential", "config": {"layers": [1]}}), "is none"),
        (json.dumps([1]), "no configuration"),
        (" " * 2_000, "more than 1000 bytes"),
    ],
    ids=["deep", "no layer", "list", "long"],
)
def test_configurations_that_are_none(config: str, said: str, tmp_path: Path) -> None:
    bounds = {"json_bytes": 1000} if "1000" in said else {}
    assert said in refused(keras_archive(config, {}), tmp_path, **bounds).detail


def test_models_nested_without_end_are_refused(tmp_path: Path) -> None:
    config: dict[str, Any] = {"class_name": "Sequential", "config": {"name": "m", "layers": []}}
    for depth in range(40):
        config = {"class_name": "Sequential", "config": {"name": f"m{depth}", "layers": [config]}}
    assert "nested deeper" in refused(keras_archive(config, {}), tmp_path).detail


def test_size_that_a_header_lies_about_is_not_believed(tmp_path: Path) -> None:
    content = bytearray(keras_archive(" " * 5000, {}))
    place = content.rfind(b"config.json") - 46 + 24  # uncompressed size in the directory
    content[place : place + 4] = (10).to_bytes(4, "little")
    refused(bytes(content), tmp_path)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    out = io.BytesIO(dense_model())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(out, "a") as archive_:
        archive_.writestr("config.json", "{}")
    assert "two of its members" in refused(out.getvalue(), tmp_path).detail


def test_weights_of_no_number_type_are_refused(tmp_path: Path) -> None:
    def texts(file: Any) -> None:
        file[PLACE] = np.array(["a", "b"], dtype=h5py.string_dtype())

    assert "no numbers" in refused(archive(tmp_path, texts), tmp_path).detail


def test_a_cycle_of_layers_is_not_traced(tmp_path: Path) -> None:
    def layer(name: str, source: str) -> dict[str, Any]:
        config = {"name": name, "activation": "relu"}
        return {
            "class_name": "Activation",
            "name": name,
            "config": config,
            "inbound_nodes": [[[source, 0, 0, {}]]],
        }

    entrance = {
        "class_name": "InputLayer",
        "name": "given",
        "config": {"name": "given", "batch_input_shape": [None, 4]},
        "inbound_nodes": [],
    }
    config = {
        "class_name": "Functional",
        "config": {
            "name": "m",
            "layers": [entrance, layer("a", "b"), layer("b", "a")],
            "input_layers": [["given", 0, 0]],
            "output_layers": [["b", 0, 0]],
        },
    }
    path = tmp_path / "m.keras"
    path.write_bytes(keras_archive(config, {}))
    outline = read_outline(path)
    assert not outline.traced
    assert outline.refused is not None


def test_mutated_files_are_refused_or_read(tmp_path: Path) -> None:
    good = dense_model()
    chance = np.random.default_rng(0)
    path = tmp_path / "m.keras"
    for _ in range(150):
        content = bytearray(good)
        for place in chance.integers(0, len(content), 3):
            content[place] = int(chance.integers(0, 256))
        path.write_bytes(content)
        assert outcome(path) in {None, *REFUSALS}
