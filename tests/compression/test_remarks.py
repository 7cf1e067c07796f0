from __future__ import annotations

import re
from pathlib import Path

import pytest

import tasks.compression
from tasks.compression.remarks import SENTENCES, remark

SOURCE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in Path(tasks.compression.__file__).parent.rglob("*.py")
    if path.name != "remarks.py"
)


@pytest.mark.parametrize("code", SENTENCES)
def test_every_warning_is_given_somewhere(code: str) -> None:
    assert f'"{code}"' in SOURCE


def test_every_warning_given_has_its_sentence() -> None:
    given = set(re.findall(r'(?:remark|\.warn)\(\s*"(\w+)"', SOURCE))
    assert given
    assert given <= set(SENTENCES)


def test_warning_without_its_values_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        remark("calibration_small", count=1)
