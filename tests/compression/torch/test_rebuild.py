"""Exported programs made networks of layers again: the caller's layers, under the caller's names."""

from __future__ import annotations

import copy
import functools
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tasks.compression.backends.torch.rebuild import Rebuilt, rebuild
from tasks.compression.errors import CompressionError
from tests.compression.torch.models import MODELS, export, made

_FUNCTIONS = {
    "oddities": {"aten.matmul.default", "aten.mul.Tensor"},
    "vit": {"aten.add.Tensor", "aten.expand.default"},
}
_FUNCTIONS["last_state"] = {"aten.expand.default"}


@functools.cache
def rebuilt(name: str) -> Rebuilt:
    return rebuild(export(made(name), MODELS[name].inputs()))


def _layers(model: nn.Module) -> dict[str, tuple[type, str]]:
    """The layers that have weights, by path."""
    return {
        path: (type(layer), layer.extra_repr())
        for path, layer in model.named_modules()
        if [*layer.parameters(recurse=False)] and not isinstance(layer, torch.fx.GraphModule)
    }


def _answers(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    with torch.no_grad():
        found: Any = model(*inputs)
    if isinstance(found, dict):
        return list(found.values())
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("name", MODELS)
def test_the_network_answers_as_the_callers_model_with_any_batch(name: str) -> None:
    model, network = made(name), rebuilt(name)
    assert network.difference < 1e-5
    for samples in (1, 5):
        inputs = tuple(torch.cat([each] * 3)[:samples] for each in MODELS[name].inputs())
        for answer, expected in zip(_answers(network.model, inputs), _answers(model, inputs), strict=True):
            torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", [name for name in MODELS if name not in ("vit", "oddities", "attention", "last_state")]
)
def test_every_layer_with_weights_is_there_under_its_name(name: str) -> None:
    found, expected = _layers(rebuilt(name).model), _layers(made(name))
    if name == "signals":  # the padding of a circular convolution is a function before it
        assert found.pop("net.4")[0] is expected.pop("net.4")[0]
    assert found == expected


@pytest.mark.parametrize("name", MODELS)
def test_what_has_parameters_and_no_layer_is_a_function_of_them(name: str) -> None:
    assert {operator for operator, _ in rebuilt(name).functions} == _FUNCTIONS.get(name, set())
    model, network = made(name), rebuilt(name).model
    assert sum(each.numel() for each in network.parameters()) == sum(
        each.numel() for each in model.parameters()
    )
    values = dict(network.state_dict(keep_vars=True))
    for path, value in model.named_parameters():
        if path in values:
            assert torch.equal(values[path], value)


def test_layers_without_weights_have_their_modules_names_or_their_operators() -> None:
    network = dict(rebuilt("resnet").model.named_modules())
    assert isinstance(network["layer1.0.relu"], nn.ReLU)
    assert network["layer1.0.relu"].inplace
    assert isinstance(network["maxpool"], nn.MaxPool2d)
    assert isinstance(network["avgpool"], nn.AdaptiveAvgPool2d)
    assert isinstance(network["relu"], nn.ReLU)  # functional.relu
    excite = dict(rebuilt("mobilenet").model.named_modules())
    assert isinstance(excite["features.2.conv.6.hardsigmoid"], nn.Hardsigmoid)
    assert isinstance(excite["features.1.conv.2"], nn.ReLU6)


def test_a_projection_of_attention_is_a_linear_layer() -> None:
    layers = _layers(rebuilt("vit").model)
    assert layers["encoder.layers.1.self_attn.in_proj"][0] is nn.Linear
    assert layers["encoder.layers.1.self_attn.out_proj"][0] is nn.Linear
    assert layers["encoder.layers.1.linear1"][0] is nn.Linear
    assert {"cls_token", "pos_embedding"} <= set(dict(rebuilt("vit").model.named_parameters()))


def test_a_layer_called_twice_is_one_layer() -> None:
    calls = [node.target for node in rebuilt("two_ends").model.graph.nodes if node.op == "call_module"]
    assert calls.count("shared") == 2
    assert calls.count("act") == 2
    resnet = [node.target for node in rebuilt("resnet").model.graph.nodes if node.op == "call_module"]
    assert resnet.count("layer1.0.relu") == 2


def test_tied_weights_stay_one_tensor() -> None:
    network = rebuilt("oddities").model
    embedding, head = network.get_submodule("embedding"), network.get_submodule("head")
    assert isinstance(embedding, nn.Embedding)
    assert isinstance(head, nn.Linear)
    assert embedding.weight is head.weight


def test_a_dropout_keeps_its_rate_and_works_in_training_alone() -> None:
    network = copy.deepcopy(rebuilt("mlp").model)
    layer = network.get_submodule("2")
    assert isinstance(layer, nn.Dropout)
    assert layer.p == 0.3
    inputs = MODELS["mlp"].inputs()
    assert torch.equal(network(*inputs), network(*inputs))
    network.train()
    torch.manual_seed(3)
    assert not torch.equal(network(*inputs), network(*inputs))
    lstm = rebuilt("lstm").model.get_submodule("rnn")
    assert isinstance(lstm, nn.LSTM)
    assert lstm.dropout == 0.2


@pytest.mark.parametrize("name", MODELS)
def test_the_network_can_be_trained(name: str) -> None:
    network = copy.deepcopy(rebuilt(name).model).train()
    answers = network(*MODELS[name].inputs())
    loss = sum(answer.square().mean() for answer in (answers if isinstance(answers, tuple) else (answers,)))
    loss.backward()
    for path, value in network.named_parameters():
        assert value.grad is not None, path
        assert torch.isfinite(value.grad).all(), path


def test_batch_statistics_move_in_training() -> None:
    network = copy.deepcopy(rebuilt("resnet").model).train()
    layer = network.get_submodule("bn1")
    assert isinstance(layer, nn.BatchNorm2d)
    before = layer.running_mean.clone()
    network(*MODELS["resnet"].inputs())
    assert not torch.equal(layer.running_mean, before)
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "lenet5", "unet", "signals"])
def test_a_program_of_core_operators_is_rebuilt_too(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = export(made(name), MODELS[name].inputs()).run_decompositions()
    expected = {path: kind for path, (kind, _) in _layers(made(name)).items()}
    expected |= {"net.5": nn.InstanceNorm1d} if name == "signals" else {}
    found = {path: kind for path, (kind, _) in _layers(rebuild(program).model).items()}
    if name == "signals":  # an instance normalisation is taken apart, into one by batch
        expected.pop("net.5"), found.pop("net.5", None)
    assert found == expected


def test_names_are_given_or_those_of_forward() -> None:
    signature = rebuilt("two_ends").signature
    assert signature.input_names == ("left", "right")
    assert signature.output_names == ("classes", "value")
    assert signature.input_shapes == ((6,), (6,))
    assert rebuilt("last_state").signature.output_names == ("output_0", "output_1")
    assert rebuilt("gru").signature.input_dtypes == ("int64",)
    program = export(made("mlp"), MODELS["mlp"].inputs())
    named = rebuild(program, {"input_names": ["pixels"], "output_names": ["logits"]}).signature
    assert (named.input_names, named.output_names) == (("pixels",), ("logits",))
    with pytest.raises(CompressionError, match="bad_model"):
        rebuild(program, {"input_names": ["a", "b"]})


def _refused(model: nn.Module, *inputs: torch.Tensor, **options: Any) -> CompressionError:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, inputs, strict=False, **options)
    with pytest.raises(CompressionError) as caught:
        rebuild(program)
    assert caught.value.code == "unsupported_model"
    assert caught.value.hint
    return caught.value


def test_a_fixed_batch_is_refused() -> None:
    error = _refused(made("mlp"), torch.randn(1, 6))
    assert "fixed batch size of 1" in error.detail
    assert "featherweight.torch.save" in str(error.hint)


def test_a_program_in_training_mode_is_refused() -> None:
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    for name in ("mlp", "resnet", "lstm"):
        model = made(name).train()
        assert "training mode" in _refused(model, *MODELS[name].inputs(), dynamic_shapes=(batch,)).detail


def test_an_axis_of_any_size_beside_the_batch_is_refused() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    sizes = {0: torch.export.Dim("batch", min=1, max=64), 2: torch.export.Dim("length", min=4, max=64)}
    assert "axis 2 of the input" in _refused(model, torch.randn(2, 2, 9), dynamic_shapes=(sizes,)).detail


class _Integers(nn.Module):
    def forward(self, number: torch.Tensor) -> torch.Tensor:
        return number.float() * 2


class _Halves(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class _Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return functional.relu(x) + self.calls


class _Classes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.argmax(-1)


class _Sum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(0, keepdim=True)


@pytest.mark.parametrize(
    ("model", "given", "why"),
    [
        (_Integers(), torch.randint(0, 5, (2, 3)), "straight into no embedding"),
        (_Halves(), torch.randn(2, 3).half(), "of the type float16"),
        (_Counting(), torch.randn(2, 3), "changes calls"),
        (_Classes(), torch.randn(2, 3), "of the type int64"),
        (_Sum(), torch.randn(2, 3), "fixed batch"),
    ],
    ids=["integers", "halves", "counting", "classes", "sum"],
)
def test_what_no_network_of_layers_does_is_refused(model: nn.Module, given: torch.Tensor, why: str) -> None:
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    assert why in _refused(model, given, dynamic_shapes=(batch,)).detail


def test_a_network_that_answers_otherwise_is_refused_with_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    program = export(made("lenet5"), MODELS["lenet5"].inputs())
    monkeypatch.setattr(nn.AvgPool2d, "forward", lambda self, x: functional.max_pool2d(x, 2))
    with pytest.raises(CompressionError) as caught:
        rebuild(program)
    assert caught.value.code == "unsupported_model"
    assert caught.value.layer == "features.2"
