"""A program's JSON, checked field by field and put together anew; what is free text is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.compression.errors import CompressionError
from tasks.compression.exported.arguments import answer, argument, node_input, tensor
from tasks.compression.exported.expressions import SYMBOL, expression
from tasks.compression.exported.modules import module_called
from tasks.compression.exported.operators import operator
from tasks.compression.exported.schema import (
    Check,
    bad,
    boolean,
    integer,
    listed,
    mapped,
    nothing,
    number,
    one_of,
    optional,
    qualified,
    record,
    variable,
)
from tasks.compression.exported.tensors import described, size
from tasks.compression.exported.trees import tree

__all__ = ["TORCH", "Program", "Weight", "checked_program"]

TORCH = "2.13"
"""The PyTorch whose programs are taken: the format is not kept from one to the next."""

_VERSION = re.compile(rf"{re.escape(TORCH)}\.[0-9]{{1,3}}(?:\+[\w.]{{1,40}})?")
_MAJOR = 8
_GUARD = re.compile(r"[\w\[\]'. ()<>=!%*+/-]{0,400}")


@dataclass(frozen=True)
class Weight:
    """A parameter, buffer or constant: the member of the archive that has its bytes, and its description."""

    member: str
    description: Mapping[str, Any]
    is_parameter: bool


@dataclass(frozen=True)
class Program:
    """What a loader may see. `model` is the program's JSON; weights and constants are by their names in the
    model; `names` are ``input_names`` and ``output_names`` where the caller gave any; `root` is the folder
    all members lie in."""

    model: Mapping[str, Any]
    weights: Mapping[str, Weight]
    constants: Mapping[str, Weight]
    root: str
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


def checked_program(value: Any) -> dict[str, Any]:
    """CompressionError bad_model; unsupported_model for another PyTorch's program, and as of `operator`,
    `expression` and `device`."""
    _check_version(value)
    found: dict[str, Any] = _program(value, "the JSON")
    _check_names(found["graph_module"]["graph"])
    return found


def _check_version(value: Any) -> None:
    if not isinstance(value, dict):
        bad("the JSON", "is no object")
    schema, version = value.get("schema_version"), value.get("torch_version")
    major = schema.get("major") if isinstance(schema, dict) else None
    if major != _MAJOR or not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise CompressionError(
            "unsupported_model",
            f"the program was exported by PyTorch {str(version)[:40]} (schema {str(major)[:10]}); programs "
            f"of PyTorch {TORCH} (schema {_MAJOR}) are taken",
            hint=f"export it again with torch {TORCH}: the format changes from one version to the next",
        )


def _verifiers(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not set(map(str, value)) <= {"TRAINING", "ATEN"}:
        bad(where, "names a dialect that is not taken")
    return [str(each) for each in value]


def _symbol(value: Any, where: str) -> str:
    if isinstance(value, str) and SYMBOL.fullmatch(value):
        return value
    expression(f"Symbol('{value}', integer=True)" if isinstance(value, str) else value, where)
    return bad(where, "is no symbol")


def _metadata(value: Any, where: str) -> dict[str, str]:
    """Only which of the caller's modules the call was made in; stack traces and sources go."""
    found = module_called(value)
    return {} if found is None else {"nn_module_stack": f"module,{found[0]},{found[1]}"}


def _guards(value: Any, where: str) -> list[Any]:
    """Python source that checks the inputs' sizes, which a network takes as they come: it goes."""
    if not isinstance(value, list) or not all(
        isinstance(each, str) and _GUARD.fullmatch(each) and "__" not in each for each in value
    ):
        bad(where, "is Python source of another kind than PyTorch writes")
    return []


def _bound(value: Any, where: str) -> int | None:
    return None if value is None else integer(value, where)


def _no_objects(value: Any, where: str) -> Any:
    if value not in ({}, []):
        raise CompressionError(
            "unsupported_model",
            f"{where} of the exported program are objects of classes of their own",
            hint="let the model hold tensors, and PyTorch's own modules, alone",
        )
    return value


def _empty_text(value: Any, where: str) -> dict[str, str]:
    return {}


_named = record({"name": variable})
_constant_value = one_of({"as_none": nothing, "as_int": integer, "as_float": number, "as_bool": boolean})
_input_spec = one_of(
    {
        "user_input": record({"arg": argument}),
        "parameter": record({"arg": tensor, "parameter_name": qualified}),
        "buffer": record({"arg": tensor, "buffer_name": qualified, "persistent": boolean}),
        "tensor_constant": record({"arg": tensor, "tensor_constant_name": qualified}),
        "constant_input": record({"name": variable, "value": _constant_value}),
    }
)
_output_spec = one_of(
    {
        "user_output": record({"arg": argument}),
        "buffer_mutation": record({"arg": tensor, "buffer_name": qualified}),
    }
)
_node = record(
    {
        "target": operator,
        "inputs": listed(node_input, 10_000),
        "outputs": listed(answer, 10_000),
        "metadata": _metadata,
        "is_hop_single_tensor_return": lambda value, where: None,
        "name": optional(variable),
    },
    {"is_hop_single_tensor_return": None, "name": None},
)
_real_size = one_of({"as_float": number, "as_expr": record({"expr_str": expression, "hint": nothing})})
_true_size = one_of(
    {"as_bool": boolean, "as_expr": record({"expr_str": expression, "hint": lambda value, where: None})}
)
_graph = record(
    {
        "inputs": listed(argument),
        "outputs": listed(argument),
        "nodes": listed(_node),
        "tensor_values": mapped(variable, described),
        "sym_int_values": mapped(variable, size),
        "sym_bool_values": mapped(variable, _true_size),
        "sym_float_values": mapped(variable, _real_size),
        "is_single_tensor_return": boolean,
        "custom_obj_values": _no_objects,
    },
    {"is_single_tensor_return": False, "custom_obj_values": {}, "sym_float_values": {}},
)
_call = record(
    {
        "inputs": listed(argument),
        "outputs": listed(argument),
        "in_spec": tree,
        "out_spec": tree,
        "forward_arg_names": optional(listed(variable)),
    },
    {"forward_arg_names": None},
)


def _calls(value: Any, where: str) -> list[dict[str, Any]]:
    """The call of the whole model; those of its modules are not needed."""
    if (
        not isinstance(value, list)
        or not value
        or not isinstance(value[0], dict)
        or value[0].get("fqn") != ""
    ):
        bad(where, "does not say how the model is called")
    return [{"fqn": "", "signature": _call(value[0].get("signature"), where)}]


_graph_module: Check = record(
    {
        "graph": _graph,
        "signature": record({"input_specs": listed(_input_spec), "output_specs": listed(_output_spec)}),
        "module_call_graph": _calls,
        "metadata": _empty_text,
        "treespec_namedtuple_fields": _empty_text,
    },
    {"metadata": {}, "treespec_namedtuple_fields": {}},
)
_program = record(
    {
        "graph_module": _graph_module,
        "opset_version": mapped(variable, integer),
        "range_constraints": mapped(_symbol, record({"min_val": _bound, "max_val": _bound})),
        "schema_version": record({"major": integer, "minor": integer}),
        "verifiers": _verifiers,
        "torch_version": lambda value, where: str(value),
        "guards_code": _guards,
    },
    {"guards_code": []},
)


def _check_names(graph: Mapping[str, Any]) -> None:
    """No two values of a graph have one name."""
    seen: set[str] = set()
    for place in (*graph["inputs"], *(each for node in graph["nodes"] for each in node["outputs"])):
        for name in _made(place):
            if name in seen:
                bad("the graph", f"makes {name} twice")
            seen.add(name)


def _made(place: Mapping[str, Any]) -> list[str]:
    ((kind, held),) = place.items()
    if kind == "as_tensors":
        return [each["name"] for each in held]
    name = held.get("name", held.get("as_name")) if isinstance(held, dict) else None
    return [] if name is None else [name]
