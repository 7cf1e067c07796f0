from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "tf_keras", "keras", "flask", "celery", "redis", "boto3", "numpy", "h5py")


@pytest.mark.parametrize("module", ["tasks.compression", "tasks.compression.catalogue"])
def test_importing_the_domain_loads_nothing_heavy(module: str) -> None:
    script = f"import {module}, sys; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
