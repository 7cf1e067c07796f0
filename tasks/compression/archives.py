"""Archives with the same bytes each time: names in order, no dates, nothing of this machine."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping

__all__ = ["tar_gz"]


def tar_gz(files: Mapping[str, bytes]) -> bytes:
    """A ``.tar.gz`` of the files, by their names in it."""
    packed = io.BytesIO()
    # The header would have the time, and the level is that of gzip's own default.
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            archive.addfile(entry, io.BytesIO(files[name]))
    return packed.getvalue()
