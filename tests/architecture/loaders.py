"""What code that reads callers' files may not do, found in its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["RULES", "Violation", "violations"]

_FORBIDDEN_MODULES = {"pickle", "_pickle", "cPickle", "marshal", "joblib", "dill", "cloudpickle", "shelve"}
_READING_ARRAYS = {"load", "read_array", "NpzFile"}
_UNPACKING = {"extractall", "extract", "unpack_archive"}
_UNSAFE_YAML = {"load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"}
_SAFE_YAML = {"SafeLoader", "CSafeLoader"}


class Violation(NamedTuple):
    rule: str
    line: int


def violations(source: str) -> list[Violation]:
    """Of every rule, in the order of the source."""
    tree = ast.parse(source)
    safe = _inside_safe_mode(tree)
    found = [
        Violation(rule, node.lineno)
        for node in ast.walk(tree)
        for rule, breaks in RULES.items()
        if isinstance(node, ast.expr | ast.stmt) and breaks(node, safe)
    ]
    return sorted(found, key=lambda each: each.line)


def _interpreter(node: ast.AST, _: set[int]) -> bool:
    """LiteRT verifies what it gets as bytes, and maps a file without a look."""
    if not isinstance(node, ast.Call) or _name(node.func) != "Interpreter":
        return False
    given = {word.arg for word in node.keywords}
    return bool(node.args) or "model_content" not in given or "model_path" in given or None in given


def _numpy(node: ast.AST, _: set[int]) -> bool:
    if not isinstance(node, ast.Call) or not _of(node, "np", "numpy", "format", "npyio"):
        return False
    return _name(node.func) in _READING_ARRAYS and not _constant(node, "allow_pickle", False)


def _archive(node: ast.AST, _: set[int]) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in _UNPACKING


def _keras(node: ast.AST, safe: set[int]) -> bool:
    if not isinstance(node, ast.Call) or _name(node.func) not in ("load_model", "model_from_config"):
        return False
    if _name(node.func) == "model_from_config":
        return id(node) not in safe
    return id(node) not in safe and not _constant(node, "safe_mode", True)


def _unsafe_mode(node: ast.AST, _: set[int]) -> bool:
    name = _name(node.func) if isinstance(node, ast.Call) else ""
    return name == "enable_unsafe_deserialization" or (name == "SafeModeScope" and not _is_scope(node))


def _pickle(node: ast.AST, _: set[int]) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in _FORBIDDEN_MODULES for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in _FORBIDDEN_MODULES


def _yaml(node: ast.AST, _: set[int]) -> bool:
    if isinstance(node, ast.ImportFrom) and node.module == "yaml":
        return any(alias.name in _UNSAFE_YAML for alias in node.names)
    if not isinstance(node, ast.Call) or not _of(node, "yaml"):
        return False
    name = _name(node.func)
    if name in ("compose", "compose_all", "parse", "scan"):
        return not any(word.arg == "Loader" and _name(word.value) in _SAFE_YAML for word in node.keywords)
    return name in _UNSAFE_YAML


def _torch(node: ast.AST, _: set[int]) -> bool:
    if not isinstance(node, ast.Call) or _name(node.func) != "load" or not _of(node, "torch"):
        return False
    return not _constant(node, "weights_only", True)


RULES: dict[str, Callable[[ast.AST, set[int]], bool]] = {
    "an interpreter gets bytes, never a path": _interpreter,
    "numpy unpickles nothing": _numpy,
    "nothing is extracted from an archive": _archive,
    "keras loads in safe mode": _keras,
    "safe mode is never left": _unsafe_mode,
    "nothing is unpickled": _pickle,
    "yaml is loaded safely": _yaml,
    "torch loads weights only": _torch,
}
"""Whether a node breaks the rule, given the ids of nodes inside ``with SafeModeScope(True)``."""


def _inside_safe_mode(tree: ast.AST) -> set[int]:
    scopes: Iterator[ast.With] = (node for node in ast.walk(tree) if isinstance(node, ast.With))
    return {
        id(inner)
        for scope in scopes
        if any(_is_scope(item.context_expr) for item in scope.items)
        for statement in scope.body
        for inner in ast.walk(statement)
    }


def _is_scope(node: ast.AST) -> bool:
    """``SafeModeScope(True)``, or of ``safe_mode=True``."""
    if not isinstance(node, ast.Call) or _name(node.func) != "SafeModeScope":
        return False
    given = [*node.args, *(word.value for word in node.keywords)]
    return len(given) == 1 and isinstance(given[0], ast.Constant) and given[0].value is True


def _name(node: ast.AST) -> str:
    """The last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _of(call: ast.Call, *modules: str) -> bool:
    return isinstance(call.func, ast.Attribute) and _name(call.func.value) in modules


def _constant(call: ast.Call, name: str, value: bool) -> bool:
    return any(
        word.arg == name and isinstance(word.value, ast.Constant) and word.value.value is value
        for word in call.keywords
    )
