"""A channel axis of size 1 that samples lack, before or after the others."""

from __future__ import annotations

import pytest

from featherweight.report import ReportWarning
from tasks.compression import CompressionError
from tasks.compression.data import lacking_channel_axis


@pytest.mark.parametrize(
    ("given", "wanted", "place", "after"),
    [
        ((28, 28), (28, 28, 1), -1, "(28, 28, 1)"),
        ((28, 28), (1, 28, 28), 0, "(1, 28, 28)"),
        ((28, 28), (1, None, None), 0, "(1, 28, 28)"),
        ((5,), (1, 5), 0, "(1, 5)"),
    ],
)
def test_it_is_added_where_the_model_has_it_and_said(
    given: tuple[int, ...], wanted: tuple[int | None, ...], place: int, after: str
) -> None:
    said: list[ReportWarning] = []
    assert lacking_channel_axis(given, wanted, "x", said.append) == place
    (warning,) = said
    assert warning.code == "channel_axis_added"
    assert after in warning.message


def test_nothing_is_added_to_what_fits() -> None:
    said: list[ReportWarning] = []
    assert lacking_channel_axis((1, 28, 28), (1, 28, 28), "x", said.append) is None
    assert not said


def test_more_channels_than_one_are_not_made_up() -> None:
    with pytest.raises(CompressionError, match="do not fit"):
        lacking_channel_axis((28, 28), (3, 28, 28), "x", lambda warning: None)
