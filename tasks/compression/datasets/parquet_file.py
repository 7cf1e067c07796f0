"""Reads ``.parquet`` files, a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.compression.datasets.read import Read, Request
from tasks.compression.datasets.tables import read_table
from tasks.compression.errors import CompressionError

__all__ = ["read_parquet"]

_BATCH = 1024


def read_parquet(request: Request) -> Read:
    """CompressionError bad_data for a damaged file, and what tables raises."""
    try:
        with pq.ParquetFile(request.path, memory_map=False, pre_buffer=False) as file:
            names = list(file.schema_arrow.names)

            def batches(wanted: list[str]) -> Iterator[pa.RecordBatch]:
                return iter(file.iter_batches(_BATCH, columns=wanted, use_threads=False))

            return read_table(
                request, names, batches, parse=False, details={"row_groups": file.metadata.num_row_groups}
            )
    # Column names are bytes until they are asked for.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError) as error:
        raise CompressionError(
            "bad_data", f"the data set cannot be read: {str(error).splitlines()[0][:200]}"
        ) from error
