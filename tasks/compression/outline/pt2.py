"""The outline of a ``.pt2`` (``torch.export.save``), read from the archive's JSON and bytes without PyTorch.

A layer is a module that owns weights, by its name in the caller's model; what is computed without weights is
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
from tasks.compression.outline.facts import DISTINCT_COUNTED, Call, Layer, Outline, Refusal, Weight

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
_TARGET = re.compile(r"torch\.ops\.(\w+)\.(\w+)\.?(\w*)")
_NODE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}")

# Kinds as torch.nn names them, by the operation that has the weights.
_KINDS = {
    "linear": "Linear", "addmm": "Linear", "conv1d": "Conv1d", "conv2d": "Conv2d", "conv3d": "Conv3d",
    "conv_transpose1d": "ConvTranspose1d", "conv_transpose2d": "ConvTranspose2d",
    "conv_transpose3d": "ConvTranspose3d", "layer_norm": "LayerNorm", "group_norm": "GroupNorm",
    "instance_norm": "InstanceNorm", "embedding": "Embedding", "prelu": "PReLU", "lstm": "LSTM", "gru": "GRU",
    "rnn_tanh": "RNN", "rnn_relu": "RNN",
}  # fmt: skip
_ACTIVATIONS = {"softmax": "softmax", "_softmax": "softmax", "sigmoid": "sigmoid"}


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
        of_value = {node: name for node, name in _weights(signature["input_specs"]) if name in stored}
        values = self._values()
        numbers = {name: number for number, name in enumerate(values)}
        layers, calls = self._layers(of_value, stored, numbers)
        inputs = [spec["user_input"]["arg"] for spec in signature["input_specs"] if "user_input" in spec]
        outputs = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
        given, made = _tensor_names(inputs), _tensor_names(outputs)
        last = next((call for call in reversed(calls) if made and numbers[made[0]] in call.outputs), None)
        maker = layers[last.layer].kind if last is not None else ""
        written = str(self._program.get("torch_version", ""))
        return Outline(
            format="pt2",
            framework="torch",
            kind="pt2",
            writer=f"PyTorch {written}" if _VERSION.fullmatch(written) else None,
            name=self._name,
            bytes=self._bytes,
            layers=tuple(layers.values()),
            calls=tuple(calls),
            tensors=tuple(shape for shape, _ in values.values()),
            types=tuple(dtype for _, dtype in values.values()),
            inputs=tuple(numbers[name] for name in given),
            outputs=tuple(numbers[name] for name in made),
            input_names=tuple(given),
            output_names=tuple(made),
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

    def _layers(
        self, of_value: Mapping[str, str], stored: Mapping[str, Weight], numbers: Mapping[str, int]
    ) -> tuple[dict[str, Layer], list[Call]]:
        layers: dict[str, Layer] = {}
        calls: list[Call] = []
        shapes = self._values()
        for node in self._graph["nodes"]:
            operation = _operation(node["target"])
            arguments = {each["name"]: each["arg"] for each in node["inputs"]}
            used = [name for arg in arguments.values() for name in _names(arg)]
            own = list(dict.fromkeys(of_value[name] for name in used if name in of_value))
            owner = own[0].rpartition(".")[0] or self._name if own else _plain(node["name"])
            weights = tuple(stored[name] for name in own)
            data = [name for name in used if name in numbers and name not in of_value]
            if owner in layers and own:
                layers[owner] = _joined(layers[owner], weights)
            else:
                rank = len(shapes[data[0]][0]) if data else 0
                layers[owner] = Layer(
                    path=owner,
                    name=owner.rpartition(".")[2],
                    kind=_kind(operation, rank, bool(own)),
                    config=_config(arguments) if own else {},
                    weights=weights,
                    listed=bool(own),
                )
            made = [name for arg in node["outputs"] for name in _names(arg) if name in numbers]
            calls.append(
                Call(
                    layer=owner,
                    inputs=tuple(numbers[name] for name in data),
                    outputs=tuple(numbers[name] for name in made),
                    keywords={"operation": operation},
                )
            )
        return layers, calls

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


def _weights(specs: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(the graph's name of a stored array, its name in the caller's model)."""
    for spec in specs:
        for kind, field in (
            ("parameter", "parameter_name"),
            ("buffer", "buffer_name"),
            ("tensor_constant", "tensor_constant_name"),
        ):
            if kind in spec:
                yield spec[kind]["arg"]["name"], spec[kind][field]


def _size(size: Mapping[str, Any]) -> int | None:
    return int(size["as_int"]) if "as_int" in size else None


def _names(argument: Mapping[str, Any]) -> list[str]:
    """The tensors of an argument, or of a result."""
    if "as_tensor" in argument:
        return [argument["as_tensor"]["name"]]
    if "as_tensors" in argument:
        return [each["name"] for each in argument["as_tensors"]]
    if "as_optional_tensors" in argument:
        return [each["as_tensor"]["name"] for each in argument["as_optional_tensors"] if "as_tensor" in each]
    return []


def _tensor_names(arguments: list[Mapping[str, Any]]) -> list[str]:
    return [each["as_tensor"]["name"] for each in arguments if "as_tensor" in each]


def _operation(target: str) -> str:
    found = _TARGET.fullmatch(target)
    return found[2] if found else "operation"


def _plain(name: str) -> str:
    if not _NODE.fullmatch(name):
        raise ValueError("the name of a node is no identifier")
    return name


def _kind(operation: str, rank: int, weighted: bool) -> str:
    if not weighted:
        return operation
    if "batch_norm" in operation:
        return f"BatchNorm{max(1, rank - 2)}d"
    return _KINDS.get(operation, operation)


def _config(arguments: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the call says in numbers beside its tensors: strides, groups and the like."""
    plain = ("as_int", "as_ints", "as_float", "as_bool")
    return {name: arg[form] for name, arg in arguments.items() for form in plain if form in arg}


def _joined(layer: Layer, weights: tuple[Weight, ...]) -> Layer:
    """One that is called twice, or whose weights are used by several operations."""
    known = {weight.name for weight in layer.weights}
    more = tuple(weight for weight in weights if weight.name not in known)
    return layer.model_copy(update={"weights": layer.weights + more})
