"""A good ``.pt2`` with one linear layer, as torch.export.save writes it, and ones that attack."""

from __future__ import annotations

import copy
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["FILES", "changed", "program", "written"]

Make = Callable[[Path, Path], bytes]
Files = dict[str, Any]

_BATCH = {"as_expr": {"expr_str": "Symbol('s77', positive=True, integer=True)", "hint": {"as_int": 2}}}


def _meta(*sizes: Any, dtype: int = 7, trained: bool = False) -> Files:
    counts = [{"as_int": each} if isinstance(each, int) else each for each in sizes]
    strides, step = [], 1
    for each in reversed(sizes):
        strides.append({"as_int": step})
        step *= each if isinstance(each, int) else 1
    return {
        "dtype": dtype,
        "sizes": counts,
        "requires_grad": trained,
        "device": {"type": "cpu", "index": None},
        "strides": strides[::-1],
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }


def _weight(path: str, *sizes: int) -> Files:
    return {
        "path_name": path,
        "is_param": True,
        "use_pickle": False,
        "tensor_meta": _meta(*sizes, trained=True),
    }


def _tensor(name: str) -> Files:
    return {"as_tensor": {"name": name}}


def _tree(*children: Files, kind: str | None = None, context: str | None = None) -> Files:
    return {"type": kind, "context": context, "children_spec": list(children)}


def program() -> Files:
    """The members of a good archive; JSON as values."""
    linear = {
        "target": "torch.ops.aten.linear.default",
        "inputs": [
            {"name": name, "arg": _tensor(of), "kind": 1}
            for name, of in (("input", "x"), ("weight", "p_fc_weight"), ("bias", "p_fc_bias"))
        ],
        "outputs": [_tensor("linear")],
        "metadata": {
            "stack_trace": 'File "/srv/somebody/secret.py", line 3, in forward',
            "nn_module_stack": "L__self__,,__main__.M;L__self__fc,fc,torch.nn.modules.linear.Linear",
            "torch_fn": "linear_1;builtin_function_or_method.linear",
        },
        "is_hop_single_tensor_return": None,
        "name": "linear",
    }
    positional = _tree(_tree(), kind="builtins.tuple", context="null")
    by_name = _tree(kind="builtins.dict", context="[]")
    arguments = _tree(positional, by_name, kind="builtins.tuple", context="null")
    model = {
        "graph_module": {
            "graph": {
                "inputs": [_tensor("p_fc_weight"), _tensor("p_fc_bias"), _tensor("x")],
                "outputs": [_tensor("linear")],
                "nodes": [linear],
                "tensor_values": {
                    "p_fc_weight": _meta(2, 3, trained=True),
                    "p_fc_bias": _meta(2, trained=True),
                    "x": _meta(_BATCH, 3),
                    "linear": _meta(_BATCH, 2),
                },
                "sym_int_values": {},
                "sym_bool_values": {},
                "is_single_tensor_return": False,
                "custom_obj_values": {},
                "sym_float_values": {},
            },
            "signature": {
                "input_specs": [
                    {"parameter": {"arg": {"name": "p_fc_weight"}, "parameter_name": "fc.weight"}},
                    {"parameter": {"arg": {"name": "p_fc_bias"}, "parameter_name": "fc.bias"}},
                    {"user_input": {"arg": _tensor("x")}},
                ],
                "output_specs": [{"user_output": {"arg": _tensor("linear")}}],
            },
            "module_call_graph": [
                {
                    "fqn": "",
                    "signature": {
                        "inputs": [],
                        "outputs": [],
                        "in_spec": json.dumps([1, arguments]),
                        "out_spec": json.dumps([1, _tree()]),
                        "forward_arg_names": ["x"],
                    },
                },
                {"fqn": "fc", "signature": None},
            ],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": 10},
        "range_constraints": {"s77": {"min_val": 1, "max_val": 1024}},
        "schema_version": {"major": 8, "minor": 20},
        "verifiers": ["TRAINING"],
        "torch_version": "2.13.0+cpu",
        "guards_code": [],
    }
    return {
        "data/weights/weight_0": struct.pack("<6f", *range(6)),
        "data/weights/weight_1": struct.pack("<2f", 1.0, -1.0),
        "data/weights/model_weights_config.json": {
            "config": {"fc.weight": _weight("weight_0", 2, 3), "fc.bias": _weight("weight_1", 2)}
        },
        "data/constants/model_constants_config.json": {"config": {}},
        "models/model.json": model,
        "data/sample_inputs/model.pt": tensors_of(pickle.dumps(((), {}), protocol=2)),
        "archive_format": b"pt2",
        "archive_version": b"0",
        ".data/version": b"3\n",
        "byteorder": b"little",
        ".data/serialization_id": b"0" * 40,
    }


def tensors_of(pickled: bytes) -> bytes:
    """A file of torch.save with that pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
    return out.getvalue()


def written(files: Files, *, root: str = "model", compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            archive.writestr(f"{root}/{name}", data)
    return out.getvalue()


def changed(*path: Any, to: Any) -> Make:
    """The good archive with another value at the path: the member's name, then keys into its JSON."""

    def make(*_: Path) -> bytes:
        files = copy.deepcopy(program())
        place: Any = files
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to
        return written(files)

    return make


def _added(name: str, content: Callable[[Path], bytes]) -> Make:
    return lambda _, markers: written({**program(), name: content(markers)})


def _attack(markers: Path) -> bytes:
    """A pickle that makes a folder when it is loaded."""
    return b"cos\nmkdir\n(S'" + str(markers / "made").encode() + b"'\ntR."


def _opaque(_: Path, markers: Path) -> bytes:
    files = program()
    files["data/constants/model_constants_config.json"]["config"]["thing"] = {
        "path_name": "opaque_obj_0",
        "is_param": False,
        "use_pickle": True,
        "tensor_meta": None,
    }
    files["data/constants/opaque_obj_0"] = _attack(markers)
    return written(files)


def _twice(*_: Path) -> bytes:
    made = bytearray(written({**program(), "data/weights/weight_7": b"\0" * 24}))
    return bytes(made).replace(b"weight_7", b"weight_0")


def _two_roots(*_: Path) -> bytes:
    out = io.BytesIO(written(program()))
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("other/data/weights/weight_9", b"\0")
    return out.getvalue()


def _lambda(markers: Path) -> str:
    return f"__import__('os').mkdir('{markers / 'made'}')"


def _evaluated(*path: Any) -> Make:
    """Python at the place."""
    return lambda canary, markers: changed(*path, to=_lambda(markers))(canary, markers)


def _evaluated_size(*path: Any) -> Make:
    """Python as the expression of a size."""

    def make(canary: Path, markers: Path) -> bytes:
        size = {"as_expr": {"expr_str": _lambda(markers), "hint": None}}
        return changed(*path, to=size)(canary, markers)

    return make


def _renamed(_: Path, markers: Path) -> bytes:
    """The input's name, which goes into generated source, brings a default value along."""
    files = program()
    name = json.dumps(f"x, y={_lambda(markers)}")
    told = json.dumps(files["models/model.json"])
    told = told.replace('"name": "x"', f'"name": {name}').replace('"x": {"dtype"', f'{name}: {{"dtype"')
    return written({**files, "models/model.json": told.encode()})


_MODEL = "models/model.json"
_GRAPH = (_MODEL, "graph_module", "graph")
_NODE = (*_GRAPH, "nodes", 0)
_CALL = (_MODEL, "graph_module", "module_call_graph", 0, "signature")
_WEIGHT = ("data/weights/model_weights_config.json", "config", "fc.weight")
_SIZE = (*_GRAPH, "tensor_values", "x", "sizes", 0)


def _calling(target: str) -> Make:
    return changed(*_NODE, "target", to=target)


FILES: dict[str, tuple[str, Make]] = {
    "pt2_sample_inputs": (
        "pickle_not_allowed",
        _added("data/sample_inputs/model.pt", lambda markers: tensors_of(_attack(markers))),
    ),
    "pt2_use_pickle": ("pickle_not_allowed", changed(*_WEIGHT, "use_pickle", to=True)),
    "pt2_opaque": ("archive_member_not_allowed", _opaque),
    "pt2_custom_object": (
        "archive_member_not_allowed",
        _added("data/constants/custom_obj_0", _attack),
    ),
    "pt2_legacy_weights": ("archive_member_not_allowed", _added("data/weights/model.pt", _attack)),
    "pt2_aoti_so": (
        "archive_member_not_allowed",
        _added("data/aotinductor/model/x.so", lambda _: b"\x7fELF"),
    ),
    "pt2_other_extra": ("archive_member_not_allowed", _added("extra/notes.txt", lambda _: b"")),
    "pt2_expression": ("bad_model", _evaluated(*_SIZE, "as_expr", "expr_str")),
    "pt2_stride": ("bad_model", _evaluated_size(*_GRAPH, "tensor_values", "x", "strides", 0)),
    "pt2_sym_int": ("bad_model", _evaluated_size(*_GRAPH, "sym_int_values", "n")),
    "pt2_power": (
        "bad_model",
        changed(*_SIZE, "as_expr", "expr_str", to="Pow(Integer(9), Integer(999999999))"),
    ),
    "pt2_deep_expression": (
        "bad_model",
        changed(*_SIZE, "as_expr", "expr_str", to="Add(" * 60 + "1" + ")" * 60),
    ),
    "pt2_guards": (
        "bad_model",
        lambda canary, markers: changed(_MODEL, "guards_code", to=[_lambda(markers)])(canary, markers),
    ),
    "pt2_input_name": ("bad_model", _renamed),
    "pt2_forward_name": ("bad_model", _evaluated(*_CALL, "forward_arg_names", 0)),
    "pt2_keyword_name": ("bad_model", changed(*_CALL, "forward_arg_names", 0, to="lambda")),
    "pt2_node_name": ("bad_model", _evaluated(*_NODE, "name")),
    "pt2_weight_name": (
        "bad_model",
        changed(
            _MODEL, "graph_module", "signature", "input_specs", 0, "parameter", "parameter_name", to='a"]; 1'
        ),
    ),
    "pt2_dunder_name": (
        "bad_model",
        changed(
            "data/weights/model_weights_config.json", "config", "fc.__class__", to=_weight("weight_1", 2)
        ),
    ),
    "pt2_from_file": ("op_not_allowed", _calling("torch.ops.aten.from_file.default")),
    "pt2_custom_operator": ("op_not_allowed", _calling("torch.ops.mylib.attack.default")),
    "pt2_any_function": ("op_not_allowed", _calling("torch.load")),
    "pt2_attribute": ("op_not_allowed", _calling("torch.ops.aten.relu.default.__globals__")),
    "pt2_operator_module": ("op_not_allowed", _calling("_operator.attrgetter")),
    "pt2_extension": ("op_not_allowed", _calling("#attack:x")),
    "pt2_out_overload": ("op_not_allowed", _calling("torch.ops.aten.add.out")),
    "pt2_higher_order": ("unsupported_model", _calling("torch.ops.higher_order.cond")),
    "pt2_data_dependent": (
        "unsupported_model",
        changed(*_SIZE, "as_expr", "expr_str", to="Symbol('u0', integer=True)"),
    ),
    "pt2_graph_argument": (
        "bad_model",
        changed(*_NODE, "inputs", 0, "arg", to={"as_graph": {"name": "g", "graph": {}}}),
    ),
    "pt2_object_argument": (
        "bad_model",
        changed(*_NODE, "inputs", 0, "arg", to={"as_custom_obj": {"name": "o", "class_fqn": "os.system"}}),
    ),
    "pt2_operator_argument": (
        "bad_model",
        changed(*_NODE, "inputs", 0, "arg", to={"as_operator": "torch.load"}),
    ),
    "pt2_objects": (
        "unsupported_model",
        changed(*_GRAPH, "custom_obj_values", to={"o": {"name": "o", "class_fqn": "os.system"}}),
    ),
    "pt2_tree": (
        "unsupported_model",
        changed(*_CALL, "out_spec", to=json.dumps([1, _tree(kind="os.system", context="null")])),
    ),
    "pt2_tree_context": (
        "bad_model",
        changed(*_CALL, "out_spec", to=json.dumps([1, _tree(kind="builtins.dict", context='[{"a": 1}]')])),
    ),
    "pt2_verifier": ("bad_model", changed(_MODEL, "verifiers", to=["os.system"])),
    "pt2_unknown_field": ("bad_model", changed(_MODEL, "hook", to="os.system")),
    "pt2_huge_weight": (
        "bad_model",
        changed(*_WEIGHT, "tensor_meta", to=_meta(1 << 19, 1 << 19, trained=True)),
    ),
    "pt2_overlapping_weight": (
        "bad_model",
        changed(*_WEIGHT, "tensor_meta", "strides", to=[{"as_int": 0}, {"as_int": 1}]),
    ),
    "pt2_offset_weight": ("bad_model", changed(*_WEIGHT, "tensor_meta", "storage_offset", to={"as_int": 4})),
    "pt2_sparse_weight": ("bad_model", changed(*_WEIGHT, "tensor_meta", "layout", to=1)),
    "pt2_weight_elsewhere": ("bad_model", changed(*_WEIGHT, "path_name", to="../../../etc/passwd")),
    "pt2_weight_lacking": ("bad_model", changed(*_WEIGHT, "path_name", to="weight_5")),
    "pt2_cuda": (
        "unsupported_model",
        changed(*_WEIGHT, "tensor_meta", "device", to={"type": "cuda", "index": 0}),
    ),
    "pt2_half": ("unsupported_model", changed(*_WEIGHT, "tensor_meta", "dtype", to=6)),
    "pt2_schema": ("unsupported_model", changed(_MODEL, "schema_version", to={"major": 9, "minor": 0})),
    "pt2_other_torch": ("unsupported_model", changed(_MODEL, "torch_version", to="2.11.0")),
    "pt2_quantized": (
        "already_quantized",
        _calling("torch.ops.quantized_decomposed.quantize_per_tensor.default"),
    ),
    "pt2_chance": ("unsupported_model", _calling("torch.ops.aten.rand.default")),
    "pt2_control_flow": ("unsupported_model", _calling("torch.ops.aten.item.default")),
    "pt2_fast_path": ("unsupported_model", _calling("torch.ops.aten._transformer_encoder_layer_fwd.default")),
    "pt2_no_json": ("bad_model", changed(_MODEL, to=b"{")),
    "pt2_deep_json": ("bad_model", changed(_MODEL, to=b"[" * 200_000)),
    "pt2_key_twice": ("bad_model", changed(_MODEL, to=b'{"a": 1, "a": 2}')),
    "pt2_nan": ("bad_model", changed(_MODEL, to=b'{"a": NaN}')),
    "pt2_no_object": ("bad_model", changed(_MODEL, to=b"[]")),
    "pt2_two_programs": ("bad_model", _added("models/other.json", lambda _: b"{}")),
    "pt2_two_roots": ("bad_model", _two_roots),
    "pt2_member_twice": ("archive_duplicate_member", _twice),
    "pt2_compressed": ("bad_model", lambda *_: written(program(), compression=zipfile.ZIP_DEFLATED)),
    "pt2_big_endian": ("bad_model", changed("byteorder", to=b"big")),
    "pt2_other_archive": ("bad_model", changed("archive_version", to=b"7")),
    "pt2_names": ("bad_model", _added("extra/featherweight.json", lambda _: b'{"input_names": ["a b"]}')),
}
