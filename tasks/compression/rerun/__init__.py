"""A job's evaluation run again on the files that it delivered, by whoever has them and the engine.

    rerun(directory, report, model, dataset) -> featherweight.rerun.Rerun

`measure` runs the files, `compare` holds what it found against the report. The client library finds this
package by its name. The files run in this process, outside of the sandbox that a worker has.
"""

from __future__ import annotations

from tasks.compression.rerun.measure import rerun

__all__ = ["rerun"]
