from __future__ import annotations

import numpy as np
import pytest

from tasks.compression.intervals import bootstrap, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        # Newcombe 1998, table I, method 3; Brown, Cai & DasGupta 2001.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_the_published_values(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_holds_the_share_at_both_ends() -> None:
    assert wilson(10, 10)[1] == 1.0
    assert wilson(0, 10)[0] == 0.0


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_impossible_counts(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="trials"):
        wilson(hits, n)


def test_bootstrap_interval_is_seeded_and_close_to_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 2000)
    low, high = bootstrap(values, seed=0)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == bootstrap(values, seed=0)
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)
