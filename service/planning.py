"""What keeps the planner from answering, as problems: for plans and inspections alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import ProblemError
from tasks.plans import NotPlannable, PlannerBusy

__all__ = ["planning"]


@contextmanager
def planning() -> Iterator[None]:
    """not_plannable, overloaded and artifact_gone."""
    try:
        yield
    except NotPlannable as error:
        raise ProblemError("not_plannable", str(error)) from None
    except PlannerBusy:
        raise ProblemError("overloaded", "as many plans as may be are being made; try again") from None
    except FileNotFoundError:
        raise ProblemError("artifact_gone", "the model or the data set is no longer stored") from None
