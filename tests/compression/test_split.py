from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.compression.split import draw, stratified


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=200),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_split_parts_are_disjoint_complete_and_stratified(labels: list[int], share: float, seed: int) -> None:
    classes = np.array(labels)
    everything = np.arange(len(classes))
    kept, held = stratified(everything, classes, share, seed)
    assert sorted([*kept, *held]) == list(everything)
    assert len(held) == round(len(classes) * share)
    for name in np.unique(classes):
        size = int((classes == name).sum())
        assert abs(int((classes[held] == name).sum()) - size * len(held) / len(classes)) < 1


def test_split_repeats_for_a_seed_and_differs_for_another() -> None:
    everything, labels = np.arange(100), np.arange(100) % 10
    first = stratified(everything, labels, 0.2, 0)[1]
    assert (first == stratified(everything, labels, 0.2, 0)[1]).all()
    assert (first != stratified(everything, labels, 0.2, 1)[1]).any()


def test_split_without_labels_holds_out_the_share() -> None:
    kept, held = stratified(np.arange(50), None, 0.1, 0)
    assert (len(kept), len(held)) == (45, 5)


def test_draw_gives_all_there_are_when_too_few() -> None:
    assert list(draw(np.array([5, 7, 9]), 10, 0)) == [5, 7, 9]
    assert len(draw(np.arange(100), 10, 0)) == 10
