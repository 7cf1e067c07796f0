"""docs/api.md: the API reference, rendered from the OpenAPI document that the service itself serves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["page", "render"]

_METHODS = ("get", "post", "put", "patch", "delete")

_PROBLEM = "application/problem+json"
_INTRODUCTION = [
    "`GET /openapi.json` of a running service is this page for programs. Requests carry an API key as",
    "`Authorization: Bearer fw_…`; errors are [problems](problems.md). What a key may do is its scope: read,",
    "submit, which includes read, or admin, which includes both ([security](security.md)).",
    "",
]

Object = Mapping[str, Any]


def page() -> str:
    from service import create_app
    from service.openapi import describe
    from tasks.settings import Settings

    return render(describe(create_app(Settings())))


def render(document: Object) -> str:
    """Markdown of an OpenAPI 3.1 document: its operations by tag, then its schemas."""
    info = document["info"]
    lines = [f"# {info['title']} {info['version']}", "", info.get("summary", ""), "", *_INTRODUCTION]
    for tag, operations in _by_tag(document).items():
        lines += [f"## {tag.capitalize()}", ""]
        for method, path, operation in operations:
            lines += _operation(method, path, operation)
    lines += ["## Schemas", ""]
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        lines += _schema(name, schema)
    return "\n".join(lines).rstrip() + "\n"


def _by_tag(document: Object) -> dict[str, list[tuple[str, str, Object]]]:
    tags: dict[str, list[tuple[str, str, Object]]] = {}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if operation := item.get(method):
                shared = {"parameters": [*item.get("parameters", []), *operation.get("parameters", [])]}
                tag = operation.get("tags", ["other"])[0]
                tags.setdefault(tag, []).append((method, path, {**operation, **shared}))
    return tags


def _operation(method: str, path: str, operation: Object) -> Iterator[str]:
    yield f"### `{method.upper()} {path}`"
    yield ""
    for key in ("summary", "description"):
        if text := operation.get(key, "").strip():
            yield text
            yield ""
    if security := operation.get("security"):
        scopes = [scope for each in security for named in each.values() for scope in named]
        yield f"Scope: {', '.join(scopes)}."
        yield ""
    if parameters := [_parameter(each) for each in operation["parameters"] if "name" in each]:
        yield from ["| Parameter | In | Type | |", "| --- | --- | --- | --- |", *parameters, ""]
    if body := operation.get("requestBody"):
        yield " ".join(filter(None, [f"Body: {_content(body)}", body.get("description")]))
        yield ""
    yield from ["| Status | Answer | |", "| --- | --- | --- |"]
    for status, answer in operation["responses"].items():
        problem = answer.get("content", {}).get(_PROBLEM)
        text = _codes(problem) if problem else _cell(answer.get("description", ""))
        yield f"| {status} | {'problem' if problem else _content(answer)} | {text} |"
    yield ""


def _parameter(parameter: Object) -> str:
    needed = " (required)" if parameter.get("required") else ""
    kind, text = _type(parameter.get("schema", {})), _cell(parameter.get("description", ""))
    return f"| `{parameter['name']}`{needed} | {parameter['in']} | {kind} | {text} |"


def _codes(problem: Object) -> str:
    return ", ".join(f"`{code}`" for code in problem.get("examples", {}))


def _content(holder: Object) -> str:
    kinds = holder.get("content", {})
    return ", ".join(f"`{kind}` {_shape(shape.get('schema', {}))}".strip() for kind, shape in kinds.items())


def _shape(schema: Object) -> str:
    return _type(schema) if schema else ""


def _schema(name: str, schema: Object) -> Iterator[str]:
    yield f"### {name}"
    yield ""
    if text := schema.get("description", "").strip():
        yield text
        yield ""
    if properties := schema.get("properties"):
        yield from ["| Field | Type | Default | |", "| --- | --- | --- | --- |"]
        yield from (_field(key, value, schema.get("required", [])) for key, value in properties.items())
    else:
        yield f"Type: {_type(schema)}"
    yield ""


def _field(name: str, schema: Object, required: list[str]) -> str:
    default = (
        "required"
        if name in required
        else f"`{json.dumps(schema['default'])}`"
        if "default" in schema
        else ""
    )
    text = " ".join(filter(None, [_cell(schema.get("description", "")), _bounds(schema)]))
    return f"| `{name}` | {_type(schema)} | {_cell(default)} | {text} |"


def _type(schema: Object) -> str:
    if reference := schema.get("$ref"):
        name = reference.rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return _cell(" | ".join(f"`{json.dumps(value)}`" for value in schema["enum"]))
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return _cell(" | ".join(_type(each) for each in schema[union]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kind = schema.get("type", "any" if schema == {} else "object")
    named = " | ".join(kind) if isinstance(kind, list) else str(kind)
    return _cell(f"{named} ({schema['format']})" if "format" in schema else named)


_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matching `{}`",
}


def _bounds(schema: Object) -> str:
    """The limits in words, those of the only bounded member of a union included."""
    found = [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema]
    found = found or [bound for each in schema.get("anyOf", []) if (bound := _bounds(each)[:-1])]
    text = ", ".join(found)
    return _cell(f"{text[:1].upper()}{text[1:]}.") if text else ""


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))
