"""What is known of a loaded model, and networks written and read back."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from featherweight.report import ReportWarning
from featherweight.spec import Prune, QuantizeAware
from tasks.compression.backends.torch.layers import placed_layers
from tasks.compression.backends.torch.load import load
from tasks.compression.backends.torch.network import Loaded
from tasks.compression.backends.torch.prunable import PRUNING
from tasks.compression.backends.torch.qat.request import chosen
from tasks.compression.backends.torch.stored_model import read_model, save_model
from tasks.compression.errors import CompressionError
from tasks.compression.pending import Pending
from tasks.compression.prunable import prunable
from tests.compression.torch.models import MODELS, export, save

NAMES = ("lenet5", "mobilenet", "vit", "gru", "last_state", "unet", "two_ends", "oddities")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Loaded, list[ReportWarning]]]:
    folder = tmp_path_factory.mktemp("exported")
    found = {}
    for name in NAMES:
        save(name, folder / f"{name}.pt2")
        warnings: list[ReportWarning] = []
        found[name] = (load(folder / f"{name}.pt2", folder, warnings.append), warnings)
    return found


Every = dict[str, tuple[Loaded, list[ReportWarning]]]


def test_facts_are_those_of_the_model(loaded: Every) -> None:
    facts = loaded["lenet5"][0].facts
    assert (facts.inputs, facts.outputs) == (((1, 28, 28),), ((10,),))
    assert (facts.input_names, facts.output_names) == (("image",), ("output",))
    assert facts.each_output == ()
    assert (facts.input_ranges, loaded["gru"][0].facts.input_ranges) == ((None,), (40,))
    assert facts.compiled.loss is None
    both = loaded["two_ends"][0].facts
    assert both.outputs == ((3,), (1,))
    assert [(each.name, each.activation) for each in both.each_output] == [
        ("classes", "softmax"),
        ("value", "linear"),
    ]


@pytest.mark.parametrize(
    ("name", "activation"),
    [("lenet5", "linear"), ("unet", "sigmoid"), ("gru", "log_softmax")],
)
def test_the_activation_of_the_output_is_found(name: str, activation: str, loaded: Every) -> None:
    assert loaded[name][0].facts.output_activation == activation


def test_the_projections_of_attention_are_pruned_and_learn_to_be_rounded(loaded: Every) -> None:
    network = loaded["vit"][0].network
    projections = {
        f"encoder.layers.{number}.self_attn.{name}" for number in (0, 1) for name in ("in_proj", "out_proj")
    }
    step = Prune(technique="prune")
    pruned = prunable(network.model, Pending(step, "/steps/0"), PRUNING)
    assert projections <= {place.path for place in pruned}
    learning = chosen(network.model, QuantizeAware(technique="quantize_aware"), "/steps/0")
    assert projections <= set(learning.quantized)


def test_what_multiplies_and_is_no_layer_is_said(loaded: Every) -> None:
    said = {name: [(each.code, each.layer) for each in warnings] for name, (_, warnings) in loaded.items()}
    assert ("kept_as_function", "mixing") in said["oddities"]
    assert {code for name in NAMES for code, _ in said[name]} <= {"kept_as_function", "rebuilt_from_program"}
    assert not [
        code for name in NAMES if name != "oddities" for code, _ in said[name] if code == "kept_as_function"
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_written_and_read_back_as_it_was(name: str, loaded: Every, tmp_path: Path) -> None:
    network = loaded[name][0].network
    network.model.train()
    save_model(network.model, network.signature, tmp_path / "network.pt2")
    assert network.model.training
    network.model.eval()
    again = read_model(tmp_path / "network.pt2")
    assert _layers(again) == _layers(network.model)
    expected = network.model.state_dict()
    assert {name: value.tolist() for name, value in again.state_dict().items()} == {
        name: value.tolist() for name, value in expected.items()
    }
    inputs = tuple(torch.cat([each] * 2)[:3] for each in MODELS[name].inputs())
    with torch.no_grad():
        answers, wanted = again(*inputs), network.model(*inputs)
    for answer, other in zip(_tuple(answers), _tuple(wanted), strict=True):
        assert torch.equal(answer, other)


def _tuple(answer: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _layers(model: torch.fx.GraphModule) -> list[tuple[str, type, str]]:
    return [(place.path, type(place.layer), place.layer.extra_repr()) for place in placed_layers(model)]


def test_the_callers_names_survive(loaded: Every, tmp_path: Path) -> None:
    network = loaded["two_ends"][0].network
    save_model(network.model, network.signature, tmp_path / "network.pt2")
    facts = load(tmp_path / "network.pt2", tmp_path, lambda _: None).facts
    assert (facts.input_names, facts.output_names) == (("left", "right"), ("classes", "value"))


def test_what_is_written_is_a_program_of_pytorch(loaded: Every, tmp_path: Path) -> None:
    network = loaded["mobilenet"][0].network
    save_model(network.model, network.signature, tmp_path / "network.pt2")
    with zipfile.ZipFile(tmp_path / "network.pt2") as archive:
        told = b"".join(archive.read(name) for name in archive.namelist())
    assert not any(each in told for each in (b"stack_trace", b"site-packages", str(tmp_path).encode()))
    inputs = (torch.randn(5, 3, 16, 16),)
    with torch.no_grad():
        found = torch.export.load(tmp_path / "network.pt2").module()(*inputs)
        assert torch.equal(found, network.model(*inputs))


def test_frozen_parameters_stay_frozen(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    torch.export.save(export(model, (torch.randn(2, 3),)), tmp_path / "m.pt2")
    network = load(tmp_path / "m.pt2", tmp_path, lambda _: None).network.model
    assert [value.requires_grad for value in network.parameters()] == [False, False, True, True]
    torch.export.save(export(model.requires_grad_(False), (torch.randn(2, 3),)), tmp_path / "m.pt2")
    network = load(tmp_path / "m.pt2", tmp_path, lambda _: None).network.model
    assert all(value.requires_grad for value in network.parameters())


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"PK")
    with pytest.raises(CompressionError, match="unsupported_model"):
        load(tmp_path / "m.pt2", tmp_path, lambda _: None)
