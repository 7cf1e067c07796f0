"""Small networks of each kind, as callers write them; weights are random, seeds fixed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["MODELS", "Sample", "export", "made", "save"]


class LeNet5(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image))


class BasicBlock(nn.Module):
    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, made, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(made)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(made)
        self.downsample: nn.Module | None = None
        if stride != 1 or given != made:
            self.downsample = nn.Sequential(
                nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += kept
        return self.relu(x)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(8, 8, 1), BasicBlock(8, 8, 1))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = functional.adaptive_avg_pool2d(x, 1)
        scale = functional.hardsigmoid(self.expand(functional.relu(self.reduce(scale))))
        return x * scale


class InvertedResidual(nn.Module):
    def __init__(self, given: int, made: int, stride: int, *, squeeze: bool) -> None:
        super().__init__()
        inner = given * 4
        layers: list[nn.Module] = [nn.Conv2d(given, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()]
        layers += [nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner)]
        layers += [nn.Hardswish(), SqueezeExcite(inner)] if squeeze else [nn.ReLU6(inplace=True)]
        self.conv = nn.Sequential(*layers, nn.Conv2d(inner, made, 1, bias=False), nn.BatchNorm2d(made))
        self.residual = stride == 1 and given == made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()),
            InvertedResidual(8, 8, 1, squeeze=False),
            InvertedResidual(8, 12, 2, squeeze=True),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 16))
        self.pos_embedding = nn.Parameter(torch.randn(1, 17, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embedding
        return self.head(self.norm(self.encoder(x))[:, 0])


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 8, padding_idx=0)
        self.rnn = kind(8, 12, batch_first=True, **options)
        width = 12 * (2 if options.get("bidirectional") else 1)
        self.head = nn.Linear(options.get("proj_size", 0) or width, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states, _ = self.rnn(self.embedding(tokens))
        return functional.log_softmax(self.head(states[:, -1]), dim=-1)


class LastState(nn.Module):
    """Begins with a state of its own, and answers with the last ones."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, 1, 6))
        self.lstm = nn.LSTM(4, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.start.expand(-1, x.shape[0], -1).contiguous()
        _, (hidden, cell) = self.lstm(x.transpose(0, 1), (start, start))
        return hidden[-1], cell[-1]


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = self._block(1, 4)
        self.pool = nn.MaxPool2d(2)
        self.bottom = self._block(4, 8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.merge = self._block(8, 4)
        self.out = nn.Conv2d(4, 1, 1)

    @staticmethod
    def _block(given: int, made: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(given, made, 3, padding=1), nn.GroupNorm(2, made), nn.LeakyReLU(0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = self.down(x)
        x = self.up(self.bottom(self.pool(kept)))
        return torch.sigmoid(self.out(self.merge(torch.cat([x, kept], 1))))


class Signals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(2, 6, 5, padding="same"),
            nn.BatchNorm1d(6),
            nn.SiLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(6, 6, 3, padding=1, padding_mode="circular", groups=3),
            nn.InstanceNorm1d(6, affine=True),
            nn.ELU(),
            nn.AdaptiveAvgPool1d(1),
        )
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.net(x).view(x.size(0), -1))


class TwoEnds(nn.Module):
    """Two inputs, two outputs by name, and a layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(6, 6)
        self.act = nn.PReLU(6)
        self.classes = nn.Linear(12, 3)
        self.value = nn.Linear(12, 1)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        both = torch.cat([self.act(self.shared(left)), self.act(self.shared(right))], dim=-1)
        return {"classes": self.classes(both).softmax(-1), "value": self.value(both)}


class Oddities(nn.Module):
    """Weights that functions use, tied weights, constants and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.scale = nn.Parameter(torch.rand(8))
        self.mixing = nn.Parameter(torch.randn(8, 8))
        self.kernel = nn.Parameter(torch.randn(8, 8))
        self.register_buffer("offset", torch.rand(8))
        self.plain = torch.rand(8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens) * self.scale + self.offset + self.plain
        x = functional.linear(x @ self.mixing, self.kernel) * torch.tensor([2.0])
        return self.head(x.mean(1))


class Attention(nn.Module):
    """nn.MultiheadAttention that answers with its weights too, which takes another way."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed, _ = self.attention(x, x, x)
        return self.head(functional.dropout(mixed, 0.3, self.training)[:, 0])


@dataclass(frozen=True)
class Sample:
    """A model's class, and what it is exported with: two samples."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[torch.Tensor, ...]]


def _numbers(*shapes: tuple[int, ...]) -> Callable[[], tuple[torch.Tensor, ...]]:
    return lambda: tuple(torch.randn(2, *shape) for shape in shapes)


def _tokens(length: int, below: int) -> Callable[[], tuple[torch.Tensor, ...]]:
    return lambda: (torch.randint(0, below, (2, length)),)


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )


MODELS: dict[str, Sample] = {
    "mlp": Sample(_mlp, _numbers((6,))),
    "lenet5": Sample(LeNet5, _numbers((1, 28, 28))),
    "resnet": Sample(ResNet, _numbers((3, 16, 16))),
    "mobilenet": Sample(MobileNet, _numbers((3, 16, 16))),
    "vit": Sample(VisionTransformer, _numbers((3, 16, 16))),
    "gru": Sample(lambda: Recurrent(nn.GRU, bidirectional=True), _tokens(7, 40)),
    "lstm": Sample(lambda: Recurrent(nn.LSTM, num_layers=2, dropout=0.2), _tokens(7, 40)),
    "lstm_projected": Sample(lambda: Recurrent(nn.LSTM, proj_size=5), _tokens(7, 40)),
    "rnn": Sample(lambda: Recurrent(nn.RNN, nonlinearity="relu", bias=False), _tokens(7, 40)),
    "last_state": Sample(LastState, _numbers((5, 4))),
    "unet": Sample(UNet, _numbers((1, 16, 16))),
    "signals": Sample(Signals, _numbers((2, 32))),
    "two_ends": Sample(TwoEnds, _numbers((6,), (6,))),
    "oddities": Sample(Oddities, _tokens(5, 20)),
    "attention": Sample(Attention, _numbers((5, 8))),
}


def made(name: str, seed: int = 1) -> nn.Module:
    """The model in evaluation mode, with statistics that are not those of a new one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODELS[name].make()
        for module in model.modules():
            if isinstance(getattr(module, "running_mean", None), torch.Tensor):
                module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr, operator]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    return model.eval()


def export(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    """As featherweight.torch.save exports."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(
            model.eval(), inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False
        )


def save(name: str, path: Path, seed: int = 1) -> nn.Module:
    """The model, written to `path` as a ``.pt2``."""
    model = made(name, seed)
    torch.export.save(export(model, MODELS[name].inputs()), path)
    return model
