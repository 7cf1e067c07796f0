"""Tables: what becomes of their columns, and what of them is refused and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featherweight.report import ReportWarning
from tests.compression.datasets.making import arrays, opened, refused, same

IRIS = "a,b,kind\n1,2.5,versicolor\n-3,4e1,setosa\n5,6,versicolor\n"


def csv(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "table.npz"  # the name says nothing
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def parquet(tmp_path: Path, **columns: Any) -> Path:
    path = tmp_path / "table.csv"
    pq.write_table(pa.table(columns), path)
    return path


def test_a_text_target_becomes_class_numbers_in_alphabetical_order(tmp_path: Path) -> None:
    found = opened(csv(tmp_path, IRIS), (2,), target="kind")
    data = found.read(frozenset({"x", "y"}))
    assert same(data["x"], [[1, 2.5], [-3, 40], [5, 6]])
    assert data["x"].dtype == np.float32
    assert same(data["y"], [1, 0, 1])
    source = found.source(data["x"])
    assert (source.format, source.classes, source.x_shape) == ("csv", ["setosa", "versicolor"], [2])
    assert source.details["class_order"] == "by code point"
    assert (source.details["columns"], source.details["target"]) == (["a", "b"], ["kind"])
    assert (source.details["rows"], source.details["delimiter"], source.details["header"]) == (
        3,
        "comma",
        True,
    )


def test_without_a_target_there_are_no_labels(tmp_path: Path) -> None:
    data = arrays(csv(tmp_path, "a,b\n1,2\n3,4\n"), (2,))
    assert set(data) == {"x"}
    assert same(data["x"], [[1, 2], [3, 4]])


def test_numbers_of_a_target_are_taken_as_they_are(tmp_path: Path) -> None:
    whole = arrays(csv(tmp_path, "a,y\n1,10\n2,30\n"), (1,), target="y")["y"]
    assert whole.dtype == np.int64
    assert same(whole, [10, 30])
    assert same(arrays(csv(tmp_path, "a,y\n1,0.5\n2,30\n"), (1,), target="y")["y"], [0.5, 30])


@pytest.mark.parametrize(
    ("classes", "labels", "names"),
    [("sorted", [1, 0, 2], ["2", "10", "30"]), (["30", "10", "2"], [1, 2, 0], ["30", "10", "2"])],
)
def test_numbers_become_classes_where_asked_for_in_order_of_value(
    tmp_path: Path, classes: Any, labels: list[int], names: list[str]
) -> None:
    for path in (
        csv(tmp_path, "a,y\n1,10\n2,2\n3,30\n"),
        parquet(tmp_path, a=[1, 2, 3], y=[10.0, 2.0, 30.0]),
    ):
        found = opened(path, (1,), target="y", classes=classes)
        data = found.read(frozenset({"x", "y"}))
        assert same(data["y"], labels)
        assert found.source(data["x"]).classes == names


def test_features_choose_columns_and_their_order(tmp_path: Path) -> None:
    text = "id,a,b,y\nx1,1,2,0\nx2,3,4,1\n"
    assert same(arrays(csv(tmp_path, text), (2,), target="y", features=["b", "a"])["x"], [[2, 1], [4, 3]])


def test_several_targets_make_rows_of_values(tmp_path: Path) -> None:
    assert same(
        arrays(csv(tmp_path, "a,p,q\n1,2,0.5\n3,4,1\n"), (1,), target=["q", "p"])["y"], [[0.5, 2], [1, 4]]
    )


@pytest.mark.parametrize("divider", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiter_line_ends_and_byte_order_mark_are_found_out(
    tmp_path: Path, divider: str, end: str
) -> None:
    text = "\ufeff" + IRIS.replace(",", divider).replace("\n", end)
    assert same(arrays(csv(tmp_path, text), (2,), target="kind")["x"], [[1, 2.5], [-3, 40], [5, 6]])


def test_without_a_header_columns_go_by_their_place(tmp_path: Path) -> None:
    text = IRIS.partition("\n")[2]
    found = opened(csv(tmp_path, text), (2,), target="2")
    assert same(found.read(frozenset({"y"}))["y"], [1, 0, 1])
    assert found.source(np.zeros((3, 2))).details["header"] is False


def test_a_first_row_that_counts_up_has_to_be_explained(tmp_path: Path) -> None:
    path = csv(tmp_path, "0,1,2\n5,6,7\n8,9,10\n")
    fault = refused(path, (3,))
    assert (fault.code, fault.pointer) == ("bad_data", "/data/csv/header")
    assert len(arrays(path, (3,), csv={"header": True})["x"]) == 2
    assert len(arrays(path, (3,), csv={"header": False})["x"]) == 3


def test_quoted_values_may_hold_delimiters_and_ends_of_lines(tmp_path: Path) -> None:
    text = 'a,note,y\n1,"x, ""y""\nz",b\n2,plain,a\n'
    data = arrays(csv(tmp_path, text), (1,), target="y", features=["a"])
    assert same(data["x"], [[1], [2]])
    assert same(data["y"], [1, 0])


def test_as_many_values_as_the_input_has_take_its_shape(tmp_path: Path) -> None:
    text = "p,q,r,s,y\n1,2,3,4,0\n5,6,7,8,1\n"
    data = arrays(csv(tmp_path, text), (2, 2, 1), target="y")
    assert same(data["x"][:, :, :, 0], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])


@pytest.mark.parametrize(
    ("text", "reading", "code", "said"),
    [
        (IRIS, {"target": "king"}, "column_missing", "'king'"),
        (IRIS, {"target": "kind", "features": ["a", "c"]}, "column_missing", "'c'"),
        (IRIS, {}, "dtype_not_allowed", "row 1, column 'kind': 'versicolor'"),
        ("a,b\n1,2\n1,\n", {}, "value_missing", "row 2, column 'b'"),
        ("a,y\n1,2\n1,NA\n", {"target": "y"}, "value_missing", "row 2, column 'y'"),
        ("a,b\n1,2\n1,inf\n", {}, "not_finite", "row 2, column 'b'"),
        ("a,b\n1,2\n1,1e300\n", {}, "not_finite", "row 2, column 'b'"),
        ("a,b\n1,2\n1,2,3\n", {}, "csv_ragged", "row 2 has 3 values and not 2"),
        ("a,a,y\n1,2,3\n", {"target": "y"}, "bad_data", "more than one column 'a'"),
        ("y\n1\n2\n", {"target": "y"}, "bad_data", "no column is left"),
        ("a,y\n", {"target": "y"}, "too_few_samples", "no samples"),
        (b"a,y\n1,\xff\n" * 99, {"target": "y"}, "bad_data", "no format"),
        (b"a,y\n" + b"1,2\n" * 200 + b"1,\xff\n", {"target": "y"}, "csv_bad_encoding", "not UTF-8"),
        (IRIS, {"target": "kind", "classes": ["setosa"]}, "label_out_of_range", "row 1"),
    ],
)
def test_what_cannot_be_used_is_refused_at_its_place(
    tmp_path: Path, text: str | bytes, reading: dict[str, Any], code: str, said: str
) -> None:
    fault = refused(csv(tmp_path, text), (None,), **reading)
    assert fault.code == code
    assert said in fault.detail


def test_an_unknown_column_is_told_with_those_there_are(tmp_path: Path) -> None:
    fault = refused(csv(tmp_path, IRIS), (2,), target="kind", features=["a", "c"])
    assert fault.pointer == "/data/features/1"
    assert fault.hint is not None
    assert "a, b, kind" in fault.hint


def test_text_that_comes_late_among_numbers_is_told_by_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.compression.datasets.csv_file._BLOCK", 64)
    text = "a,y\n" + "1,2\n" * 100 + "1,two\n"
    fault = refused(csv(tmp_path, text), (1,), target="y")
    assert (fault.code, fault.pointer) == ("dtype_not_allowed", "/data/target")
    assert "row 101, column 'y'" in fault.detail
    assert same(arrays(csv(tmp_path, text), (1,), target="y", classes="sorted")["y"], [0] * 100 + [1])


def test_many_batches_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.compression.datasets.csv_file._BLOCK", 256)
    monkeypatch.setattr("tasks.compression.datasets.samplefile.IN_MEMORY_BYTES", 0)
    names = ["c", "a", "b"]
    text = "a,y\n" + "".join(f"{row},{names[row % 3]}\n" for row in range(1000))
    data = arrays(csv(tmp_path, text), (1,), target="y")
    assert isinstance(data["x"], np.memmap)
    assert same(data["x"][:, 0], range(1000))
    assert same(data["y"], [[2, 0, 1][row % 3] for row in range(1000)])


def test_whole_numbers_that_float32_rounds_are_said(tmp_path: Path) -> None:
    warnings: list[ReportWarning] = []
    opened(csv(tmp_path, "a,b\n1,16777217\n2,3\n"), (2,), warnings)
    assert [(each.code, "column b" in each.message) for each in warnings] == [("values_rounded", True)]


def test_parquet_columns_of_every_kind_of_number(tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        a=pa.array([1, 2], pa.uint8()),
        b=pa.array([True, False]),
        c=pa.array([0.5, 1.5], pa.float16()),
        y=pa.array(["no", "yes"]).dictionary_encode(),
    )
    found = opened(path, (3,), target="y")
    data = found.read(frozenset({"x", "y"}))
    assert same(data["x"], [[1, 1, 0.5], [2, 0, 1.5]])
    assert same(data["y"], [0, 1])
    assert (found.format, found.source(data["x"]).classes) == ("parquet", ["no", "yes"])


def test_parquet_lists_keep_their_shape(tmp_path: Path) -> None:
    path = parquet(tmp_path, pixels=[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]], y=[0, 1])
    assert same(arrays(path, (2, 2), target="y")["x"], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    uneven = parquet(tmp_path, pixels=[[1.0, 2.0], [3.0]], y=[0, 1])
    assert refused(uneven, (2,), target="y").code == "shape_mismatch"


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"a": ["1", "2"]}, "dtype_not_allowed"),
        ({"a": [1, None]}, "value_missing"),
        ({"a": [1.0, float("nan")]}, "not_finite"),
        ({"a": [b"1", b"2"]}, "dtype_not_allowed"),
        ({"a": pa.array([], pa.int64())}, "too_few_samples"),
    ],
)
def test_parquet_columns_that_cannot_be_used_are_refused(
    tmp_path: Path, columns: dict[str, Any], code: str
) -> None:
    assert refused(parquet(tmp_path, **columns), (1,)).code == code


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    content = parquet(tmp_path, a=list(range(5000))).read_bytes()
    for damaged in (content[:100], content[:-9], content[:40] + b"\xff" * 200 + content[240:]):
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        assert refused(path, (1,)).code == "bad_data"


def test_column_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path, kindly=[1.0, 2.0], y=[0, 1])
    path.write_bytes(path.read_bytes().replace(b"kindly", b"\xffindly"))
    assert refused(path, (1,), target="y").code == "bad_data"
