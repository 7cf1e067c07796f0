"""The same digits in every format: the same samples, hence the same splits, answers and files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from featherweight.report import Report
from tasks.compression import compress
from tests.compression.datasets.making import tar_of, zip_of
from tests.compression.datasets.test_records import example, written
from tests.compression.networks import digits, keras, save_model

pytestmark = pytest.mark.slow

COUNT = 240
SPEC = {
    "steps": [
        {"technique": "finetune", "epochs": 1},
        {"technique": "quantize", "scheme": "full_int8", "calibration_samples": 100},
    ]
}
IMAGE = {"scale": "0..1"}

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def pixels() -> tuple[Array, Array]:
    x, y = digits()
    return np.rint(x[:COUNT] * 255).astype(np.uint8), y[:COUNT]


@pytest.fixture(scope="module")
def model(pixels: tuple[Array, Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras().utils.set_random_seed(0)
    layers = keras().layers
    network = keras().Sequential(
        [layers.InputLayer((28, 28, 1)), layers.Flatten(), layers.Dense(10, activation="softmax")]
    )
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(shares(pixels[0]), pixels[1], epochs=20, verbose=0)
    return save_model(network, tmp_path_factory.mktemp("model") / "m.h5")


@pytest.fixture(scope="module")
def expected(pixels: tuple[Array, Array], model: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = tmp_path_factory.mktemp("npz") / "d.npz"
    np.savez(path, x=shares(pixels[0]), y=pixels[1])
    report = job(model, path, None)
    assert report.original.accuracy is not None
    assert report.original.accuracy.value > 0.5
    return report


def shares(x: Array) -> Array:
    return (x.astype(np.float32) / np.float32(255))[..., np.newaxis]


def job(model: Path, dataset: Path, data: Any, spec: Any = SPEC) -> Report:
    reading = {} if data is None else {"data": data}
    return compress(model, {**spec, **reading}, dataset=dataset, workdir=dataset.parent / "work").report


def png(image: Array) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def folders(pixels: tuple[Array, Array]) -> dict[str, bytes | tarfile.TarInfo]:
    return {f"{y}/{number}.png": png(x) for number, (x, y) in enumerate(zip(*pixels, strict=True))}


def made(kind: str, tmp_path: Path, pixels: tuple[Array, Array]) -> tuple[Path, dict[str, Any]]:
    """The data set as a file, and how it is read."""
    path = tmp_path / "data"
    if kind == "image_zip":
        files = {name: bytes(content) for name, content in folders(pixels).items()}  # type: ignore[arg-type]
        return zip_of(path, files), {"image": IMAGE}
    if kind == "image_tar":
        return tar_of(path, folders(pixels), "w:gz"), {"image": IMAGE}
    if kind == "tfrecord":
        records = (example(i=png(x), y=[int(y)]) for x, y in zip(*pixels, strict=True))
        schema = {"features": {"i": {"encoding": "image"}, "y": {}}, "input": "i", "label": "y"}
        return written(tmp_path, records), {"tfrecord": schema, "image": IMAGE}
    flat = shares(pixels[0]).reshape(COUNT, -1)
    columns = {f"p{place}": flat[:, place] for place in range(flat.shape[1])}
    table = pa.table({"digit": pixels[1], **columns})
    if kind == "csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path, row_group_size=100)
    return path, {"target": "digit"}


@pytest.mark.parametrize("kind", ["csv", "parquet", "image_zip", "image_tar", "tfrecord"])
def test_the_format_makes_no_difference(
    tmp_path: Path, pixels: tuple[Array, Array], model: Path, expected: Report, kind: str
) -> None:
    path, reading = made(kind, tmp_path, pixels)
    report = job(model, path, reading)
    assert report.original.accuracy == expected.original.accuracy
    assert [each.accuracy for each in report.outputs] == [each.accuracy for each in expected.outputs]
    assert [each.sha256 for each in report.outputs] == [each.sha256 for each in expected.outputs]
    assert report.data is not None
    assert report.data.source is not None
    assert report.data.source.format == kind
    assert report.data.source.x_shape == [28, 28, 1]
    assert report.spec["data"]["image" if "image" in reading else "target"]
    if kind.startswith("image"):
        assert report.data.source.classes == [str(number) for number in range(10)]


def test_a_data_set_that_stays_on_disk_makes_no_difference(
    tmp_path: Path,
    pixels: tuple[Array, Array],
    model: Path,
    expected: Report,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.compression.datasets.samplefile.IN_MEMORY_BYTES", 0)
    path, reading = made("image_zip", tmp_path, pixels)
    report = job(model, path, reading)
    assert [each.sha256 for each in report.outputs] == [each.sha256 for each in expected.outputs]


def test_rows_of_a_mapped_array_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    from tasks.compression.backends.tensorflow.sample_rows import rows_of

    array = np.memmap(tmp_path / "a", np.float32, "w+", shape=(100, 2))
    array[:] = np.arange(200).reshape(100, 2)
    rows = rows_of(array)
    array[7] = -1  # a copy would not see it
    assert rows(np.array([7, 3])).numpy().tolist() == [[-1, -1], [6, 7]]


def test_pixels_for_a_model_of_shares_are_warned_of(
    tmp_path: Path, pixels: tuple[Array, Array], model: Path
) -> None:
    # An affine model tells digits by either; upside down it has to guess.
    path = tmp_path / "d.npz"
    noise = np.random.default_rng(0).integers(0, 255, (COUNT, 28, 28, 1))
    np.savez(path, x=noise, y=pixels[1])
    codes = [each.code for each in job(model, path, None, {"steps": [SPEC["steps"][1]]}).warnings]
    assert {"baseline_near_chance", "samples_of_another_range"} <= set(codes)


def test_images_without_labels_calibrate(tmp_path: Path, pixels: tuple[Array, Array], model: Path) -> None:
    path = zip_of(tmp_path / "z", {f"{number}.png": png(x) for number, x in enumerate(pixels[0])})
    report = job(model, path, {"image": IMAGE}, {"steps": [SPEC["steps"][1]]})
    assert report.verdict == "smaller_unverified"
    assert "no_labels" in [each.code for each in report.warnings]
