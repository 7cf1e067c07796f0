"""JSON and no more than JSON."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.strict_json import MAX_DEPTH, BadJSON, loads

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_json_can_say_is_read(value: object) -> None:
    import json

    assert loads(json.dumps(value).encode("utf-8", "surrogatepass")) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(BadJSON):
        loads(data)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": NaN}', "NaN"),
        ('{"a": Infinity}', "Infinity"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1e999}', "too large"),
        ('{"a": -1e999}', "too large"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"x": {"a": 1, "b": 2, "a": 1}}', "'a' stands twice"),
        ('"\\ud800"', "surrogate"),
        ('{"\\uDFFF": 1}', "surrogate"),
        ("", "line 1"),
        ("{", "line 1"),
        ("[1,]", "line 1"),
        ("{} {}", "line 1"),
        ("9" * 5000, "digits"),
        ("\ufeff{}", "BOM"),
    ],
)
def test_what_json_cannot_say_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadJSON, match=says):
        loads(text.encode())


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(BadJSON, match="byte 1 is not UTF-8"):
        loads(b'"\xff"')


def test_surrogates_in_a_pair_are_one_character() -> None:
    assert loads(b'"\\ud83e\\udeb6"') == "\U0001fab6"


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("closed", [True, False])
def test_100k_levels_are_refused_at_once(opening: str, *, closed: bool) -> None:
    closing = {"[": "]", '{"a":': "}"}[opening] if closed else ""
    body = (opening * 100_000 + "1" + closing * 100_000).encode()
    began = time.perf_counter()
    with pytest.raises(BadJSON, match=f"deeper than {MAX_DEPTH}"):
        loads(body)
    assert time.perf_counter() - began < 1


def test_depth_is_counted_outside_strings() -> None:
    assert loads(b'["' + b"[" * 1000 + b'\\"]"]') == ["[" * 1000 + '"]']
    assert loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


@pytest.mark.parametrize(
    "body", [b'"' * 1_000_001, b'"\\' * 500_000, b"[],[" * 250_000, b'{"a":"' + b"\\" * 1_000_000]
)
def test_a_mebibyte_of_malice_takes_no_time(body: bytes) -> None:
    began = time.perf_counter()
    with pytest.raises(BadJSON):
        loads(body)
    assert time.perf_counter() - began < 2
