"""A table and images through the whole service, read where strangers' bytes are: in a confined runner."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featherweight import Client, InvalidRequest
from tests.conftest import Digits

pytestmark = [pytest.mark.slow, pytest.mark.stack]

COUNT = 200
QUANTIZE = {"technique": "quantize", "scheme": "full_int8", "calibration_samples": 50}


@pytest.fixture(scope="module")
def pixels(digits: Digits) -> tuple[Any, Any]:
    with np.load(digits.data) as arrays:
        return np.rint(arrays["x_train"][:COUNT] * 255).astype(np.uint8), arrays["y_train"][:COUNT]


def table(path: Path, pixels: tuple[Any, Any]) -> Path:
    rows = pixels[0].reshape(COUNT, -1) / 255
    names = ["label", *(f"p{place}" for place in range(rows.shape[1]))]
    lines = [
        ",".join(names),
        *(f"{y}," + ",".join(map(repr, row.tolist())) for y, row in zip(pixels[1], rows, strict=True)),
    ]
    path.write_text("\n".join(lines))
    return path


def images(path: Path, pixels: tuple[Any, Any]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number, (x, y) in enumerate(zip(*pixels, strict=True)):
            stream = io.BytesIO()
            Image.fromarray(x.reshape(28, 28)).save(stream, "PNG")
            archive.writestr(f"{y}/{number}.png", stream.getvalue())
    return path


def test_a_table_and_images_give_the_same_accuracy(
    client: Client, digits: Digits, pixels: tuple[Any, Any], tmp_path: Path
) -> None:
    values = []
    for path, data, format_ in (
        (table(tmp_path / "t.csv", pixels), {"target": "label"}, "csv"),
        (images(tmp_path / "i.zip", pixels), {"image": {"scale": "0..1"}}, "zip"),
    ):
        job = client.compress(digits.model, spec={"steps": [QUANTIZE], "data": data}, dataset=path)
        report = job.wait(timeout=300).report()
        assert client.datasets.get(job.job.dataset_id or "").format == format_
        assert report.original.accuracy is not None
        values.append((report.original.accuracy, report.outputs[0].accuracy))
    assert values[0] == values[1]
    assert values[0][0].value > 0.8


def test_a_hostile_archive_is_refused_with_its_own_code(
    client: Client, digits: Digits, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("../../x.png", b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InvalidRequest) as refused:
        client.compress(digits.model, spec={"steps": [QUANTIZE]}, dataset=tmp_path / "z")
    assert refused.value.code == "archive_path_not_allowed"
