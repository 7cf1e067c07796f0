"""The static gate: what a caller's file holds is judged by allow-lists before any loader touches it.

    check(path, "model")        CompressionError for a file that no loader may see

    kinds         what a file is, by its first bytes, and the check of each kind
    keras         .keras archives          config (names)    hdf5
    hdf5          .h5 files
    saved_model   SavedModels in archives
    tflite        .tflite files
    onnx          .onnx files
    torch         checkpoints and exported programs of PyTorch    pickles
    npz  csv_file  parquet  images  records                       data sets

Nothing here imports a framework, runs anything of the file or unpacks it to disk. A check is no proof: it
makes small what reaches the loaders, which are confined all the same. It runs in a process of its own
(``tasks.gate_process``), for it parses what strangers sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tasks.compression.errors import CompressionError

__all__ = ["Role", "check"]

Role = Literal["model", "dataset"]


def check(path: Path, role: Role) -> None:
    """Return for a file that loaders may see. CompressionError with the code of docs/problems.md, whose
    `pointer` begins with the role, for any other."""
    from tasks.sandbox.gate.kinds import checker

    try:
        checker(path, role)(path)
    except CompressionError as error:
        error.pointer = f"/{role}{error.pointer or ''}"
        raise
