import importlib
import pkgutil
import subprocess
import sys

import pytest

import featherweight


def test_all_is_sorted_and_every_name_is_there() -> None:
    assert sorted(featherweight.__all__) == featherweight.__all__
    for name in featherweight.__all__:
        assert getattr(featherweight, name) is not None
    assert set(featherweight.__all__) <= set(dir(featherweight))


def test_lazy_table_and_all_agree() -> None:
    assert {*featherweight._HOME, "__version__"} == set(featherweight.__all__)


def test_every_error_is_exported_by_the_package() -> None:
    errors = importlib.import_module("featherweight.errors")
    classes = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert classes <= set(featherweight.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        featherweight.no_such_name  # noqa: B018


@pytest.mark.parametrize(
    "module", [each.name for each in pkgutil.walk_packages(featherweight.__path__, "featherweight.")]
)
def test_every_module_says_what_it_exports(module: str) -> None:
    if module.endswith("__main__"):
        return
    loaded = importlib.import_module(module)
    assert all(hasattr(loaded, name) for name in loaded.__all__)


def test_vocabulary_alone_loads_no_http_client() -> None:
    code = "import featherweight.spec, featherweight.job, sys; print('httpx' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
