"""A good file of every kind that needs no framework to be made."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google_crc32c import value as crc32c
from PIL import Image

from tasks.compression.datasets.magic import mask
from tests.gate.data_files import png, tar_of, zip_of
from tests.gate.exported_files import program, written
from tests.gate.keras_files import DENSE, archive, hdf5, layer, sequential
from tests.gate.onnx_files import dense
from tests.gate.other_models import tflite
from tests.service.models import dense_model, npz

__all__ = ["DATASETS", "MODELS"]


def _image(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 20), (10, 20, 30)).save(out, kind)
    return out.getvalue()


def _parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": [1.0, 2.0], "y": [0, 1]}), out)
    return out.getvalue()


def _record(content: bytes) -> bytes:
    length = len(content).to_bytes(8, "little")
    sums = [mask(crc32c(part)).to_bytes(4, "little") for part in (length, content)]
    return length + sums[0] + content + sums[1]


MODELS: dict[str, Callable[[], bytes]] = {
    "keras2": dense_model,
    "keras3": lambda: archive(sequential(DENSE, layer("Rescaling", scale=1 / 255, offset=0.0))),
    "keras3 hdf5": lambda: hdf5(sequential(DENSE), version="3.15.1"),
    "tflite": tflite,
    "onnx": dense,
    "exported program": lambda: written(program()),
}
DATASETS: dict[str, Callable[[], bytes]] = {
    "npz": lambda: npz(x=np.zeros((5, 3), np.float32), y=np.arange(5)),
    "csv": lambda: b"a,b\n1,2\n3,4\n",
    "csv with semicolons": lambda: b"a;b\n1,5;2\n3,5,1;4\n",
    "csv with quotes": lambda: b'a,b\n"x, y\nz",2\n3,4\n',
    "csv in utf-8": lambda: "größe;b\n1;2\n".encode(),
    "parquet": _parquet,
    "zip of images": lambda: zip_of(*((f"a/1.{k}", _image(k)) for k in ("PNG", "JPEG", "BMP", "WEBP"))),
    "tar of images": lambda: tar_of([("a/1.png", png()), ("b/2.png", png(7, 9)), ("b/readme.txt", b"hello")]),
    "tar.gz of images": lambda: gzip.compress(tar_of([("a/1.png", png())])),
    "tfrecord": lambda: _record(b"12345") + _record(b""),
    "tfrecord.gz": lambda: gzip.compress(_record(b"12345")),
}
