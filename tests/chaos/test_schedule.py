"""A run is decided by its seed."""

from __future__ import annotations

import pytest

from featherweight.spec import CompressionSpec
from tests.chaos.inputs import MODELS
from tests.chaos.orders import orders
from tests.chaos.schedule import Kind, counts_for, schedule


def test_same_seed_is_the_same_run_and_another_is_not() -> None:
    assert (schedule(3, 50), orders(3, 50)) == (schedule(3, 50), orders(3, 50))
    assert schedule(3, 50) != schedule(4, 50)
    assert orders(3, 50) != orders(4, 50)


@pytest.mark.parametrize("jobs", [10, 200])
def test_every_kind_of_fault_comes_while_jobs_are_left(jobs: int) -> None:
    faults = schedule(1, jobs)
    assert {fault.kind for fault in faults} == set(Kind)
    assert len(faults) == sum(counts_for(jobs).values())
    assert [fault.after for fault in faults] == sorted(fault.after for fault in faults)
    assert faults[-1].after < jobs


def test_orders_are_valid_and_no_two_alike() -> None:
    made = orders(1, 200)
    specs = [CompressionSpec.model_validate(order.spec).model_dump_json() for order in made]
    assert len(set(specs)) == 200
    assert {order.model for order in made} == set(MODELS)
    assert any(order.sends for order in made)
    assert any(order.follows for order in made)
