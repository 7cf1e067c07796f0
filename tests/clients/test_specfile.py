from __future__ import annotations

from pathlib import Path

import pytest

from featherweight.errors import InvalidSpec
from featherweight.spec import CompressionSpec, Finetune
from featherweight.specfile import load_spec, parse_spec
from tests.clients.conftest import SPEC

YAML = """\
version: 1
steps:
  - technique: prune
    schedule: {type: polynomial_decay, final_sparsity: 0.8}
  - technique: finetune
    epochs: 2
    learning_rate: 1e-3
"""


def test_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(YAML)
    spec = load_spec(path)
    assert load_spec(str(path)) == spec == load_spec(YAML)
    # YAML 1.1 takes 1e-3 for a string; the bound on the value must hold all the same.
    assert isinstance(spec.steps[1], Finetune)
    assert spec.steps[1].learning_rate == 0.001


def test_json_mapping_and_model_give_the_same_spec() -> None:
    spec = load_spec(SPEC)
    assert load_spec(spec) is spec
    assert (
        load_spec(
            ' {"steps": [{"technique": "prune"}, {"technique": "finetune"}, {"technique": "quantize"}]}'
        )
        == spec
    )
    assert isinstance(spec, CompressionSpec)


def test_faults_say_their_line() -> None:
    text = YAML.replace("epochs: 2", "epoch: 2").replace("final_sparsity: 0.8", "final_sparsity: 1.8")
    with pytest.raises(InvalidSpec) as raised:
        parse_spec(text, "spec.yaml")
    assert str(raised.value).splitlines() == [
        "spec.yaml is not a valid compression spec",
        "  line 4, /steps/0/schedule/final_sparsity: Input should be less than 1",
        "  line 6, /steps/1/epoch: Extra inputs are not permitted",
    ]


def test_missing_key_is_found_at_what_should_hold_it() -> None:
    with pytest.raises(InvalidSpec) as raised:
        parse_spec("# nothing yet\nversion: 1\n", "s")
    assert [fault.pointer for fault in raised.value.errors] == ["/steps"]
    assert raised.value.lines == [2]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "dict_type"),
        ("- prune", "dict_type"),
        ("just words", "dict_type"),
        ("steps: [", "bad_syntax"),
        ("steps: *nowhere", "bad_syntax"),
        ("steps: !!python/object/apply:os.getcwd []", "bad_syntax"),
        ("steps: []\nsteps: []", "duplicate_key"),
        ('{"steps": [{"technique": "prune", "technique": "finetune"}]}', "duplicate_key"),
        ("{" * 5000, "bad_syntax"),
        ("? [a, b]\n: 1", "bad_syntax"),
    ],
)
def test_what_is_no_spec_is_refused_with_a_reason(text: str, code: str) -> None:
    with pytest.raises(InvalidSpec) as raised:
        parse_spec(text, "s")
    assert [fault.code for fault in raised.value.errors] == [code]


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidSpec):
        parse_spec(b"PK\x03\x04\xff\xfe", "model.keras")


def test_missing_file_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        load_spec("nowhere.yaml")
