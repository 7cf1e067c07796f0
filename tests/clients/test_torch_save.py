"""``featherweight.torch.save``: what is exported is the model for any batch; what cannot be is said why."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import featherweight.torch
from featherweight import ConfigurationError, ExportFailed
from featherweight.specfile import load_spec

RECIPES = Path(__file__).parents[2] / "docs" / "recipes" / "pytorch"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(144, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(torch.relu(self.norm(self.conv(x))).flatten(1)))  # type: ignore[no-any-return]


class Two(nn.Module):
    """Two inputs, one of integers, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor, more: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.head(self.embedding(ids).mean(1) + more), more * 2


class Made(nn.Module):
    """A model of one function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def program(path: Path) -> Any:
    return torch.export.load(path).module()


def test_a_program_is_the_model_for_any_batch_and_the_model_is_left_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Net().train()
    path = featherweight.torch.save(model, torch.randn(1, 1, 8, 8), tmp_path / "net.pt2")
    assert model.training
    exported = program(path)
    model.eval()
    for size in (1, 2, 7):
        x = torch.randn(size, 1, 8, 8)
        assert torch.allclose(exported(x), model(x), atol=1e-5)


def test_inputs_of_any_number_and_type(tmp_path: Path) -> None:
    model = Two().eval()
    inputs = (torch.randint(0, 20, (4, 5)), torch.randn(4, 8))
    exported = program(featherweight.torch.save(model, inputs, tmp_path / "two.pt2"))
    for found, wanted in zip(exported(*inputs), model(*inputs), strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


def test_neither_the_source_nor_the_examples_are_in_the_file(tmp_path: Path) -> None:
    secret = torch.full((2, 1, 8, 8), 1234.5)
    path = featherweight.torch.save(Net(), secret, tmp_path / "net.pt2")
    with zipfile.ZipFile(path) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert b"stack_trace" not in content
    assert Path(__file__).name.encode() not in content
    assert secret.numpy().tobytes()[:64] not in content
    assert [each.name for each in tmp_path.iterdir()] == ["net.pt2"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x * 2 if x.sum() > 0 else x, "torch.where in place of if"),
        (lambda x: x[: int(x.abs().max().item()) + 1], "values it computes"),
        (lambda x: x.view(2, -1) + x.view(2, -1), "flatten"),
        (lambda x: torch.tensor(x.numpy()), "without NumPy"),
        (lambda x: x + torch.rand_like(x), "something else than the model"),
    ],
    ids=["if", "item", "view", "numpy", "chance"],
)
def test_what_cannot_be_exported_is_said_with_what_to_change(
    tmp_path: Path, function: Any, said: str
) -> None:
    with pytest.raises(ExportFailed, match=said):
        featherweight.torch.save(Made(function), torch.randn(2, 4), tmp_path / "x.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("inputs", "name", "error"),
    [
        ([1, 2], "x.pt2", TypeError),
        ((), "x.pt2", TypeError),
        (torch.zeros(0, 4), "x.pt2", ValueError),
        (torch.tensor(1.0), "x.pt2", ValueError),
        ((torch.zeros(2, 4), torch.zeros(3, 4)), "x.pt2", ValueError),
        (torch.zeros(2, 4), "x.pth", ValueError),
    ],
    ids=["numbers", "none", "empty", "no-batch", "batches", "name"],
)
def test_what_is_no_example_or_no_name_is_refused(
    tmp_path: Path, inputs: Any, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        featherweight.torch.save(nn.Linear(4, 2), inputs, tmp_path / name)


def test_without_pytorch_or_with_another_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("torch")
    other.__version__ = "2.7.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", other)
    with pytest.raises(ConfigurationError, match=r"PyTorch 2\.7\.1.*2\.13"):
        featherweight.torch.save(nn.Linear(1, 1), torch.zeros(1, 1), tmp_path / "x.pt2")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigurationError, match="not installed"):
        featherweight.torch.save(nn.Linear(1, 1), torch.zeros(1, 1), tmp_path / "x.pt2")


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_are_specs_that_models_of_pytorch_can_have(recipe: Path) -> None:
    from tasks.compression.catalogue import support

    assert recipe.read_text().startswith("# For ")
    assert support(load_spec(recipe), "torch") == []


def test_tensors_have_the_names_they_are_given(tmp_path: Path) -> None:
    inputs = (torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 8))
    named = {"input_names": ["words", "extra"], "output_names": ["scores", "twice"]}
    path = featherweight.torch.save(Two(), inputs, tmp_path / "two.pt2", **named)
    with zipfile.ZipFile(path) as archive:
        (member,) = [name for name in archive.namelist() if "featherweight" in name]
        assert json.loads(archive.read(member)) == named
    plain = featherweight.torch.save(Two(), inputs, tmp_path / "plain.pt2")
    with zipfile.ZipFile(plain) as archive:
        assert not any("featherweight" in name for name in archive.namelist())


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        ({"input_names": ["words"]}, ValueError, "input_names are 1, and the model has 2"),
        ({"output_names": ["a", "b", "c"]}, ValueError, "output_names are 3, and the model has 2"),
        ({"input_names": ["a", "a"]}, ValueError, "a: each input and output has a name of its own"),
        ({"input_names": ["a", "b"], "output_names": ["c", "a"]}, ValueError, "a: each"),
        ({"input_names": ["two words", "b"]}, ValueError, "'two words' is no name"),
        ({"output_names": ["a", "class"]}, ValueError, "keyword"),
        ({"output_names": "ab"}, TypeError, "sequence of texts"),
        ({"input_names": [1, 2]}, TypeError, "sequence of texts"),
    ],
    ids=["few", "many", "twice", "input-and-output", "space", "keyword", "text", "numbers"],
)
def test_names_that_are_none_are_refused(
    tmp_path: Path, names: dict[str, Any], error: type[Exception], said: str
) -> None:
    inputs = (torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 8))
    with pytest.raises(error, match=said):
        featherweight.torch.save(Two(), inputs, tmp_path / "x.pt2", **names)
    assert list(tmp_path.iterdir()) == []
