"""``make bench-models`` of PyTorch: networks through whole jobs, for the table in docs/models.md.

    python -m tests.benchmarks.exported_models [--only NAME ...] [--write]

Each has random weights and statistics. It is exported, pruned to one half and delivered as ``.tflite``, ONNX
and ``.pt2``, each run in its own runtime and compared with the original pruned alike; then once more with
weights in int8. ResNet-18 and MobileNetV2 are of full size, on images of 64 and 96 pixels.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import featherweight.torch
from featherweight.report import Report
from tasks.compression import compress
from tests.benchmarks import document
from tests.benchmarks.machine import machine
from tests.compression.torch.models import BasicBlock, Recurrent, UNet, VisionTransformer

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "models.md"
PRUNE = {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}}
HEADER = (
    "| network | parameters | zeros | difference of `.tflite` | of ONNX | of `.pt2` "
    "| int8 `.tflite`, gzipped | of the original | seconds |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


class ResNet18(nn.Module):
    """He et al. 2016."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
        widths += [(128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
        self.blocks = nn.Sequential(*(BasicBlock(*each) for each in widths))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head(self.blocks(self.stem(x)))
        return answer


class Bottleneck(nn.Module):
    """MobileNetV2's: expanded, filtered, projected."""

    def __init__(self, given: int, made: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = given * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(given, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6()]
        layers += [nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner)]
        self.conv = nn.Sequential(
            *layers, nn.ReLU6(), nn.Conv2d(inner, made, 1, bias=False), nn.BatchNorm2d(made)
        )
        self.residual = stride == 1 and given == made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.conv(x)
        return x + made if self.residual else made


class MobileNetV2(nn.Module):
    """Sandler et al. 2018, table 2."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
        given = 32
        for expansion, made, times, stride in (
            *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
            *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
        ):
            for number in range(times):
                layers.append(Bottleneck(given, made, stride if number == 0 else 1, expansion))
                given = made
        layers += [nn.Conv2d(given, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head(self.features(x))
        return answer


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "ResNet-18": (ResNet18, lambda: torch.randn(2, 3, 64, 64)),
    "MobileNetV2": (MobileNetV2, lambda: torch.randn(2, 3, 96, 96)),
    "ViT (2 layers, 4 heads)": (VisionTransformer, lambda: torch.randn(2, 3, 16, 16)),
    "GRU (bidirectional, embedding)": (
        lambda: Recurrent(nn.GRU, bidirectional=True),
        lambda: torch.randint(0, 40, (2, 7)),
    ),
    "U-Net": (UNet, lambda: torch.randn(2, 1, 16, 16)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--write", action="store_true", help="replace the table in docs/models.md")
    options = parser.parse_args()
    rows = [_row(name) if name in options.only else _unmeasured(name) for name in NETWORKS]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = "\n".join([f"Measured {today} on {machine()}.", "", HEADER, *rows]) + "\n"
    sys.stdout.write(text)
    if options.write:
        DOCUMENT.write_text(document.updated(DOCUMENT.read_text(), "exported", text))


def _unmeasured(name: str) -> str:
    return document.line([name, document.NOT_MEASURED, *[""] * 7])


def _row(name: str) -> str:
    make, example = NETWORKS[name]
    torch.manual_seed(0)
    model = make().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt2"
        featherweight.torch.save(model, example(), path)
        began = time.perf_counter()
        whole = _job(path, Path(folder) / "float", [PRUNE], ["tflite", "onnx", "pt2"])
        seconds = time.perf_counter() - began
        small = _job(
            path,
            Path(folder) / "int8",
            [PRUNE, {"technique": "quantize", "scheme": "dynamic"}],
            ["tflite"],
        )
    differences = " | ".join(f"{item.max_abs_difference:.1e}" for item in whole.outputs)
    first, packed = whole.outputs[0], small.outputs[0]
    assert first.parameters is not None
    assert first.nonzero_parameters is not None
    zeros = 1 - first.nonzero_parameters / first.parameters
    return (
        f"| {name} | {first.parameters:,} | {zeros:.1%} | {differences} "
        f"| {packed.gzip_bytes:,} B | {packed.gzip_bytes / small.original.gzip_bytes:.3f} | {seconds:.0f} |"
    )


def _job(model: Path, folder: Path, steps: list[dict[str, Any]], outputs: list[str]) -> Report:
    return compress(model, {"steps": steps, "outputs": outputs}, workdir=folder).report


if __name__ == "__main__":
    main()
