"""Loads an exported program from a stranger's archive, of which PyTorch sees nothing but what was checked.

``torch.export.load`` reads pickles, evaluates expressions and generates source. So the archive is read by
``tasks.compression.exported``, put together anew in memory, without free text and without the sample inputs,
and only that is loaded.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.compression.backends.torch._framework import export, torch
from tasks.compression.datasets.archives import BROKEN, damaged, zip_content
from tasks.compression.errors import CompressionError
from tasks.compression.exported import Program, Weight, read_program
from tasks.compression.exported.schema import HINT

__all__ = ["load_archive", "quietly", "rewritten"]

_NAME = "model"


def load_archive(path: Path) -> tuple[export.ExportedProgram, Mapping[str, Sequence[str]]]:
    """The program, and the names that the caller gave its inputs and outputs.

    Raises CompressionError as of `read_program`; bad_model for what PyTorch cannot load all the same.
    """
    program = read_program(path)
    try:
        with quietly():
            return export.load(rewritten(program, path)), program.names
    except CompressionError:
        raise
    # PyTorch raises about anything for a program that contradicts itself.
    except Exception as error:
        raise CompressionError(
            "bad_model", f"PyTorch cannot load the exported program: {_first_line(error)}", hint=HINT
        ) from error


@contextmanager
def quietly() -> Iterator[None]:
    """PyTorch's exporter says much that is of no use to callers."""
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def rewritten(program: Program, path: Path) -> io.BytesIO:
    """The checked program as an archive of its own, with the weights' bytes of the archive at `path`.

    Raises CompressionError bad_archive for bytes that do not have their checksum.
    """
    made = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(made)

    def write(name: str, content: bytes) -> None:
        writer.write_record(name, content, len(content))

    write("archive_format", b"pt2")
    write("archive_version", b"0")
    write("byteorder", b"little")
    try:
        with zipfile.ZipFile(path) as archive:
            weights = {**program.weights, **program.constants}
            for member in dict.fromkeys(weight.member for weight in weights.values()):
                write(member, zip_content(archive, archive.getinfo(f"{program.root}/{member}")))
    except BROKEN as error:
        raise damaged(error) from error
    write(f"data/weights/{_NAME}_weights_config.json", _config(program.weights))
    write(f"data/constants/{_NAME}_constants_config.json", _config(program.constants))
    write(f"models/{_NAME}.json", json.dumps(program.model).encode())
    write(f"data/sample_inputs/{_NAME}.pt", b"")  # none
    writer.write_end_of_file()
    made.seek(0)
    return made


def _config(weights: Mapping[str, Weight]) -> bytes:
    config: dict[str, Any] = {
        name: {
            "path_name": weight.member.rpartition("/")[2],
            "is_param": weight.is_parameter,
            "use_pickle": False,
            "tensor_meta": weight.description,
        }
        for name, weight in weights.items()
    }
    return json.dumps({"config": config}).encode()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
