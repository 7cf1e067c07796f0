"""The outline of a ``.pt2`` (``torch.export.save``), read from the archive's JSON and bytes without PyTorch.

Layers have the names that the loader gives them, which are those of the caller's model; what is no layer is
an operation, by the name of its node. Sizes that the export left open, such as the batch, are None.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tasks.compression.datasets import archives
from tasks.compression.datasets.archives import checked, zip_content
from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds, too_large
from tasks.compression.outline.facts import DISTINCT_COUNTED, Outline, Refusal, Weight
from tasks.compression.outline.pt2_layers import layers_of
from tasks.compression.outline.pt2_names import NAMES, names_of

__all__ = ["SCHEMA_MAJOR", "TYPES", "read_pt2"]

SCHEMA_MAJOR = 8
"""The version of the archive's schema that torch 2.13 reads; it reads no other."""

TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16",
}  # fmt: skip
"""Of the schema's ScalarType."""

_NUMPY = {"uint8": "u1", "int8": "i1", "int16": "<i2", "int32": "<i4", "int64": "<i8", "float16": "<f2",
          "float32": "<f4", "float64": "<f8", "bool": "?"}  # fmt: skip
_WIDTHS = {"bfloat16": 2, "complex32": 4, "complex64": 8, "complex128": 16}
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}")

_ACTIVATIONS = {"Softmax": "softmax", "softmax": "softmax", "_softmax": "softmax", "Sigmoid": "sigmoid"}


def read_pt2(path: Path, bounds: Bounds) -> Outline:
    """CompressionError bad_model for an archive that is damaged or beyond `bounds`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _Program(archive, path, bounds).outline()
    except archives.BROKEN as error:
        raise _damaged(error) from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> CompressionError:
    return CompressionError(
        "bad_model",
        f"the .pt2 file is damaged, cut off or of another version of PyTorch: {error}"[:300],
        hint="export it again with featherweight.torch.save(model, example_inputs, 'model.pt2')",
    )


class _Program:
    def __init__(self, archive: zipfile.ZipFile, path: Path, bounds: Bounds) -> None:
        members = checked(
            archive, path, archives.Bounds(members=bounds.objects, member_bytes=bounds.weight_bytes)
        )
        self._archive = archive
        self._bounds = bounds
        self._bytes = path.stat().st_size
        self._members = {info.filename: info for info in members}
        (model,) = [name for name in self._members if re.fullmatch(r"[^/]+/models/[^/]+\.json", name)]
        self._root = model.partition("/")[0]
        self._name = model.rpartition("/")[2].removesuffix(".json")
        self._program = self._json(model)
        self._graph = self._program["graph_module"]["graph"]
        if len(self._graph["nodes"]) > bounds.calls or len(self._graph["tensor_values"]) > bounds.objects:
            raise too_large(f"more than {bounds.calls} operations or {bounds.objects} tensors")
        self._left = bounds.weight_bytes

    def outline(self) -> Outline:
        signature = self._program["graph_module"]["signature"]
        stored = {**self._stored("weights"), **self._stored("constants")}
        held = {
            node: (name, stored[name], is_parameter)
            for node, name, is_parameter in _weights(signature["input_specs"])
            if name in stored
        }
        values = self._values()
        numbers = {name: number for number, name in enumerate(values)}
        shapes = {name: shape for name, (shape, _) in values.items()}
        layers, calls = layers_of(self._graph, held, shapes)
        kinds = {layer.path: layer.kind for layer in layers}
        inputs = [spec["user_input"]["arg"] for spec in signature["input_specs"] if "user_input" in spec]
        outputs = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
        given, made = _tensor_names(inputs), _tensor_names(outputs)
        told = f"{self._root}/{NAMES}"
        input_names, output_names = names_of(
            self._program, self._json(told) if told in self._members else {}, given, made
        )
        last = next((call for call in reversed(calls) if made and numbers[made[0]] in call.outputs), None)
        maker = kinds[last.layer] if last is not None else ""
        written = str(self._program.get("torch_version", ""))
        return Outline(
            format="pt2",
            framework="torch",
            kind="pt2",
            writer=f"PyTorch {written}" if _VERSION.fullmatch(written) else None,
            name=self._name,
            bytes=self._bytes,
            layers=layers,
            calls=calls,
            tensors=tuple(shape for shape, _ in values.values()),
            types=tuple(dtype for _, dtype in values.values()),
            inputs=tuple(numbers[name] for name in given),
            outputs=tuple(numbers[name] for name in made),
            input_names=input_names,
            output_names=output_names,
            output_activation=_ACTIVATIONS.get(maker, "linear") if maker else None,
            refused=self._refused(len(inputs) - len(given), len(outputs) - len(made)),
        )

    def _refused(self, other_inputs: int, other_outputs: int) -> Refusal | None:
        major = self._program["schema_version"]["major"]
        again = "export it with torch 2.13: featherweight.torch.save(model, example_inputs, 'model.pt2')"
        if major != SCHEMA_MAJOR:
            detail = f"the program was exported by another version of PyTorch (schema {int(major)})"
            return Refusal(code="unsupported_model", detail=detail, hint=again)
        if other_inputs or other_outputs:
            detail = "an input or output of the program is no tensor"
            return Refusal(
                code="unsupported_model", detail=detail, hint="let forward take and return tensors"
            )
        return None

    def _values(self) -> dict[str, tuple[tuple[int | None, ...], str]]:
        """Every tensor of the graph by name: its shape and type."""
        return {
            name: (tuple(map(_size, meta["sizes"])), TYPES.get(meta["dtype"], "unknown"))
            for name, meta in self._graph["tensor_values"].items()
        }

    def _stored(self, folder: str) -> dict[str, Weight]:
        """The arrays of the file by name, those that are no tensors left out."""
        name = f"{self._root}/data/{folder}/{self._name}_{folder}_config.json"
        if name not in self._members:
            return {}
        found = {}
        for key, entry in self._json(name)["config"].items():
            if entry["use_pickle"] or entry.get("tensor_meta") is None:
                continue
            meta = entry["tensor_meta"]
            shape = tuple(int(size["as_int"]) for size in meta["sizes"])
            dtype = TYPES.get(meta["dtype"], "unknown")
            found[key] = self._weight(key, f"{self._root}/data/{folder}/{entry['path_name']}", shape, dtype)
        return found

    def _weight(self, key: str, member: str, shape: tuple[int, ...], dtype: str) -> Weight:
        info = self._members[member]
        name = key.rpartition(".")[2]
        width = np.dtype(_NUMPY[dtype]).itemsize if dtype in _NUMPY else _WIDTHS.get(dtype, 0)
        if info.file_size < prod(shape) * width:
            raise ValueError(f"{key} has fewer bytes than its shape says")
        if dtype not in _NUMPY:
            return Weight(name=name, shape=shape, dtype=dtype)
        self._left -= info.file_size
        if self._left < 0:
            raise too_large(f"weights of more than {self._bounds.weight_bytes} bytes")
        values = np.frombuffer(zip_content(self._archive, info), _NUMPY[dtype], count=prod(shape))
        distinct = len(np.unique(values))
        return Weight(
            name=name,
            shape=shape,
            dtype=dtype,
            zeros=int(values.size - np.count_nonzero(values)),
            distinct=distinct if distinct <= DISTINCT_COUNTED else None,
        )

    def _json(self, name: str) -> dict[str, Any]:
        info = self._members[name]
        if info.file_size > self._bounds.json_bytes:
            raise too_large(f"a {name} of more than {self._bounds.json_bytes} bytes")
        value = json.loads(zip_content(self._archive, info))
        if not isinstance(value, dict):
            raise TypeError(f"{name} is no object")
        return value


def _weights(specs: list[dict[str, Any]]) -> Iterator[tuple[str, str, bool]]:
    """(the graph's name of a stored array, its name in the caller's model, whether it is a parameter)."""
    for spec in specs:
        for kind, field in (
            ("parameter", "parameter_name"),
            ("buffer", "buffer_name"),
            ("tensor_constant", "tensor_constant_name"),
        ):
            if kind in spec:
                yield spec[kind]["arg"]["name"], spec[kind][field], kind == "parameter"


def _size(size: Mapping[str, Any]) -> int | None:
    return int(size["as_int"]) if "as_int" in size else None


def _tensor_names(arguments: list[Mapping[str, Any]]) -> list[str]:
    return [each["as_tensor"]["name"] for each in arguments if "as_tensor" in each]
