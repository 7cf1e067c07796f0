from __future__ import annotations

import numpy as np
import pytest

from tasks.compression.intervals import bootstrap, paired, wilson


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


def test_paired_interval_of_hits_is_that_of_drawing_the_samples_themselves() -> None:
    generator = np.random.default_rng(2)
    before = (generator.random(1000) < 0.9).astype(np.float64)
    after = np.where(generator.random(1000) < 0.05, 0.0, before)
    value, low, high = paired(before, after, seed=3)
    assert value == pytest.approx(after.mean() - before.mean())
    drawn = [(after - before)[generator.integers(0, 1000, 1000)].mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.0015)
    assert paired(before, after, seed=3) == (value, low, high)


def test_paired_interval_of_errors_is_narrower_than_that_of_either_mean() -> None:
    generator = np.random.default_rng(4)
    before = generator.gamma(2.0, 1.0, 500)
    after = before + generator.normal(0.05, 0.02, 500)
    value, low, high = paired(before, after, seed=0)
    alone = bootstrap(after, seed=0)
    assert low < value < high
    assert high - low < 0.1 * (alone[1] - alone[0])


def test_paired_interval_refuses_what_is_no_pairs() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        paired(np.zeros(3), np.zeros(4), seed=0)


@pytest.mark.parametrize(
    ("lost", "gained"), [(0.06, 0.03), (0.04, 0.04), (0.10, 0.0)], ids=["worse", "even", "only losses"]
)
def test_paired_interval_covers_the_true_difference_of_hits(lost: float, gained: float) -> None:
    """500 test splits of 1,000 samples, of which compression loses and gains known shares."""
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(500):
        draw = generator.random(1000)
        before = ((draw < lost) | (draw > 0.3)).astype(np.float64)
        after = (((draw >= lost) & (draw < lost + gained)) | (draw > 0.3)).astype(np.float64)
        _, low, high = paired(before, after, seed)
        covered += low <= gained - lost <= high
    assert 0.93 <= covered / 500 <= 0.97


def test_paired_interval_covers_the_true_difference_of_errors() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for seed in range(500):
        before = generator.gamma(2.0, 1.0, 200)
        after = before * generator.normal(1.1, 0.3, 200)
        _, low, high = paired(before, after, seed)
        covered += low <= 0.1 * 2.0 <= high
    assert 0.93 <= covered / 500 <= 0.97
