from __future__ import annotations

import pytest

from featherweight.spec import CompressionSpec
from tasks.compression.catalogue import BACKENDS, ROWS, missing_dataset, resolve, support, techniques

PRUNE, TRAIN = {"technique": "prune"}, {"technique": "finetune"}


def spec(*steps: dict[str, object]) -> CompressionSpec:
    return CompressionSpec.model_validate({"steps": list(steps)})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.technique}-{row.framework}")
def test_every_row_resolves(row) -> None:  # type: ignore[no-untyped-def]
    assert row.framework in BACKENDS
    assert callable(resolve(row.handler))
    assert row.check is None or callable(resolve(row.check))


def test_supported_spec_has_no_faults() -> None:
    assert support(spec(PRUNE, TRAIN, {"technique": "quantize"}), "tensorflow") == []


def test_unknown_framework_is_refused_at_each_step() -> None:
    faults = support(spec(PRUNE, TRAIN), "abacus")
    assert [fault.pointer for fault in faults] == ["/steps/0/technique", "/steps/1/technique", "/outputs/0"]
    assert "offered: tensorflow, torch" in faults[0].detail


def test_formats_are_offered_by_framework() -> None:
    for framework, (own, other) in {"tensorflow": ("keras", "pt2"), "torch": ("pt2", "keras")}.items():
        asked = CompressionSpec.model_validate({"steps": [PRUNE], "outputs": [own, other]})
        assert [fault.pointer for fault in support(asked, framework)] == ["/outputs/1"]


@pytest.mark.parametrize(
    ("steps", "pointers"),
    [
        ([PRUNE], []),
        ([{"technique": "quantize", "scheme": "float16"}], []),
        ([{"technique": "quantize", "scheme": "dynamic_int8"}], []),
        ([{"technique": "quantize", "scheme": "full_int8"}], ["/steps/0"]),
        ([PRUNE, TRAIN], ["/steps/1"]),
        ([{"technique": "prune_channels"}], []),
        ([{"technique": "decompose"}], []),
        ([{"technique": "prune_channels", "importance": "taylor"}], ["/steps/0"]),
    ],
)
def test_steps_that_need_data_are_named(steps: list[dict[str, object]], pointers: list[str]) -> None:
    assert [fault.pointer for fault in missing_dataset(spec(*steps))] == pointers


def test_techniques_carry_their_schema() -> None:
    shown = {item.technique: item for item in techniques()}
    assert set(shown) == {
        "prune",
        "prune_channels",
        "decompose",
        "cluster",
        "quantize_aware",
        "finetune",
        "distill",
        "quantize",
    }
    assert shown["prune"].frameworks == ["tensorflow", "torch"]
    assert "keras" in shown["prune"].outputs_of["tensorflow"]
    assert "pt2" in shown["prune"].outputs_of["torch"]
    assert "pt2" in shown["quantize"].outputs_of["torch"]
    assert shown["quantize_aware"].outputs_of["torch"] == ["tflite", "c_array"]
    for technique in shown.values():
        assert list(technique.outputs_of) == technique.frameworks
        assert set(technique.outputs) == {each for named in technique.outputs_of.values() for each in named}
    assert "schedule" in shown["prune"].model_dump(by_alias=True)["schema"]["properties"]
