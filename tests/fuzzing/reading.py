"""What runs in a runner in place of a job: damaged files are read one after the other, as a job reads them.

Of each file a line with its name before it is opened and one with what came of it, on standard output, each
after `MARK`: frameworks print there too.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.spec import CompressionSpec
from tests.misbehaving import Outcome, made

__all__ = ["MARK", "SPECS", "compress"]

MARK = "fuzzing:"

_STEPS = [{"technique": "quantize", "scheme": "full_int8"}]
_RECORDS = {
    "features": {"i": {"encoding": "image"}, "l": {"encoding": "text"}},
    "input": "i",
    "label": "l",
}
# How the data sets of `loadable` are read: the shape of the model's input, and `data` of the spec.
SPECS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "data.npz": ((8, 8, 1), {}),
    "data.csv": ((2,), {"data": {"target": "kind"}}),
    "data.parquet": ((2,), {"data": {"target": "kind"}}),
    "images.zip": ((8, 8, 1), {"data": {"image": {"scale": "0..1"}}}),
    "images.tar": ((8, 8, 1), {"data": {"image": {"scale": "0..1"}}}),
    "images.tar.gz": ((8, 8, 1), {"data": {"image": {"scale": "0..1"}}}),
    "data.tfrecord": ((8, 8, 1), {"data": {"tfrecord": _RECORDS, "image": {"scale": "0..1"}}}),
}


def compress(model: Path, spec: Mapping[str, Any], *, workdir: Path, **_: Any) -> Outcome:
    """`spec` has ``files``, pairs of a name beside `model` and of what it was made from."""
    from tasks.compression.backends.tensorflow import backend
    from tasks.compression.errors import CompressionError

    backend.start(1, 0)
    scratch = workdir / "tmp"
    for name, format_ in spec["files"]:
        print(MARK, name, flush=True)  # noqa: T201 - the parent reads it
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            _read(model.with_name(name), format_, scratch)
            said = "read"
        except CompressionError as error:
            said = f"refused {error.code}"
        except MemoryError:
            said = "refused out_of_memory"
        # A job would end as runner_crashed.
        except Exception as error:  # noqa: BLE001
            said = f"fault {type(error).__name__}: {str(error)[:200]!r}"
        print(MARK, said, flush=True)  # noqa: T201
    return made(workdir)


def _read(path: Path, format_: str, scratch: Path) -> None:
    from tasks.compression.backends.tensorflow import backend
    from tasks.compression.data import prepare
    from tasks.compression.facts import CompiledState, ModelFacts

    if format_ not in SPECS:
        backend.load(path, scratch, lambda warning: None)
        return
    shape, reading = SPECS[format_]
    prepare(
        path,
        ModelFacts((shape,), ((3,),), "softmax", CompiledState()),
        CompressionSpec.model_validate({"steps": _STEPS, **reading}),
        scratch,
        lambda warning: None,
        lambda x: np.full((len(next(iter(x.values())) if isinstance(x, dict) else x), 3), 1 / 3, np.float32),
    )
