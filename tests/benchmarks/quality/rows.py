"""The rows of the quality table: which original, which recipe, and what is asked of the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MEASURES", "RECIPES", "ROWS", "Goal", "QualityRow"]

RECIPES = Path(__file__).parents[3] / "docs" / "recipes"


@dataclass(frozen=True)
class Measure:
    """How a measured number is written; `factor` turns it into what `text` shows."""

    text: str
    factor: float = 1.0

    def shown(self, value: float) -> str:
        return self.text.format(value * self.factor)


MEASURES: Mapping[str, Measure] = {
    "times": Measure("{:.1f}x"),
    "bytes": Measure("{:,.0f} B"),
    "gzip_bytes": Measure("{:,.0f} B gzipped"),
    "accuracy": Measure("{:.2f} %", 100),
    "error": Measure("{:.2f} % error", 100),
    "change": Measure("{:+.2f} points of accuracy", 100),
    "script_share": Measure("{:.2f} of the script's seconds"),
    "macs_share": Measure("{:.3f} of the MACs"),
    "speedup": Measure("{:.2f}x as fast"),
}


@dataclass(frozen=True)
class Goal:
    """A bound of one measure."""

    measure: str
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, value: float) -> bool:
        low = self.at_least is None or value >= self.at_least
        return low and (self.at_most is None or value <= self.at_most)

    def text(self) -> str:
        measure = MEASURES[self.measure]
        bounds = [("at least", self.at_least), ("at most", self.at_most)]
        return ", ".join(f"{word} {measure.shown(bound)}" for word, bound in bounds if bound is not None)


@dataclass(frozen=True)
class QualityRow:
    """A job: `original` (in originals.ORIGINALS) sent with the recipe of the row's `name` and a data set (in
    datasets.DATASETS).

    `shown` are measures to print beside those of `goals`; `published` is what there is to beat; `limits` says
    what stands in the way of a goal that is not reached. With `against_script` the job is timed beside the
    plain script; with `faster_than` its file beside that of another row, or the original's own conversion.
    Rows with a `shared_recipe` are sent with that one.
    """

    name: str
    title: str
    original: str
    dataset: str
    goals: tuple[Goal, ...]
    published: str
    shown: tuple[str, ...] = ()
    limits: str = ""
    against_script: bool = False
    faster_than_original: bool = False
    shared_recipe: str | None = None

    @property
    def recipe(self) -> Path:
        return RECIPES / f"{self.shared_recipe or self.name}.yaml"


ROWS: Mapping[str, QualityRow] = {
    row.name: row
    for row in (
        QualityRow(
            "tutorial-same-accuracy",
            "Tutorial CNN, full MNIST, nothing lost",
            "tutorial",
            "mnist",
            (Goal("times", at_least=12), Goal("change", at_least=0), Goal("script_share", at_most=0.7)),
            published="9.4x by hand, 10x in the tutorial",
            shown=("gzip_bytes", "accuracy"),
            limits="both train as long; what the service saves is the start of TensorFlow",
            against_script=True,
        ),
        QualityRow(
            "tutorial-smallest",
            "Tutorial CNN, full MNIST, smallest",
            "tutorial",
            "mnist",
            (Goal("times", at_least=25), Goal("change", at_least=-0.005)),
            published="10x in the tutorial",
            shown=("gzip_bytes", "accuracy"),
        ),
        QualityRow(
            "lenet-300-100",
            "LeNet-300-100, 266,610 parameters",
            "lenet-300-100",
            "mnist",
            (Goal("times", at_least=40), Goal("error", at_most=0.016)),
            published="Deep Compression: 40x at 1.58 % error",
            shown=("gzip_bytes",),
        ),
        QualityRow(
            "lenet-5",
            "LeNet-5 (Caffe's), 431,080 parameters",
            "lenet-5",
            "mnist",
            (Goal("times", at_least=60), Goal("error", at_most=0.008)),
            published="Deep Compression: 39x at 0.74 % error",
            shown=("gzip_bytes",),
        ),
        QualityRow(
            "lenet-5-keras-alike",
            "LeNet-5 (Caffe's) of Keras, by the spec of the next row",
            "lenet-5",
            "mnist",
            (Goal("times", at_least=20), Goal("change", at_least=-0.003)),
            published="",
            shown=("bytes", "gzip_bytes", "accuracy"),
            shared_recipe="lenet-5-alike",
        ),
        QualityRow(
            "lenet-5-torch-alike",
            "LeNet-5 (Caffe's) of PyTorch, by the spec of the row before",
            "lenet-5-torch",
            "mnist",
            (Goal("times", at_least=20), Goal("change", at_least=-0.003)),
            published="",
            shown=("bytes", "gzip_bytes", "accuracy"),
            limits="three digits of 10,000; it began at 99.34 %, the Keras one at 99.19 %",
            shared_recipe="lenet-5-alike",
        ),
        QualityRow(
            "resnet-8-int8",
            "ResNet-8 (MLPerf Tiny), CIFAR-10, full int8",
            "resnet-8",
            "cifar10",
            (Goal("bytes", at_most=95_600), Goal("accuracy", at_least=0.878)),
            published="reference int8: 98,496 B, 87.8 %",
        ),
        QualityRow(
            "resnet-8-sparse",
            "ResNet-8 (MLPerf Tiny), CIFAR-10, small when gzipped",
            "resnet-8",
            "cifar10",
            (Goal("gzip_bytes", at_most=60_000), Goal("change", at_least=-0.01)),
            published="reference int8: 98,496 B, 87.8 %",
            shown=("accuracy",),
            limits="a network this small has little to spare; one test image is 0.1 points",
        ),
        QualityRow(
            "resnet-8-structured",
            "ResNet-8 (MLPerf Tiny), CIFAR-10, fewer channels",
            "resnet-8",
            "cifar10",
            (Goal("macs_share", at_most=0.5), Goal("speedup", at_least=1.5), Goal("change", at_least=-0.02)),
            published="",
            shown=("accuracy", "bytes"),
            limits="not known; it learns from half of the images that the original was trained on",
            faster_than_original=True,
        ),
        QualityRow(
            "resnet-8-torch-structured",
            "ResNet-8 of PyTorch, CIFAR-10, fewer channels",
            "resnet-8-torch",
            "cifar10-channels-first",
            (Goal("macs_share", at_most=0.5), Goal("speedup", at_least=1.5), Goal("change", at_least=-0.02)),
            published="",
            shown=("accuracy", "bytes"),
            limits="not known",
            faster_than_original=True,
        ),
        QualityRow(
            "ds-cnn-int8",
            "DS-CNN keyword spotting (MLPerf Tiny), full int8, 100 samples",
            "ds-cnn",
            "keywords",
            (Goal("bytes", at_most=48_500), Goal("accuracy", at_least=0.906)),
            published="reference int8: 53,936 B, 90.2 %",
        ),
    )
}
