"""The confined process that judges one damaged file after another, and says what came of each.

stdin    {"role", "files": [names in the scratch folder], "sandbox"}
stdout   for each file a line with its name before it is opened, and one with what came of it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tasks.sandbox.lockdown import Limits, Sandbox, lock_down

_MEMORY_BYTES = 1 << 30


def main(scratch: Path, parent: int) -> None:
    task = json.load(sys.stdin)
    limits = Limits(memory_bytes=_MEMORY_BYTES, file_bytes=1 << 20, open_files=64)
    lock_down(
        scratch,
        limits,
        parent=parent,
        keep_fds=frozenset({0, 1, 2}),
        sandbox=Sandbox(kind=task["sandbox"]),
        writable=False,
    )
    from tasks.compression.errors import CompressionError
    from tasks.sandbox.gate import check

    for name in task["files"]:
        print(name, flush=True)  # noqa: T201 - the parent reads it
        try:
            check(scratch / name, task["role"])
            said = "let in"
        except CompressionError as error:
            said = f"refused {error.code}"
        # What no check expects is a fault of the check, though the gate refuses the file for it.
        except Exception as error:  # noqa: BLE001
            said = f"fault {type(error).__name__}: {str(error)[:200]!r}"
        print(said, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
