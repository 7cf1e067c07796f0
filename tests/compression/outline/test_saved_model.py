"""What a SavedModel's archive may hold, and what is read of it without TensorFlow."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.compression.errors import CompressionError
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.reading import read_outline
from tests.compression.networks import keras
from tests.compression.outline.outcomes import outcome
from tests.compression.saved_models import (
    files_of,
    framework,
    keras2,
    keras3_export,
    plain_module,
    tar_of,
    zip_of,
)

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def keras_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keras2(tmp_path_factory.mktemp("keras2") / "model")


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_module(tmp_path_factory.mktemp("module") / "model")


@pytest.fixture(scope="module")
def module(module_folder: Path) -> Files:
    return files_of(module_folder)


def refused(path: Path) -> CompressionError:
    with pytest.raises(CompressionError) as caught:
        read_outline(path)
    return caught.value


def edited(files: Files, change: Callable[[Any], None]) -> Files:
    """With the graph changed by way of TensorFlow's own classes."""
    from tasks.compression.backends.tensorflow._framework import SavedModel

    graph = SavedModel()
    graph.ParseFromString(files["saved_model.pb"])
    change(graph.meta_graphs[0])
    return {**files, "saved_model.pb": graph.SerializeToString()}


def test_keras_network_is_read_with_its_weights(keras_folder: Path, tmp_path: Path) -> None:
    model = keras().models.load_model(keras_folder)  # one of ours
    outline = read_outline(zip_of(files_of(keras_folder), tmp_path / "m.zip"))
    assert (outline.format, outline.kind, outline.why, outline.refused) == (
        "saved_model",
        "keras",
        None,
        None,
    )
    assert outline.has_optimizer_state is False  # compiled, and never trained
    read = {layer.path: [weight.shape for weight in layer.weights] for layer in outline.layers}
    assert read["conv"] == [tuple(weight.shape) for weight in model.get_layer("conv").weights]
    assert read["norm"] == [(4,)] * 4
    nested = model.get_layer("head").get_layer("logits")
    assert read["head/logits"] == [tuple(weight.shape) for weight in nested.weights]
    assert outline.parameters == model.count_params()
    (norm,) = [layer for layer in outline.layers if layer.path == "norm"]
    assert {weight.name: weight.zeros for weight in norm.weights} == {
        "gamma": 0,
        "beta": 4,
        "moving_mean": 4,
        "moving_variance": 0,
    }


@pytest.mark.parametrize("packed", [True, False])
def test_tar_is_read_as_the_zip_is(keras_folder: Path, tmp_path: Path, packed: bool) -> None:
    zipped = read_outline(zip_of(files_of(keras_folder), tmp_path / "m.zip", top="model/"))
    tarred = read_outline(tar_of(keras_folder, tmp_path / "m.tar", packed=packed))
    assert _but_size(tarred) == _but_size(zipped)


def _but_size(outline: Outline) -> Outline:
    return outline.model_copy(update={"bytes": 0})


def test_export_of_keras_3_is_a_graph(tmp_path: Path) -> None:
    outline = read_outline(zip_of(files_of(keras3_export(tmp_path / "m")), tmp_path / "m.zip"))
    assert outline.kind == "graph"
    assert "no Keras configuration" in (outline.why or "")
    # Such an export holds its variables twice.
    assert outline.parameters == 3 * 3 * 8 + 8 + 6 * 6 * 8 * 4 + 4
    assert outline.shapes(outline.inputs) == [(None, 8, 8, 1)]
    assert outline.shapes(outline.outputs) == [(None, 4)]


def test_reading_loads_no_framework(module: Files, tmp_path: Path) -> None:
    path = zip_of(module, tmp_path / "m.zip")
    code = (
        "import sys, pathlib; from tasks.compression.outline.reading import read_outline;"
        f"print(read_outline(pathlib.Path({str(path)!r})).kind);"
        "print({'tensorflow', 'google.protobuf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "graph\nset()"


def test_operations_on_the_list_are_tensorflows_own() -> None:
    from tasks.compression.outline.saved_model.operators import SAVERS

    known = set(framework().raw_ops.__dict__)
    assert known >= SAVERS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("saved_model.pbtxt", "saved_model.pbtxt is not read"),
        ("../saved_model.pb", "leads out"),
        ("assets/../../x", "leads out"),
        ("/etc/x", "leads out"),
        ("assets/a/b", "does not belong"),
        ("assets/.hidden", "does not belong"),
        ("saved_model.cpb", "does not belong"),
        ("variables/variables.index.bak", "does not belong"),
        ("other/saved_model.pb", "another folder"),
        ("run.py", "does not belong"),
    ],
)
def test_members_that_do_not_belong_are_refused(module: Files, tmp_path: Path, name: str, words: str) -> None:
    error = refused(zip_of({**module, name: b"x"}, tmp_path / "m.zip"))
    assert error.code == f"archive_{'path' if words == 'leads out' else 'member'}_not_allowed"
    assert words in error.detail


def test_text_alone_in_the_place_of_the_graph_is_refused(module: Files, tmp_path: Path) -> None:
    files = {name: content for name, content in module.items() if name != "saved_model.pb"}
    error = refused(zip_of({**files, "saved_model.pbtxt": b"saved_model_schema_version: 1"}, tmp_path / "m"))
    assert error.code == "archive_member_not_allowed"
    assert "saved_model.pb" in (error.hint or "")


def test_links_and_members_given_twice_are_refused(module: Files, tmp_path: Path) -> None:
    def tar(path: Path, *extra: tarfile.TarInfo) -> Path:
        with tarfile.open(path, "w") as archive:
            for name, content in module.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            for entry in extra:
                archive.addfile(entry, io.BytesIO(b""))
        return path

    link = tarfile.TarInfo("assets/vocabulary")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    assert refused(tar(tmp_path / "link", link)).code == "archive_link_not_allowed"
    assert "two members" in refused(tar(tmp_path / "twice", tarfile.TarInfo("saved_model.pb"))).detail


@pytest.mark.parametrize(
    "operation", ["WriteFile", "ReadFile", "PrintV2", "PyFunc", "ImmutableConst", "Abort"]
)
def test_operations_that_do_more_than_compute_are_refused(
    module: Files, tmp_path: Path, operation: str
) -> None:
    def within(graph: Any) -> None:
        function = next(f for f in graph.graph_def.library.function if "traced" not in f.signature.name)
        function.node_def.add(name="sly", op=operation)

    def outside(graph: Any) -> None:
        graph.graph_def.node.add(name="sly", op=operation)

    for change in (within, outside):
        error = refused(zip_of(edited(module, change), tmp_path / "m.zip"))
        assert error.code == "op_not_allowed"
        assert operation in error.detail


def test_saving_may_not_be_called(module: Files, tmp_path: Path) -> None:
    def call(graph: Any) -> None:
        library = graph.graph_def.library.function
        saver = next(f.signature.name for f in library if "traced_save" in f.signature.name)
        caller = next(f for f in library if "traced" not in f.signature.name)
        node = caller.node_def.add(name="sly", op="PartitionedCall")
        node.attr["f"].func.name = saver

    def expose(graph: Any) -> None:
        library = graph.graph_def.library.function
        saver = next(f.signature.name for f in library if "traced_save" in f.signature.name)
        graph.object_graph_def.nodes.add().bare_concrete_function.concrete_function_name = saver

    def offer(graph: Any) -> None:
        library = graph.graph_def.library.function
        saver = next(f for f in library if "traced_save" in f.signature.name)
        saver.attr["api_implements"].s = b"serve"

    def elsewhere(graph: Any) -> None:
        library = graph.graph_def.library.function
        caller = next(f for f in library if "traced" not in f.signature.name)
        caller.node_def.add(name="sly", op="SaveV2")

    for change in (call, expose, offer, elsewhere):
        assert refused(zip_of(edited(module, change), tmp_path / "m.zip")).code == "op_not_allowed"


def test_asset_that_leads_elsewhere_is_refused(module: Files, tmp_path: Path) -> None:
    def lead(graph: Any) -> None:
        graph.asset_file_def.add(filename="../../x")

    error = refused(zip_of(edited(module, lead), tmp_path / "m.zip"))
    assert error.code == "asset_path_not_allowed"
    assert "'../../x'" in error.detail


def test_signature_must_be_told(tmp_path: Path) -> None:
    several = plain_module(tmp_path / "several", signatures=("left", "right"))
    error = refused(zip_of(files_of(several), tmp_path / "several.zip"))
    assert "left, right" in error.detail
    assert "serving_default" in (error.hint or "")
    only = plain_module(tmp_path / "only", signatures=("mine",))
    assert read_outline(zip_of(files_of(only), tmp_path / "only.zip")).name == "mine"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda graph: graph.ClearField("object_graph_def"), "TensorFlow 1"),
        (lambda graph: graph.meta_info_def.ClearField("tags"), "not tagged"),
        (lambda graph: graph.signature_def.clear(), "no signature"),
        (lambda graph: _input(graph).tensor_shape.dim[0].__setattr__("size", 7), "takes 7 samples at once"),
        (lambda graph: _input(graph).__setattr__("dtype", 7), "of the type string"),
        (lambda graph: _input(graph).tensor_shape.__setattr__("unknown_rank", True), "no known shape"),
    ],
)
def test_graph_that_cannot_be_converted_says_why(
    module: Files, tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    error = refused(zip_of(edited(module, change), tmp_path / "m.zip"))
    assert error.code == "unsupported_model"
    assert words in error.detail


def _input(graph: Any) -> Any:
    return graph.signature_def["serving_default"].inputs["x"]


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index", "keras_metadata.pb"])
def test_mutated_files_are_refused_or_read(keras_folder: Path, tmp_path: Path, name: str) -> None:
    files = files_of(keras_folder)
    chance = np.random.default_rng(0)
    codes = set()
    for _ in range(60):
        mutant = bytearray(files[name])
        for place in chance.integers(0, len(mutant), 4):
            mutant[place] = int(chance.integers(0, 256))
        codes.add(outcome(zip_of({**files, name: bytes(mutant)}, tmp_path / "m.zip")))
    assert codes <= {
        *(
            None,
            "bad_model",
            "unsupported_model",
            "op_not_allowed",
            "asset_path_not_allowed",
            "layer_not_allowed",
        )
    }
    for cut in (0, 10, len(files[name]) // 2):
        path = zip_of({**files, name: files[name][:cut]}, tmp_path / "m.zip")
        assert outcome(path) in (None, "bad_model", "unsupported_model")
