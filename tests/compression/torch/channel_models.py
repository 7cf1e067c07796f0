"""Networks whose channels depend on one another in every way that structured pruning knows of, small and with
random weights; each with the shapes and types of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks.compression.backends.torch._framework import fx, nn, torch
from tasks.compression.backends.torch.network import Network, Signature

Builder = Callable[[], tuple[nn.Module, tuple[tuple[int, ...], ...], tuple[str, ...]]]


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.layer1 = nn.Sequential(BasicBlock(8, 8, 1), BasicBlock(8, 8, 1))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2), BasicBlock(16, 16, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.pool(self.layer2(self.layer1(self.stem(x)))), 1))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.expand(torch.relu(self.reduce(self.pool(x)))))
        return x * gate


class InvertedResidual(nn.Module):
    """MobileNetV2's block with squeeze-excite, as MobileNetV3 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.expand = nn.Sequential(nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(24, 24, 3, 1, 1, groups=24, bias=False), nn.BatchNorm2d(24), nn.Hardswish()
        )
        self.excite = SqueezeExcite(24, 6)
        self.project = nn.Sequential(nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.project(self.excite(self.depthwise(self.expand(x))))
        return self.head(x.mean([2, 3]))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(1, 6, 3, padding=1)
        self.down2 = nn.Conv2d(6, 10, 3, padding=1)
        self.up = nn.ConvTranspose2d(10, 6, 2, 2)
        self.merge = nn.Conv2d(12, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = torch.relu(self.down1(x))
        two = torch.relu(self.down2(nn.functional.max_pool2d(one, 2)))
        return self.out(torch.relu(self.merge(torch.cat([one, self.up(two)], dim=1))))


class LeNet(nn.Module):
    """LeNet-5 as PyTorch's tutorial of pruning has it: 61,706 parameters."""

    def __init__(self, *, sized: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        self.sized = sized

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = x.view(-1, 400) if self.sized else x.view(x.size(0), -1)
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


class Attention(nn.Module):
    """Multi-head attention written out, with the sizes of its heads in the graph."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.heads, self.width = heads, width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sizes = (x.shape[0], x.shape[1], 3, self.heads, self.width // self.heads)
        query, key, value = self.qkv(x).reshape(sizes).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.place = nn.Parameter(torch.randn(1, 4, 16))
        self.norm1 = nn.LayerNorm(16)
        self.attention = Attention(16, 4)
        self.norm2 = nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0])


class Shuffle(nn.Module):
    """Convolutions in groups, with their channels shuffled between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3)
        self.first = nn.Conv2d(8, 16, 1, groups=4)
        self.norm = nn.GroupNorm(4, 16)
        self.second = nn.Conv2d(16, 8, 1, groups=2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(self.stem(x)))
        n, _, h, w = x.shape
        x = x.view(n, 4, 4, h, w).transpose(1, 2).reshape(n, 16, h, w)
        return self.head(torch.relu(self.second(x)).amax((2, 3)))


class Recurrent(nn.Module):
    def __init__(self, kind: str = "LSTM") -> None:
        super().__init__()
        self.table = nn.Embedding(20, 12)
        self.lstm = getattr(nn, kind)(12, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(16, 6, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        out, _ = self.lstm(self.table(words))
        _, last = self.gru(out)
        return self.head(last[0])


class Halves(nn.Module):
    """A gate made of one half of the channels for the other (GLU), and a convolution with a norm of channels
    one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv1d(3, 12, 3)
        self.norm = nn.InstanceNorm1d(6, affine=True)
        self.prelu = nn.PReLU(6)
        self.deep = nn.Conv1d(6, 12, 3, groups=6)
        self.head = nn.Conv1d(12, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.wide(x).chunk(2, dim=1)
        x = self.deep(self.prelu(self.norm(value * gate.sigmoid())))
        return self.head(x).mean(-1)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 8), nn.Linear(4, 8)
        self.shared = nn.Linear(8, 8)
        self.one, self.two = nn.Linear(8, 3), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = torch.tanh(self.left(x)), torch.tanh(self.right(y))
        a, b = self.shared(a), self.shared(b)
        return self.one(a - b), self.two(torch.cat((a, b), -1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "mlp": (mlp, ((6,),)),
    "lenet": (LeNet, ((1, 28, 28),)),
    "lenet_computed": (lambda: LeNet(sized=False), ((1, 28, 28),)),
    "resnet": (ResNet, ((3, 12, 12),)),
    "mobile": (InvertedResidual, ((3, 12, 12),)),
    "unet": (UNet, ((1, 8, 8),)),
    "vit": (ViT, ((3, 8, 8),)),
    "shuffle": (Shuffle, ((2, 6, 6),)),
    "recurrent": (Recurrent, ((5,),)),
    "halves": (Halves, ((3, 16),)),
    "two_heads": (TwoHeads, ((6,), (4,))),
}


def network(name: str) -> Network:
    """By its name in NETWORKS, with weights and statistics that are all different."""
    torch.manual_seed(0)
    build, shapes = NETWORKS[name]
    dtypes = ("int64",) if name == "recurrent" else ("float32",) * len(shapes)
    return of(build(), shapes, dtypes)


def of(module: nn.Module, shapes: Any, dtypes: Any = None) -> Network:
    names = tuple(f"x{number}" for number in range(len(shapes)))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    signature = Signature(names, tuple(shapes), tuple(dtypes or ("float32",) * len(shapes)), ("y",))
    return Network(fx.symbolic_trace(module).eval(), signature)
