"""What a file says of itself, read back by the numbers of the schema's fields."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.number_types import UOffsetTFlags
from flatbuffers.table import Table
from pydantic import ValidationError

from featherweight.spec import CompressionSpec, TfliteMetadata
from tasks.compression import CompressionError
from tasks.compression.facts import CompiledState, ModelFacts
from tasks.compression.litert import Program
from tasks.compression.tflite import strip
from tasks.compression.tflite_metadata import check_labels, described

TOLD = TfliteMetadata(
    name="Flowers",
    description="Tells roses from tulips by their pétales.",
    version="1.2",
    author="A gardener",
    license="CC0-1.0",
    labels=("rose", "tulip", "neither of them"),
)
QUANTIZE = {"technique": "quantize", "scheme": "float16"}


def tiny() -> bytes:
    """A program of one operation: RELU of a tensor of three values, and a signature with names of its own."""
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RELU
    code.version = 1
    model.operatorCodes = [code]
    graph = schema.SubGraphT()
    graph.tensors = []
    for name in ("inside_0", "inside_1"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, [1, 3], 0
        graph.tensors.append(tensor)
    step = schema.OperatorT()
    step.inputs, step.outputs = [0], [1]
    graph.operators, graph.inputs, graph.outputs = [step], [0], [1]
    model.subgraphs = [graph]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [_named("petals", 0)], [_named("kind", 1)]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _named(name: str, index: int) -> schema.TensorMapT:
    item = schema.TensorMapT()
    item.name, item.tensorIndex = name, index
    return item


def stored(content: bytes) -> bytes:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(content), 0))
    (entry,) = [item for item in model.metadata if item.name == b"TFLITE_METADATA"]
    return bytes(bytearray(model.buffers[entry.buffer].data))


def text(table: Table, slot: int) -> str | None:
    place = table.Offset(4 + 2 * slot)
    return table.String(place + table.Pos).decode() if place else None


def tables(table: Table, slot: int) -> list[Table]:
    place = table.Offset(4 + 2 * slot)
    if not place:
        return []
    start = table.Vector(place)
    return [Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(table.VectorLen(place))]


def root(metadata: bytes) -> Table:
    content = bytearray(metadata)
    return Table(content, flatbuffers.encode.Get(UOffsetTFlags.packer_type, content, 0))


def facts(*outputs: tuple[int | None, ...]) -> ModelFacts:
    return ModelFacts(((3,),), outputs, None, CompiledState())


def test_every_field_is_read_back() -> None:
    metadata = stored(described(tiny(), TOLD))
    assert metadata[4:8] == b"M001"
    table = root(metadata)
    assert [text(table, slot) for slot in (0, 1, 2, 4, 5, 7)] == [
        TOLD.name,
        TOLD.description,
        TOLD.version,
        TOLD.author,
        TOLD.license,
        "1.0.0",
    ]


def test_inputs_and_outputs_have_the_names_of_the_signature() -> None:
    (graph,) = tables(root(stored(described(tiny(), TOLD))), 3)
    assert [text(item, 0) for item in tables(graph, 2)] == ["petals"]
    assert [text(item, 0) for item in tables(graph, 3)] == ["kind"]


def test_labels_are_a_file_of_the_output_in_an_archive_at_the_end() -> None:
    content = described(tiny(), TOLD)
    (graph,) = tables(root(stored(content)), 3)
    (output,) = tables(graph, 3)
    (file,) = tables(output, 6)
    assert text(file, 0) == "labels.txt"
    assert file.Get(flatbuffers.number_types.Int8Flags, file.Offset(8) + file.Pos) == 2  # TENSOR_AXIS_LABELS
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode() == "rose\ntulip\nneither of them\n"


def test_program_answers_as_before_and_the_same_metadata_makes_the_same_file() -> None:
    content = described(tiny(), TOLD)
    x = np.array([[-1.0, 0.5, 2.0]], dtype=np.float32)
    answer = Program(content).predict(x)
    assert isinstance(answer, np.ndarray)
    np.testing.assert_array_equal(answer, [[0.0, 0.5, 2.0]])
    assert described(tiny(), TOLD) == content


def test_without_labels_there_is_no_archive_and_empty_fields_are_left_out() -> None:
    content = described(tiny(), TfliteMetadata(name="Flowers"))
    assert not zipfile.is_zipfile(io.BytesIO(content))
    assert text(root(stored(content)), 1) is None


def test_stripping_would_take_it_away_and_so_comes_first() -> None:
    assert b"Flowers" in described(tiny(), TOLD)
    assert b"Flowers" not in strip(described(tiny(), TOLD))


@pytest.mark.parametrize("outputs", [((4,),), ((2, 4),), ((None,),), ((3,), (3,))])
def test_labels_that_do_not_fit_the_output_are_refused(outputs: tuple[tuple[int | None, ...], ...]) -> None:
    with pytest.raises(CompressionError) as caught:
        check_labels(TOLD, facts(*outputs))
    assert (caught.value.code, caught.value.pointer) == ("invalid_request", "/tflite_metadata/labels")


def test_labels_that_fit_are_taken() -> None:
    check_labels(TOLD, facts((3,)))
    check_labels(TOLD, facts((8, 8, 3)))
    check_labels(TfliteMetadata(name="Flowers"), facts((3,), (3,)))


@pytest.mark.parametrize(
    "told",
    [{}, {"labels": []}, {"labels": ["a\nb"]}, {"labels": [""]}, {"name": "n" * 201}, {"colour": "red"}],
)
def test_metadata_that_says_nothing_or_too_much_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CompressionSpec.model_validate({"steps": [QUANTIZE], "tflite_metadata": told})


def test_metadata_without_a_file_for_it_is_refused() -> None:
    steps = [{"technique": "prune"}]
    with pytest.raises(ValidationError, match="needs the output tflite or c_array"):
        CompressionSpec.model_validate(
            {"steps": steps, "outputs": ["onnx"], "tflite_metadata": {"name": "Flowers"}}
        )


def test_delivered_file_has_it(cnn_file: Path, tmp_path: Path) -> None:
    from tasks.compression import compress

    labels = [f"digit {number}" for number in range(10)]
    spec = {"steps": [QUANTIZE], "tflite_metadata": {"name": "Digits", "labels": labels}}
    compress(cnn_file, spec, workdir=tmp_path)
    content = (tmp_path / "out" / "model.tflite").read_bytes()
    assert text(root(stored(content)), 0) == "Digits"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("labels.txt").decode().splitlines() == labels
