"""The description of the API is valid, complete, and true."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from featherweight.problem import CODES
from service import create_app
from service.openapi import describe
from tasks.settings import Settings

METHODS = {"get", "put", "post", "delete", "patch"}


@pytest.fixture(scope="module")
def app() -> Flask:
    """Nothing is connected to before the first request, so no Redis or storage is needed."""
    return create_app(Settings())


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(app.test_client().get("/openapi.json").data)
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def validator(document: dict[str, Any], pointer: str) -> Draft202012Validator:
    """Of the schema at `pointer` in the document."""
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:api", resource)
    return Draft202012Validator({"$ref": f"urn:api#{pointer}"}, registry=registry)


def escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def test_it_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_it_describes_every_route_and_nothing_else(app: Flask, document: dict[str, Any]) -> None:
    routes = {
        (method.lower(), rule.rule.replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in operations(document)} == routes


def test_a_route_without_a_description_is_an_error(app: Flask) -> None:
    bare = create_app(Settings())
    bare.add_url_rule("/v1/bare", view_func=lambda: "")
    with pytest.raises(ValueError, match="/v1/bare"):
        describe(bare)


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))


def test_every_private_operation_can_be_refused(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        private = operation.get("security") != []
        assert private == path.startswith("/v1/"), path
        assert ("401" in operation["responses"]) == private, (method, path)
        assert "500" in operation["responses"]


def test_every_example_is_valid(document: dict[str, Any]) -> None:
    checked = 0
    for method, path, operation in operations(document):
        place = f"/paths/{escaped(path)}/{method}"
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            if "example" in content:
                pointer = f"{place}/requestBody/content/{escaped(media_type)}/schema"
                validator(document, pointer).validate(content["example"])
                checked += 1
        for status, answer in operation["responses"].items():
            for media_type, content in answer.get("content", {}).items():
                pointer = f"{place}/responses/{status}/content/{escaped(media_type)}/schema"
                for example in content.get("examples", {}).values():
                    validator(document, pointer).validate(example["value"])
                    checked += 1
    assert checked > 100


def test_examples_are_valid_under_the_contract_too(document: dict[str, Any]) -> None:
    from featherweight.job import JobRequest
    from featherweight.resources import UploadRequest

    for path, type_ in (("/v1/jobs", JobRequest), ("/v1/uploads", UploadRequest)):
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        type_.model_validate(content["example"])


def test_every_problem_code_has_an_answer_and_a_page(app: Flask, document: dict[str, Any]) -> None:
    client = app.test_client()
    for code, known in CODES.items():
        (content,) = document["components"]["responses"][code]["content"].values()
        assert content["examples"][code]["value"]["status"] == known.status
        page = client.get(f"/problems/{code}")
        assert page.status_code == 200
        assert page.json["title"] == known.title
        assert page.json["retryable"] == known.retryable
    assert client.get("/problems/unknown").status_code == 404


def test_every_problem_stands_under_its_own_status(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/problem+json", {})
            for code in content.get("examples", {}):
                assert str(CODES[code].status) == status, (method, path, code)
