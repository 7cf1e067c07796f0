from __future__ import annotations

import subprocess
import sys

from tasks.compression.backends.tensorflow import structured

HEAVY = ("tensorflow", "tf_keras", "keras", "h5py", "scipy")


def test_importing_the_package_loads_no_framework() -> None:
    script = f"import {structured.__name__}, sys; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_exported_names_are_sorted_and_there() -> None:
    assert structured.__all__ == sorted(structured.__all__)
    assert all(hasattr(structured, name) for name in structured.__all__)
