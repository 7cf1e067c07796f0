"""The parts of the quality benchmark that could be wrong without anyone seeing it."""

from __future__ import annotations

import dataclasses
import gzip
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherweight.spec import CompressionSpec
from featherweight.specfile import load_spec
from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.data import prepare
from tasks.compression.facts import CompiledState, ModelFacts
from tests.benchmarks.quality import datasets, originals, speed, table
from tests.benchmarks.quality.measure import accuracy, gzip_bytes, times
from tests.benchmarks.quality.originals import ORIGINALS, Trained
from tests.benchmarks.quality.results import Result, read_results
from tests.benchmarks.quality.rows import MEASURES, RECIPES, ROWS, Goal, QualityRow
from tests.compression.networks import keras

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
ROW = QualityRow(
    "small",
    "A network",
    "lenet-5",
    "mnist",
    (Goal("times", at_least=40), Goal("error", at_most=0.016)),
    published="39x",
    shown=("gzip_bytes",),
    limits="the last layer",
)


def result(**measured: float) -> Result:
    numbers = {"times": 50.0, "error": 0.01, "gzip_bytes": 1234, **measured}
    return Result("small", numbers, 12.34, "2 cores", "2026-01-02")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_size_is_what_gzip_9_would_store(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 4, 50_000, np.uint8).tobytes()
    path = tmp_path / "file"
    path.write_bytes(content)
    assert gzip_bytes(path) == len(gzip.compress(content, 9))
    assert len(content) / 5 < gzip_bytes(path) < len(content) / 3  # two bits of each eight
    assert times(1_066_440, 26_661) == 40.0


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_accuracy_is_the_share_of_right_answers_whatever_the_types_of_the_file(
    tmp_path: Path, dtype: str
) -> None:
    import tensorflow as tf

    model = keras().Sequential([keras().layers.Input((3,)), keras().layers.Dense(3, use_bias=False)])
    model.set_weights([np.eye(3, dtype=np.float32)])
    x = np.array([[9, 1, 2], [1, 9, 2], [1, 2, 9], [8, 3, 1]], np.float32)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if dtype == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample[None]] for sample in x)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    path = tmp_path / "model.tflite"
    with pytest.warns(UserWarning, match="Statistics") if dtype == "int8" else nullcontext():
        path.write_bytes(converter.convert())
    assert accuracy(path, x, np.array([0, 1, 2, 1])) == 0.75


@pytest.mark.parametrize(
    ("goal", "value", "reached"),
    [
        (Goal("times", at_least=40), 40.0, True),
        (Goal("times", at_least=40), 39.99, False),
        (Goal("error", at_most=0.016), 0.016, True),
        (Goal("error", at_most=0.016), 0.0161, False),
        (Goal("change", at_least=0), -0.0001, False),
    ],
)
def test_goal_is_reached_at_its_bound_and_not_beyond(goal: Goal, value: float, reached: bool) -> None:
    assert goal.reached(value) is reached


def test_row_that_reached_its_goals_shows_all_measures_and_no_excuse() -> None:
    line = table.markdown([ROW], {"small": result()}).splitlines()[-1]
    title, *others = cells(line)
    assert "recipes/small.yaml" in title
    assert others == [
        "39x",
        "at least 40.0x; at most 1.60 % error",
        "50.0x; 1.00 % error; 1,234 B gzipped",
        "yes",
        "12.3",
        "",
    ]


def test_row_that_missed_a_goal_says_which_and_what_limits_it() -> None:
    line = table.markdown([ROW], {"small": result(error=0.02)}).splitlines()[-1]
    assert cells(line)[4:] == ["no: at most 1.60 % error", "12.3", "the last layer"]


def test_row_without_a_result_says_so_and_days_and_machines_are_told_once() -> None:
    text = table.markdown([ROW, ROW], {"other": result()})
    assert cells(text.splitlines()[-1])[3:] == ["not measured", "", "", ""]
    assert text.count("Measured 2026-01-02 on 2 cores.") == 1


def test_only_what_is_between_the_markers_is_replaced() -> None:
    document = f"a\n{table.BEGIN}\nold\n{table.END}\nb\n"
    assert table.replaced(document, "new\n") == f"a\n{table.BEGIN}\nnew\n{table.END}\nb\n"
    with pytest.raises(ValueError, match="quality: begin"):
        table.replaced("a\n", "new\n")
    assert "some rows" in table.replaced(DOCUMENT.read_text(), "some rows")


def test_row_without_a_result_stays_as_the_document_has_it() -> None:
    old, new = table.markdown([ROW], {"small": result()}), table.markdown([ROW], {})
    document = f"a\n{table.BEGIN}\n{old}{table.END}\nb\n"
    assert table.replaced(document, new) == document
    other = dataclasses.replace(ROW, goals=(Goal("times", at_least=41),))
    assert "not measured" in table.replaced(document, table.markdown([other], {}))
    second = dataclasses.replace(ROW, name="second", title="Another")
    later = dataclasses.replace(result(), name="second", date="2026-01-03")
    both = table.replaced(document, table.markdown([ROW, second], {"second": later}))
    assert both.splitlines()[2:4] == ["Measured 2026-01-02 on 2 cores.", "Measured 2026-01-03 on 2 cores."]
    assert "not measured" not in both
    again = table.replaced(document, table.markdown([ROW], {"small": later}))
    assert "2026-01-02" not in again


def test_results_of_several_runs_are_read_back(tmp_path: Path) -> None:
    first, second = result(), Result("other", {"times": 2.0}, 1.0, "2 cores", "2026-01-03")
    first.write(tmp_path)
    second.write(tmp_path)
    assert read_results(tmp_path) == {"small": first, "other": second}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_row_can_be_measured(row: QualityRow) -> None:
    """Its recipe is a spec of this version with a header that says what it is for, and all it shows is
    measured."""
    assert row.recipe.read_text().startswith("# For ")
    assert load_spec(row.recipe).steps
    assert row.original in ORIGINALS
    assert row.dataset in datasets.DATASETS
    assert {goal.measure for goal in row.goals} | set(row.shown) <= set(MEASURES)


def test_every_recipe_is_measured() -> None:
    assert set(RECIPES.glob("*.yaml")) == {row.recipe for row in ROWS.values()}


@pytest.mark.parametrize("name", [name for name, item in ORIGINALS.items() if isinstance(item, Trained)])
def test_networks_have_the_parameters_of_the_papers(name: str) -> None:
    original = ORIGINALS[name]
    assert isinstance(original, Trained)
    assert keras().Sequential(original.build(keras().layers)).count_params() == original.parameters


def test_originals_never_see_the_digits_that_recipes_are_chosen_by(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 10, 400)
    arrays = {"x_train": np.zeros((400, 2), np.float32), "y_train": labels}
    path = tmp_path / "data.npz"
    np.savez(path, **arrays, x_test=np.ones((50, 2), np.float32), y_test=labels[:50])
    spec = CompressionSpec.model_validate({"steps": [{"technique": "finetune"}]})
    facts = ModelFacts(((2,),), ((10,),), "linear", CompiledState())
    data = prepare(path, facts, spec, tmp_path, lambda _: None, lambda x: x)
    assert len(data.validation) == 40
    assert np.array_equal(originals.training_digits(arrays), data.train)


def test_first_hundred_keywords_train_and_the_others_test(tmp_path: Path) -> None:
    root = tmp_path / "mlperf_tiny" / "kws" / "eval_kws01"
    root.mkdir(parents=True)
    raw = np.random.default_rng(0).integers(-128, 128, (130, 49, 10, 1)).astype(np.int8)
    raw[0, 0, 0, 0], raw[100, 0, 0, 0] = datasets.KEYWORDS_ZERO, -128
    raw.tofile(root / "kws01_mfcc_int8_1000x490.bin")
    (root / "y_labels.csv").write_text("".join(f"f{index}.bin,12,{index % 12}\n" for index in range(130)))
    arrays = datasets.keywords(tmp_path)
    assert arrays["x_train"].shape == (100, 49, 10, 1)
    assert arrays["x_test"].shape == (30, 49, 10, 1)
    assert arrays["x_train"][0, 0, 0, 0] == 0
    assert arrays["x_test"][0, 0, 0, 0] == pytest.approx((-128 - 83) * 0.5847029089927673)
    assert arrays["y_test"].tolist() == [index % 12 for index in range(100, 130)]


def test_labels_of_cifar_belong_to_their_images(tmp_path: Path) -> None:
    folder = tmp_path / "cifar10"
    folder.mkdir()
    for number in (*range(datasets.CIFAR_BATCHES), 50):  # one image to a batch, of one colour
        Image.new("RGB", (32, 32), (number, 0, 0)).save(folder / f"cifar10_batch_{number}.png")
    np.save(folder / "labels_51000.npy", np.r_[np.arange(25) % 10, np.zeros(49_975), [7, 3]].astype(np.int64))
    arrays = datasets.cifar10(tmp_path)
    assert arrays["x_train"][:, 0, 0, 0].tolist() == list(range(25))
    assert arrays["y_train"].tolist() == (np.arange(25) % 10).tolist()
    assert arrays["x_test"][0, 0, 0].tolist() == [50, 0, 0]
    assert arrays["y_test"].tolist() == [7]


def test_speed_is_a_ratio_of_the_slower_to_the_faster(tmp_path: Path) -> None:
    paths = []
    for width in (1500, 10):
        layers = [keras().layers.Input((width,)), keras().layers.Dense(width)]
        path = tmp_path / f"{width}.tflite"
        path.write_bytes(to_tflite(keras().Sequential(layers)))
        paths.append(path)
    assert speed.ratio(*paths) > 5
    assert speed.ratio(*reversed(paths)) < 0.2
