"""``/openapi.json``: the API described from the views themselves and the contract's pydantic models.

Beside every view stands its `operation`: what it takes, what it answers, and the problems that are
its own. Problems that any request can meet are added here, path parameters come from the route, and
a view without an `operation` is an error. Libraries that do this for Flask also parse and validate
the request, in their own way; bodies here are read strictly or streamed (``service.bodies``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar, cast

from flask import Blueprint, Flask, Response, current_app, json
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from featherweight.problem import CODES, MEDIA_TYPE, Problem, problem
from service.auth import is_public, public, scope_of
from service.version import version

__all__ = [
    "IDEMPOTENCY_KEY",
    "Body",
    "Empty",
    "Operation",
    "Parameter",
    "Shape",
    "Stream",
    "Text",
    "bp",
    "describe",
    "operation",
    "paging",
]

bp = Blueprint("openapi", __name__)

JSON = "application/json"
OCTETS = "application/octet-stream"

_REF = "#/components/schemas/{model}"
_EVERYWHERE = ("internal_error",)
_BEHIND_A_KEY = ("unauthenticated", "scope_missing", "rate_limited", "queue_unavailable")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

V = TypeVar("V", bound=Callable[..., Any])


@dataclass(frozen=True)
class Shape:
    """A JSON answer of this shape. `headers` are described by a sentence each."""

    type: type[BaseModel]
    description: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """An answer that is not one of the contract's models."""

    media_type: str
    description: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Empty:
    """An answer without a body: a redirect, or nothing to say."""

    description: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Body:
    """A JSON body of this shape."""

    type: type[BaseModel]
    example: Mapping[str, Any]
    required: bool = True


@dataclass(frozen=True)
class Stream:
    """A body that is the file itself."""

    description: str


@dataclass(frozen=True)
class Parameter:
    """A parameter in the query or a header."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    place: str = "query"


Answer = Shape | Text | Empty


@dataclass(frozen=True)
class Operation:
    summary: str
    answers: Mapping[int, Answer]
    body: Body | Stream | None = None
    problems: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()


IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "Makes sending the request twice safe: the second time it is answered as the first time, with "
    "Idempotency-Replayed: true. 1 to 255 printable ASCII characters.",
    {"type": "string", "minLength": 1, "maxLength": 255},
    "header",
)


def paging() -> tuple[Parameter, ...]:
    return (
        Parameter(
            "limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
        ),
        Parameter("cursor", "The next_cursor of the page before."),
    )


def operation(
    *,
    summary: str,
    answers: Mapping[int, Answer],
    body: Body | Stream | None = None,
    problems: Iterable[str] = (),
    parameters: Iterable[Parameter] = (),
) -> Callable[[V], V]:
    """Describe the view below; KeyError for a problem code that does not exist."""
    described = Operation(summary, answers, body, tuple(problems), tuple(parameters))
    for code in described.problems:
        CODES[code]

    def mark(view: V) -> V:
        view.operation = described  # type: ignore[attr-defined]
        return view

    return mark


@bp.get("/openapi.json")
@public
@operation(summary="This description", answers={200: Text(JSON, "OpenAPI 3.1.")})
def show() -> Response:
    app = current_app
    name = "featherweight.openapi"
    if name not in app.extensions:
        app.extensions[name] = json.dumps(describe(app))
    return Response(app.extensions[name], content_type=JSON)


def describe(app: Flask) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `app`; ValueError for a route whose view is not described."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"]
    operations = [(rule, _operation_of(app, rule)) for rule in sorted(rules, key=lambda rule: rule.rule)]
    refs, schemas = _schemas(described for _, described in operations)
    paths: dict[str, dict[str, Any]] = {}
    for rule, described in operations:
        view = app.view_functions[rule.endpoint]
        for method in _METHODS:
            if method in (rule.methods or ()):
                rendered = _rendered(rule, view, described, refs)
                # The names of roles, as OpenAPI 3.1 allows them beside any kind of security.
                rendered["security"] = [] if is_public(view) else [{"api_key": [scope_of(view, method)]}]
                paths.setdefault(_path(rule), {})[method.lower()] = rendered
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Featherweight",
            "version": version(),
            "summary": "Prunes, fine-tunes, quantises, converts and verifies trained neural networks.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"api_key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {code: _problem_answer([code], refs) for code in CODES},
            "securitySchemes": {
                "api_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key: fw_…. The scope beside each operation is read, submit, which "
                    "includes read, or admin, which includes both.",
                }
            },
        },
    }


def _operation_of(app: Flask, rule: Rule) -> Operation:
    described = getattr(app.view_functions[rule.endpoint], "operation", None)
    if not isinstance(described, Operation):
        raise ValueError(f"the view of {rule.rule} has no @operation")
    return described


Refs = Mapping[type[BaseModel], str]


def _schemas(operations: Iterable[Operation]) -> tuple[Refs, dict[str, Any]]:
    """A reference for every model used, and the definitions they point to."""
    taken: dict[type[BaseModel], None] = {}
    given: dict[type[BaseModel], None] = {Problem: None}
    for described in operations:
        if isinstance(described.body, Body):
            taken[described.body.type] = None
        given.update(
            {answer.type: None for answer in described.answers.values() if isinstance(answer, Shape)}
        )
    refs, definitions = models_json_schema(
        [(model, "validation") for model in taken] + [(model, "serialization") for model in given],
        ref_template=_REF,
    )
    by_model = {cast("type[BaseModel]", model): found["$ref"] for (model, _), found in refs.items()}
    return by_model, definitions["$defs"]


def _rendered(rule: Rule, view: Callable[..., Any], described: Operation, refs: Refs) -> dict[str, Any]:
    resource, _, verb = rule.endpoint.partition(".")
    rendered: dict[str, Any] = {
        "operationId": f"{resource}_{verb}",
        "tags": [resource],
        "summary": described.summary,
        "parameters": [*_path_parameters(rule), *map(_parameter, described.parameters)],
        "responses": _answers(view, described, refs),
    }
    if view.__doc__:
        rendered["description"] = _unwrapped(view.__doc__)
    if described.body is not None:
        rendered["requestBody"] = _request_body(described.body, refs)
    return rendered


def _unwrapped(text: str) -> str:
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _path(rule: Rule) -> str:
    return re.sub(r"<(?:[^:>]+:)?([^>]+)>", r"{\1}", rule.rule)


def _path_parameters(rule: Rule) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{([^}]+)}", _path(rule))
    ]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }


def _request_body(body: Body | Stream, refs: Refs) -> dict[str, Any]:
    if isinstance(body, Stream):
        # An empty schema is how OpenAPI 3.1 says: any bytes.
        return {"required": True, "description": body.description, "content": {OCTETS: {}}}
    schema = {"$ref": refs[body.type]}
    return {"required": body.required, "content": {JSON: {"schema": schema, "example": dict(body.example)}}}


def _answers(view: Callable[..., Any], described: Operation, refs: Refs) -> dict[str, Any]:
    answers = {str(status): _answer(answer, refs) for status, answer in described.answers.items()}
    common = _EVERYWHERE if is_public(view) else _EVERYWHERE + _BEHIND_A_KEY
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*described.problems, *common)):
        by_status.setdefault(CODES[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        answers[str(status)] = _problem_answer(codes, refs)
    return answers


def _answer(answer: Answer, refs: Refs) -> dict[str, Any]:
    rendered: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        rendered["headers"] = {
            name: {"description": sentence, "schema": {"type": "string"}}
            for name, sentence in answer.headers.items()
        }
    if isinstance(answer, Shape):
        rendered["content"] = {JSON: {"schema": {"$ref": refs[answer.type]}}}
    elif isinstance(answer, Text):
        schema = {} if answer.media_type == JSON else {"type": "string"}
        rendered["content"] = {answer.media_type: {"schema": schema}}
    return rendered


def _problem_answer(codes: list[str], refs: Refs) -> dict[str, Any]:
    status = CODES[codes[0]].status
    lines = [f"- `{code}`: {CODES[code].title}." for code in codes]
    return {
        "description": f"{HTTPStatus(status).phrase}\n\n" + "\n".join(lines),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": refs[Problem]},
                "examples": {code: {"value": _example(code)} for code in codes},
            }
        },
    }


def _example(code: str) -> dict[str, Any]:
    example = problem(code, CODES[code].title, request_id="req_0123456789abcdef")
    return example.model_dump(mode="json", exclude_none=True)
