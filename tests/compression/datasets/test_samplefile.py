"""Samples on disk: read back as they were, and an end of the disk is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.compression.datasets import samplefile
from tasks.compression.datasets.samplefile import SampleFile
from tasks.compression.errors import CompressionError

FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from tasks.compression.datasets.samplefile import SampleFile
from tasks.compression.errors import CompressionError
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
file = SampleFile(Path(sys.argv[1]), (1 << 20,))
try:
    for _ in range(4):
        file.append(np.zeros((1, 1 << 20), np.float32))
    file.parts(4)
except CompressionError as error:
    print(error.code)
"""


@pytest.mark.parametrize("in_memory", [0, 1 << 20])
def test_samples_come_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    monkeypatch.setattr(samplefile, "IN_MEMORY_BYTES", in_memory)
    monkeypatch.setattr(samplefile, "_TOGETHER", 64)
    x = np.random.default_rng(0).random((100, 3), dtype=np.float32)
    file = SampleFile(tmp_path / "x", (3,))
    for start in range(0, 100, 7):
        file.append(x[start : start + 7])
    first, none, second = file.parts(60, 0, 40)
    assert (first == x[:60]).all()
    assert (second == x[60:]).all()
    assert none.shape == (0, 3)
    assert isinstance(second, np.memmap) is (in_memory == 0)


def test_more_than_may_be_decoded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplefile, "MAX_DECODED_BYTES", 100)
    file = SampleFile(tmp_path / "x", (5,))
    file.append(np.zeros((5, 5)))
    with pytest.raises(CompressionError) as caught:
        file.append(np.zeros((1, 5)))
    assert caught.value.code == "array_too_large"


def test_a_limit_of_the_disk_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("array_too_large", 0), done.stderr
