"""Who spares whom the wait."""

from __future__ import annotations

import pytest

from tasks.breaker import Breaker, Open


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def breaker(clock: _Clock) -> Breaker:
    return Breaker(lambda error: isinstance(error, TimeoutError), rest_s=1, clock=clock)


def _fails(breaker: Breaker, error: BaseException) -> None:
    with pytest.raises(type(error)), breaker.call():
        raise error


def _is_open(breaker: Breaker) -> bool:
    try:
        with breaker.call():
            return False
    except Open:
        return True


def test_silence_opens_it_and_an_answer_closes_it(breaker: Breaker, clock: _Clock) -> None:
    assert not _is_open(breaker)
    _fails(breaker, TimeoutError())
    assert _is_open(breaker)
    clock.now += 1.1
    assert not _is_open(breaker)
    assert not _is_open(breaker)


def test_while_it_is_open_one_call_a_second_finds_out(breaker: Breaker, clock: _Clock) -> None:
    _fails(breaker, TimeoutError())
    clock.now += 1.1
    for _ in range(3):
        assert not _is_open_while(breaker)
        assert _is_open(breaker)
        clock.now += 1.1
    assert not _is_open(breaker)


def _is_open_while(breaker: Breaker) -> bool:
    """Whether the call is refused; when it is not, nobody answers, and the others are refused meanwhile."""
    try:
        with breaker.call():
            assert _is_open(breaker)
            raise TimeoutError
    except TimeoutError:
        return False
    except Open:
        return True


@pytest.mark.parametrize("error", [ConnectionRefusedError(), ValueError("no")], ids=["refused", "said no"])
def test_what_costs_no_time_opens_nothing(breaker: Breaker, error: Exception) -> None:
    for _ in range(5):
        _fails(breaker, error)
    assert not _is_open(breaker)
