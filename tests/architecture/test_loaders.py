"""No loader of a caller's file is called in a way that runs what the file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.loaders import RULES, violations

ROOT = Path(__file__).parents[2]

BREAKING = {
    "an interpreter gets bytes, never a path": [
        "Interpreter(model_path=path)",
        "Interpreter(path)",
        "litert.Interpreter(model_content=content, model_path=path)",
        "Interpreter(**options)",
    ],
    "numpy unpickles nothing": [
        "np.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=allowed)",
    ],
    "nothing is extracted from an archive": [
        "archive.extractall(folder)",
        "archive.extract(member, folder, filter='data')",
        "shutil.unpack_archive(path, folder)",
    ],
    "keras loads in safe mode": [
        "keras.models.load_model(path)",
        "load_model(path, safe_mode=False)",
        "with SafeModeScope(False):\n    load_model(path)",
        "with SafeModeScope(True):\n    pass\nkeras.models.model_from_config(config)",
    ],
    "safe mode is never left": [
        "keras.config.enable_unsafe_deserialization()",
        "with SafeModeScope(False):\n    pass",
        "with SafeModeScope(wanted):\n    pass",
    ],
    "nothing is unpickled": [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "def f():\n    import dill",
        "import marshal as m",
    ],
    "yaml is loaded safely": [
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.unsafe_load(text)",
        "from yaml import full_load",
        "yaml.compose(text)",
    ],
    "torch loads weights only": [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
    ],
}
ALLOWED = """
import pickletools
from ai_edge_litert.interpreter import Interpreter

Interpreter(model_content=content, num_threads=1)
np.load(path, allow_pickle=False)
archive.extractfile(member)
keras.models.load_model(path, compile=False, safe_mode=True)
with warnings.catch_warnings(), SafeModeScope(True):
    keras.models.load_model(path)
    model_from_config(config)
yaml.safe_load(text)
yaml.compose(text, Loader=yaml.SafeLoader)
json.load(file)
torch.load(path, weights_only=True)
"""


def sources() -> list[Path]:
    return [path for top in ("tasks", "service", "clients") for path in sorted((ROOT / top).rglob("*.py"))]


def test_no_code_that_reads_callers_files_breaks_a_rule() -> None:
    checked = sources()
    assert len(checked) > 100
    found = [
        f"{path.relative_to(ROOT)}:{line}: {rule}"
        for path in checked
        for rule, line in violations(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize("rule", RULES)
def test_what_breaks_a_rule_is_found(rule: str) -> None:
    for snippet in BREAKING[rule]:
        assert rule in {found.rule for found in violations(snippet)}, snippet


def test_what_is_allowed_breaks_none() -> None:
    assert violations(ALLOWED) == []


def test_the_loaders_that_the_rules_are_about_are_there() -> None:
    """A loader under another name would pass unseen: the rules must have met those that there are."""
    text = "\n".join(path.read_text() for path in sources())
    for call in ("Interpreter(", "np.load(", "load_model(", "SafeModeScope(True)", "yaml.safe_load("):
        assert call in text
