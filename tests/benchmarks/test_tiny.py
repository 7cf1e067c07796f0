"""The parts of the MLPerf Tiny benchmark that could be wrong without anyone seeing it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from featherweight.report import Report
from featherweight.spec import CompressionSpec
from tasks.compression import compress
from tasks.compression.backends.tensorflow.convert import to_tflite
from tests.benchmarks.tiny import samples, table
from tests.benchmarks.tiny.completeness import gaps
from tests.benchmarks.tiny.jobs import of_the_reference
from tests.benchmarks.tiny.results import Result, read_results
from tests.benchmarks.tiny.rows import ROWS, TinyRow
from tests.compression.networks import digits, keras, save_trained_cnn

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
RESULT = Result(
    name="ic-pruned",
    original_bytes=300_000,
    bytes=90_000,
    gzip_bytes=60_000,
    reference_bytes=98_496,
    reference_gzip_bytes=80_000,
    zeros=0.4965,
    metric="accuracy",
    before=0.881,
    after=0.876,
    change=(-0.005, -0.0125, 0.002),
    reference=0.878,
    flipped=0.031,
    n=1000,
    float_ms=1.25,
    ms=0.5,
    warnings=("fixed_batch",),
    gaps=(),
    seconds=12.34,
    machine="2 cores",
    date="2026-01-02",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("complete")
    x, y = digits()
    model, data = save_trained_cnn(folder / "cnn.keras", x, y), folder / "digits.npz"
    np.savez(data, x=x, y=y)
    spec = {**ROWS["ic-pruned"].spec, "outputs": ["tflite", "keras"]}
    return compress(model, spec, dataset=data, workdir=folder / "work", job_id="job_1").report


def test_nothing_is_lacking_in_the_report_of_a_job(report: Report) -> None:
    assert gaps(report) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("outputs/0", "difference"),
        ("outputs/0", "latency"),
        ("outputs/0", "by_class"),
        ("outputs/0", "agreement"),
        ("outputs/1", "zstd_bytes"),
        ("original", "accuracy"),
        ("baseline", "peak_activation_bytes"),
        ("layers/0", "snr_db"),
        ("layers/0", "macs"),
        ("", "data"),
    ],
)
def test_a_field_taken_away_is_found(report: Report, path: str, name: str) -> None:
    values = report.model_dump(mode="json")
    part = values
    for key in filter(None, path.split("/")):
        part = part[int(key)] if isinstance(part, list) else part[key]
    part[name] = None
    (found,) = gaps(Report.model_validate(values))
    assert found.endswith(name)


def test_without_labels_nothing_is_right_or_wrong_and_all_else_is_wanted(report: Report) -> None:
    values = report.model_dump(mode="json")
    for item in values["inferred"]:
        if item["field"] == "labels":
            item["value"] = "original"
    values["original"]["accuracy"] = values["original"]["calibration_error"] = None
    for item in values["outputs"]:
        item["difference"] = item["by_class"] = item["calibration_error"] = None
    assert gaps(Report.model_validate(values)) == []
    values["outputs"][0]["flipped"] = None
    assert gaps(Report.model_validate(values)) == ["outputs/model.tflite/flipped"]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_row_can_be_measured(row: TinyRow) -> None:
    steps = [step.technique for step in CompressionSpec.model_validate(row.spec).steps]
    assert steps[-1] == "quantize"
    assert (len(steps) == 3) == (row.job == "pruned")
    assert row.model.samples in samples.SAMPLES


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def shown(result: Result) -> list[str]:
    return cells(table.markdown([ROWS["ic-pruned"]], {"ic-pruned": result}).splitlines()[-1])


def test_row_shows_what_was_measured() -> None:
    assert shown(RESULT) == [
        "ResNet-8, image classification (`pretrainedResnet.h5`)",
        "pruned 50 %, trained, int8",
        "49.6%",
        "90,000 B, 60,000 B",
        "98,496 B, 80,000 B",
        "accuracy, 1,000",
        "88.1% → 87.6%",
        "-0.5 points (-1.2 to +0.2)",
        "87.8%",
        "3.1%",
        "1.250 → 0.500 ms",
        "12.3",
        "complete",
    ]


def test_row_of_an_error_and_one_without_labels() -> None:
    error = dataclasses.replace(
        RESULT,
        metric="mean_squared_error",
        before=9.1,
        after=9.25,
        change=(0.15, 0.1, 0.2),
        reference=None,
        flipped=None,
    )
    assert shown(error)[5:10] == [
        "mean squared error, 1,000",
        "9.100 → 9.250",
        "+0.150 (+0.100 to +0.200)",
        "",
        "",
    ]
    alike = dataclasses.replace(
        RESULT, metric="agreement_with_original", before=None, change=None, reference=None
    )
    assert shown(alike)[5:9] == ["agreement with original, 1,000", "87.6%", "", ""]


def test_what_a_report_lacks_and_what_was_not_measured_is_said() -> None:
    assert shown(dataclasses.replace(RESULT, gaps=("baseline", "data")))[-1] == "lacks baseline, data"
    assert cells(table.markdown([ROWS["ic-int8"]], {}).splitlines()[-1])[2] == "not measured"


def test_table_has_its_place_in_the_document() -> None:
    assert "some rows" in table.replaced(DOCUMENT.read_text(), "some rows")
    with pytest.raises(ValueError, match="tiny: begin"):
        table.replaced("a\n", "new\n")


def test_results_are_read_back(tmp_path: Path) -> None:
    other = dataclasses.replace(RESULT, name="other", change=None)
    RESULT.write(tmp_path)
    other.write(tmp_path)
    assert read_results(tmp_path) == {"ic-pruned": RESULT, "other": other}


def test_wake_words_of_every_class_are_in_both_splits(tmp_path: Path) -> None:
    folder = tmp_path / "mlperf_tiny" / "sww"
    folder.mkdir(parents=True)
    labels = np.repeat([0.0, 1.0, 2.0], 15)
    specs = np.arange(45.0).reshape(45, 1, 1, 1) * np.ones((1, 30, 1, 40))
    np.savez(folder / "calibration_samples.npz", specs=specs, labels=labels)
    arrays = samples.wake_words(tmp_path)
    assert {len(arrays["x_train"]), len(arrays["x_test"])} == {22, 23}
    for split in ("train", "test"):
        assert set(arrays[f"y_{split}"]) == {0, 1, 2}
        expected = labels[arrays[f"x_{split}"][:, 0, 0, 0].astype(int)]
        assert arrays[f"y_{split}"].tolist() == expected.tolist()
    seen = np.concatenate([arrays["x_train"], arrays["x_test"]])[:, 0, 0, 0]
    assert sorted(seen) == list(range(45))


def test_published_file_is_measured_as_the_delivered_one(tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.Input((3,)), layers.Dense(3, use_bias=False)])
    model.set_weights([2 * np.eye(3, dtype=np.float32)])
    program, data = tmp_path / "model.tflite", tmp_path / "data.npz"
    program.write_bytes(to_tflite(model))
    np.savez(data, x_test=np.eye(3, dtype=np.float32), y_test=np.array([0, 1, 1]))
    assert of_the_reference(program, data, "accuracy") == pytest.approx(2 / 3)
    assert of_the_reference(program, data, "mean_squared_error") == pytest.approx(1 / 3)
    assert of_the_reference(program, data, "agreement_with_original") is None


def test_noise_is_nearer_to_what_the_autoencoder_reproduces(tmp_path: Path) -> None:
    """The network here knows one direction and nothing else."""
    folder = tmp_path / "mlperf_tiny" / "ad"
    folder.mkdir(parents=True)
    layers = keras().layers
    model = keras().Sequential([layers.Input((640,)), layers.Dense(1, use_bias=False), layers.Dense(640)])
    direction = np.full((640, 1), 1 / np.sqrt(640), np.float32)
    model.set_weights([direction, direction.T, np.zeros(640, np.float32)])
    (folder / "ad01_fp32.tflite").write_bytes(to_tflite(model))
    arrays = samples.reproducible_noise(tmp_path)
    assert [len(arrays[name]) for name in ("x_train", "x_test")] == list(samples.NOISE)
    left = arrays["x_test"] - arrays["x_test"].mean(axis=1, keepdims=True)
    assert left.std() == pytest.approx(samples.DEVIATION, rel=0.02)
    assert np.array_equal(arrays["x_test"], samples.reproducible_noise(tmp_path)["x_test"])


def test_images_are_enlarged_and_scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((3, 32, 32, 3), np.float32)
    pixels[:, 16:] = 255
    given = {"x_train": pixels, "x_test": pixels[:2], "y_train": np.zeros(3), "y_test": np.zeros(2)}
    monkeypatch.setattr(samples.datasets, "cifar10", lambda folder: given)
    arrays = samples.enlarged_images(tmp_path)
    assert set(arrays) == {"x_train", "x_test"}
    assert arrays["x_test"].shape == (2, 96, 96, 3)
    assert (arrays["x_train"].min(), arrays["x_train"].max()) == (0, 1)
    assert arrays["x_train"][0, :40].max() < 0.1 < 0.9 < arrays["x_train"][0, 56:].min()
