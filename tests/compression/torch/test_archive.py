"""The loader of ``.pt2`` archives, without the gate before it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.compression.backends.torch.archive import load_archive, rewritten
from tasks.compression.errors import CompressionError
from tasks.compression.exported import read_program
from tests.compression.torch.models import MODELS, export, made, save
from tests.gate.exported_files import FILES, changed, program, written

NAMES = ("lenet5", "vit", "lstm", "two_ends", "oddities")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    for name in NAMES:
        save(name, folder / f"{name}.pt2")
    return {name: folder / f"{name}.pt2" for name in NAMES}


def _answers(found: torch.export.ExportedProgram, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    answer: Any = found.module()(*inputs)
    values = answer.values() if isinstance(answer, dict) else answer
    return [answer] if isinstance(answer, torch.Tensor) else list(values)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_loaded_answers_bit_by_bit_as_what_was_saved(name: str, files: dict[str, Path]) -> None:
    inputs = MODELS[name].inputs()
    with torch.no_grad():
        expected = _answers(torch.export.load(files[name]), inputs)
        found, names = load_archive(files[name])
        assert names == {}
        for answer, other in zip(_answers(found, inputs), expected, strict=True):
            assert torch.equal(answer, other)


def test_only_what_was_checked_is_in_the_archive_that_is_loaded(files: dict[str, Path]) -> None:
    content = rewritten(read_program(files["lenet5"]), files["lenet5"])
    with zipfile.ZipFile(content) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
        told = archive.read(next(name for name in archive.namelist() if name.endswith("models/model.json")))
        samples = archive.read(next(name for name in archive.namelist() if "sample_inputs" in name))
    assert "stack_trace" not in told.decode()
    assert str(Path(__file__).parent) not in told.decode()
    assert samples == b""
    assert len([name for name in names if name.startswith("data/weights/weight_")]) == 10


def test_an_archive_written_by_hand_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(written(program()))
    found, _ = load_archive(path)
    with torch.no_grad():
        (answer,) = _answers(found, (torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]),))
    assert answer.tolist() == [[4.0, 11.0], [1.0, 2.0]]


def test_weights_may_be_in_another_order_in_memory(tmp_path: Path) -> None:
    model = made("lenet5").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = MODELS["lenet5"].inputs()
    torch.export.save(export(model, inputs), tmp_path / "m.pt2")
    with torch.no_grad():
        (answer,) = _answers(load_archive(tmp_path / "m.pt2")[0], inputs)
        torch.testing.assert_close(answer, model(*inputs))


def test_names_of_inputs_and_outputs_come_with_the_archive(tmp_path: Path) -> None:
    names = {"input_names": ["pixels"], "output_names": ["digits"]}
    path = tmp_path / "m.pt2"
    path.write_bytes(written({**program(), "extra/featherweight.json": json.dumps(names).encode()}))
    assert load_archive(path)[1] == names


@pytest.mark.parametrize("name", [name for name in FILES if name != "pt2_sample_inputs"])
def test_an_attack_does_nothing_without_the_gate(name: str, tmp_path: Path) -> None:
    markers = tmp_path / "markers"
    markers.mkdir()
    code, make = FILES[name]
    path = tmp_path / "m.pt2"
    path.write_bytes(make(tmp_path / "canary", markers))
    with pytest.raises(CompressionError) as caught:
        load_archive(path)
    assert caught.value.code == code
    assert not os.listdir(markers)


def test_sample_inputs_are_not_looked_at(tmp_path: Path) -> None:
    markers = tmp_path / "markers"
    markers.mkdir()
    path = tmp_path / "m.pt2"
    path.write_bytes(FILES["pt2_sample_inputs"][1](tmp_path / "canary", markers))
    load_archive(path)
    assert not os.listdir(markers)


@pytest.mark.parametrize("name", ["pt2_sample_inputs", "pt2_expression", "pt2_use_pickle", "pt2_input_name"])
def test_the_attacks_are_none_that_torch_stops(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded without a look they make the folder: what is refused above is not harmless."""
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    markers = tmp_path / "markers"
    markers.mkdir()
    content = FILES[name][1](tmp_path / "canary", markers)
    if name == "pt2_use_pickle":
        files = _members(content)
        files["data/weights/weight_0"] = _members(FILES["pt2_sample_inputs"][1](tmp_path, markers))[
            "data/sample_inputs/model.pt"
        ]
        content = written(files)
    # What comes after the harm is of no interest.
    with contextlib.suppress(Exception):
        torch.export.load(io.BytesIO(content)).module()(torch.zeros(2, 3))
    assert os.listdir(markers) == ["made"]


def _members(content: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("nodes", 0, "inputs", 0, "arg"), {"as_tensor": {"name": "nowhere"}}),
        (("nodes", 0, "inputs", 0, "arg"), {"as_string": "x"}),
        (("nodes", 0, "target"), "torch.ops.aten.conv2d.default"),
        (("nodes", 0, "target"), "torch.ops.aten.linear.nowhere"),
        (("outputs", 0, "as_tensor", "name"), "nowhere"),
        (("tensor_values", "x", "dtype"), 5),
        (("nodes",), []),
    ],
    ids=["input", "type", "operator", "overload", "output", "dtype", "empty"],
)
def test_a_program_that_contradicts_itself_is_refused(path: Any, value: Any, tmp_path: Path) -> None:
    from tasks.compression.backends.torch.rebuild import rebuild

    file = tmp_path / "m.pt2"
    file.write_bytes(
        changed("models/model.json", "graph_module", "graph", *path, to=value)(tmp_path, tmp_path)
    )
    with pytest.raises(CompressionError) as caught:
        rebuild(*load_archive(file))
    assert caught.value.code in ("bad_model", "unsupported_model")


def test_weights_that_were_damaged_are_refused(tmp_path: Path) -> None:
    content = bytearray(written(program()))
    content[content.index(b"weight_0") + 12] ^= 1
    (tmp_path / "m.pt2").write_bytes(bytes(content))
    with pytest.raises(CompressionError, match="bad_archive"):
        load_archive(tmp_path / "m.pt2")
