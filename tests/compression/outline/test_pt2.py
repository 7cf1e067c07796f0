"""Outlines of exported programs: what the archive says, read without PyTorch, beside what PyTorch knows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import featherweight.torch
from featherweight.spec import CompressionSpec
from tasks.compression.errors import CompressionError
from tasks.compression.inspection import inspect
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.reading import read_outline
from tasks.compression.outline.skeleton import cost
from tasks.compression.planning import plan


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4), nn.ReLU())
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.twice = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.features(x)).mean((2, 3))
        return torch.softmax(self.head(self.twice(self.twice(x))), 1)


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.rnn = nn.GRU(8, 6, batch_first=True)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.rnn(x)[0][:, -1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("programs")
    net = Net()
    with torch.no_grad():
        net.head.weight[:2] = 0
    featherweight.torch.save(net, torch.randn(2, 2, 6, 6), made / "net.pt2")
    featherweight.torch.save(Sequence(), torch.zeros(2, 5, dtype=torch.int64), made / "sequence.pt2")
    return made


@pytest.fixture(scope="module")
def net(folder: Path) -> Outline:
    return read_outline(folder / "net.pt2")


def test_layers_have_the_names_and_weights_of_the_callers_model(net: Outline) -> None:
    model = Net()
    weighted = {layer.path: layer for layer in net.layers if layer.weights}
    assert {path: layer.kind for path, layer in weighted.items()} == {
        "features.0": "Conv2d",
        "features.1": "BatchNorm2d",
        "up": "ConvTranspose2d",
        "twice": "Linear",
        "head": "Linear",
    }
    for path, layer in weighted.items():
        stored = {name: tuple(value.shape) for name, value in model.get_submodule(path).state_dict().items()}
        stored.pop("num_batches_tracked", None)
        assert {weight.name: weight.shape for weight in layer.weights} == stored
    head = weighted["head"].weight("weight")
    assert head is not None
    assert (head.zeros, head.distinct) == (6, 10)
    assert sum(call.layer == "twice" for call in net.calls) == 2


def test_inputs_and_outputs_have_the_batch_open(net: Outline) -> None:
    assert (net.framework, net.kind, net.format) == ("torch", "pt2", "pt2")
    assert net.shapes(net.inputs) == [(None, 2, 6, 6)]
    assert net.shapes(net.outputs) == [(None, 5)]
    assert net.output_activation == "softmax"
    assert net.writer == f"PyTorch {torch.__version__}"
    assert net.refused is None


def test_macs_are_counted(net: Outline, folder: Path) -> None:
    found = cost(net)
    # Kernel size times positions, of each group its own channels.
    assert {path: macs for path, macs in found.macs.items() if macs} == {
        "features.0": 4 * 1 * 9 * 36,
        "up": 4 * 3 * 4 * 36,
        "twice": 2 * 9,
        "head": 15,
    }
    assert not found.unknown
    sequence = read_outline(folder / "sequence.pt2")
    macs = cost(sequence).macs
    assert macs["rnn"] == 5 * (3 * 6 * 8 + 3 * 6 * 6)
    # Scores and sums over five positions, for both heads of four.
    assert [macs[layer.path] for layer in sequence.layers if "attention" in layer.kind] == [2 * 5 * 5 * 8]


def test_it_is_read_without_pytorch(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tasks.compression.outline.reading import read_outline; "
        f"print(read_outline(Path({str(folder / 'net.pt2')!r})).parameters, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parameters = sum(
        value.numel() for name, value in Net().state_dict().items() if not name.endswith("tracked")
    )
    assert done.stdout.split() == [str(parameters), "False"]


def test_a_plan_counts_the_original_and_says_what_it_does_not_know(net: Outline) -> None:
    steps = [{"technique": "prune_channels"}, {"technique": "prune"}]
    spec = CompressionSpec.model_validate({"steps": steps, "outputs": ["pt2", "tflite"]})
    made = plan(net, spec)
    assert made.feasible
    assert made.model.macs == cost(net).total
    said = [warning.message for warning in made.warnings if warning.code == "not_looked_at"]
    assert said == ["What prune_channels does is only looked at when the job runs."]
    assert all("sparsity" in layer.estimated for layer in made.steps[1].layers if layer.action == "change")
    assert all(set(step.estimated) == {"parameters", "macs"} for step in made.steps)
    assert all(size.nonzero_parameters is None for size in made.after)
    refused = plan(net, spec.model_copy(update={"outputs": ("keras",)}))
    assert [problem.code for problem in refused.problems] == ["unsupported_output"]


def test_an_inspection_offers_what_the_framework_has(net: Outline) -> None:
    seen = inspect(net)
    possible = {each.output: each.possible for each in seen.formats}
    assert possible == {
        "tflite": None,
        "keras": False,
        "saved_model": False,
        "c_array": None,
        "onnx": None,
        "pt2": True,
        "pte": None,
    }
    # No converter was tried on it.
    assert {each.open for each in seen.formats if each.output in ("tflite", "onnx")} == {
        "Whether Softmax can be converted is only seen when the job runs."
    }
    assert {each.technique: each.possible for each in seen.techniques if each.technique != "quantize"} == {
        "prune": True,
        "prune_channels": None,
        "decompose": True,
        "cluster": True,
        "quantize_aware": True,
        "finetune": True,
        "distill": True,
    }
    assert seen.totals is not None


def changed(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The archive with members changed, or left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(out, "w") as made:
        for name in archive.namelist():
            content = change(name, archive.read(name))
            if content is not None:
                made.writestr(name, content)
    target.write_bytes(out.getvalue())
    return target


def in_program(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    def apply(name: str, content: bytes) -> bytes:
        if not name.endswith("/models/model.json"):
            return content
        program = json.loads(content)
        change(program)
        return json.dumps(program).encode()

    return apply


@pytest.mark.parametrize(
    "change",
    [
        lambda name, content: None if name.endswith("weight_0") else content,
        lambda name, content: content[:4] if name.endswith("weight_0") else content,
        lambda name, content: b"[1]" if name.endswith("model.json") else content,
        lambda name, content: b"{" if name.endswith("_config.json") else content,
        in_program(lambda program: program.pop("graph_module")),
        in_program(lambda program: program["graph_module"]["graph"]["nodes"][2].update(name="../x y")),
        in_program(lambda program: program["graph_module"]["graph"].update(tensor_values={})),
        in_program(lambda program: program["graph_module"]["graph"].update(nodes=5)),
    ],
    ids=["no-weight", "short-weight", "no-object", "no-json", "no-graph", "name", "no-values", "no-nodes"],
)
def test_a_damaged_program_is_refused(
    folder: Path, tmp_path: Path, change: Callable[[str, bytes], bytes | None]
) -> None:
    with pytest.raises(CompressionError) as refused:
        read_outline(changed(folder / "net.pt2", tmp_path / "x.pt2", change))
    assert refused.value.code == "bad_model"


def test_one_that_is_larger_than_its_bounds_is_refused(folder: Path) -> None:
    for bounds in (Bounds(calls=3), Bounds(weight_bytes=100), Bounds(json_bytes=100)):
        with pytest.raises(CompressionError):
            read_outline(folder / "net.pt2", bounds)


def test_a_program_of_another_pytorch_is_refused_with_the_way_out(folder: Path, tmp_path: Path) -> None:
    other = in_program(lambda program: program["schema_version"].update(major=9))
    outline = read_outline(changed(folder / "net.pt2", tmp_path / "x.pt2", other))
    assert outline.refused is not None
    assert outline.refused.code == "unsupported_model"
    assert "featherweight.torch.save" in (outline.refused.hint or "")
