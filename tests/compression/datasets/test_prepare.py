"""A data set on its way into a job: divided, judged against the model, described for the report."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherweight.report import ReportWarning
from featherweight.spec import CompressionSpec
from tasks.compression.data import Data, prepare
from tasks.compression.duplicates import also_among
from tasks.compression.errors import CompressionError
from tests.compression.datasets.making import facts, image, zip_of

FINETUNE = {"steps": [{"technique": "finetune", "loss": "sparse_categorical_crossentropy"}]}


def prepared(path: Path, warnings: list[ReportWarning], shape: Any = (2,), **data: Any) -> Data:
    spec = CompressionSpec.model_validate({**FINETUNE, **({"data": data} if data else {})})
    return prepare(path, facts(shape), spec, path.parent / "scratch", warnings.append, lambda x: x)


def table(tmp_path: Path, rows: list[tuple[float, float, Any]]) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n" + "".join(f"{a},{b},{y}\n" for a, b, y in rows))
    return path


def codes(warnings: list[ReportWarning]) -> list[str]:
    return [each.code for each in warnings]


def test_a_table_is_divided_class_by_class_and_described(tmp_path: Path) -> None:
    rows = [(i, i / 7, ["c", "a", "b"][i % 3]) for i in range(300)]
    warnings: list[ReportWarning] = []
    data = prepared(table(tmp_path, rows), warnings, target="y")
    counts = data.counts()
    assert (counts.samples, counts.test, counts.classes, counts.test_source) == (300, 60, 3, "split")
    assert np.bincount(data.objective.labels[data.test]).tolist() == [20, 20, 20]
    assert counts.source is not None
    assert counts.source.classes == ["a", "b", "c"]
    assert (counts.source.x_shape, counts.source.x_bytes) == ([2], 300 * 2 * 4)
    assert codes(warnings) == ["test_split_small"]


def test_an_npz_is_described_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.random((50, 2)), y=np.arange(50) % 3)
    source = prepared(tmp_path / "d.npz", []).counts().source
    assert source is not None
    assert (source.format, source.x_dtype, source.classes, source.details) == ("npz", "float64", None, {})


def test_the_same_row_in_two_splits_is_said_and_counted(tmp_path: Path) -> None:
    rows = [(i, 1.0, i % 3) for i in range(100)]
    warnings: list[ReportWarning] = []
    data = prepared(table(tmp_path, rows * 2), warnings, target="y")
    told = [each.message for each in warnings if each.code == "samples_across_splits"]
    others = np.concatenate([data.train, data.validation])
    expected = sum(any(test % 100 == other % 100 for other in others) for test in data.test)
    assert expected > 0
    assert told
    assert told[0].startswith(f"{expected} of the 40 test samples")


def test_all_arrays_of_a_sample_have_to_be_the_same() -> None:
    one, two = np.array([[1], [1], [2]]), np.array([5.0, 6.0, 5.0])
    assert also_among([one], np.array([0]), np.array([1, 2])) == 1
    assert also_among([one, two], np.array([0]), np.array([1, 2])) == 0
    assert also_among([one, two], np.array([0, 2]), np.array([0, 2])) == 2


def test_a_single_class_is_said(tmp_path: Path) -> None:
    warnings: list[ReportWarning] = []
    prepared(table(tmp_path, [(i, 1.0, 2) for i in range(50)]), warnings, target="y")
    assert "single_class" in codes(warnings)


def test_more_classes_than_the_model_has_are_refused(tmp_path: Path) -> None:
    rows = [(i, 1.0, f"class {i % 4}") for i in range(50)]
    with pytest.raises(CompressionError) as caught:
        prepared(table(tmp_path, rows), [], target="y")
    assert caught.value.code == "label_out_of_range"


def test_a_forgotten_target_is_told_by_the_shape(tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as caught:
        prepared(table(tmp_path, [(i, 1.0, i % 3) for i in range(50)]), [])
    assert caught.value.code == "shape_mismatch"
    assert "a, b, y make 3 values, and the model takes 2" in caught.value.detail
    assert caught.value.pointer == "/data/target"


def test_the_callers_test_folder_is_the_test_split(tmp_path: Path) -> None:
    files = {f"train/{i % 3}/{i}.png": image(i) for i in range(60)}
    files |= {f"test/{i % 3}/{i}.png": image(i) for i in range(60, 80)}
    data = prepared(zip_of(tmp_path / "z", files), [], (4, 6, 1))
    assert (data.counts().test, data.test_source) == (20, "caller")
    assert sorted(data.x[data.test][:, 0, 0, 0].tolist()) == list(range(60, 80))
    labels = data.x[:, 0, 0, 0].astype(int) % 3
    assert (data.objective.labels == labels).all()


@pytest.mark.parametrize(("worst", "refused"), [(8, None), (9, "0 to 9"), (-1, "-1 to 8")])
def test_indices_beyond_the_embedding_are_refused(tmp_path: Path, worst: int, refused: str | None) -> None:
    x = np.arange(200).reshape(100, 2) % 9
    x[7, 1] = worst
    np.savez(tmp_path / "tokens.npz", x=x, y=np.arange(100) % 3)
    known = replace(facts((2,)), input_ranges=(9,))
    spec = CompressionSpec.model_validate({"steps": [{"technique": "finetune"}]})
    with nullcontext() if refused is None else pytest.raises(CompressionError, match=refused) as caught:
        prepare(tmp_path / "tokens.npz", known, spec, tmp_path / "scratch", [].append, lambda x: x)
    assert caught is None or caught.value.code == "input_out_of_range"


def test_too_few_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as caught:
        prepared(table(tmp_path, [(i, 1.0, i % 3) for i in range(19)]), [], target="y")
    assert caught.value.code == "too_few_samples"


def test_labels_that_training_needs_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as caught:
        prepared(zip_of(tmp_path / "z", {f"{i}.png": image(i) for i in range(30)}), [], (4, 6, 1))
    assert caught.value.code == "array_missing"


def test_class_that_a_split_lacks_is_said_of_that_split(tmp_path: Path) -> None:
    # One sample of class 2: it is in one split alone.
    rows = [(i, i / 7, 2 if i == 5 else i % 2) for i in range(400)]
    warnings: list[ReportWarning] = []
    data = prepared(table(tmp_path, rows), warnings, target="y")
    lacking = [each.message for each in warnings if each.code == "class_missing_in_split"]
    labels = data.objective.labels
    assert 2 not in labels[data.test]
    assert [text.split(" split, ")[0].rsplit(" ", 1)[1] for text in lacking] == ["validation", "test"]
    assert lacking[1] == (
        "1 of the data set's 3 classes have no sample in the test split, among them class 2: what became of "
        "them was not measured."
    )
