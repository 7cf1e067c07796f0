"""How far a job has got, in object storage: so that an attempt on another machine goes on from there.

    index.py     what is stored: files, and an index that is written after them
    keeper.py    puts it there, in a thread beside the runner
    taking.py    takes it up again, before the next runner starts

What is kept are the folders ``steps`` and ``checkpoints`` of the job's working folder, as
`tasks.compression.workspace` has them: a file there is whole once it has its name. Runners wrote them, so to
the worker they are bytes of strangers: it bounds, hashes and copies them, and opens none. What they mean is
found out by the next runner, in its sandbox.
"""

from __future__ import annotations

from tasks.resume.keeper import Keeper
from tasks.resume.taking import take_up

__all__ = ["Keeper", "take_up"]
