"""What the documentation says is what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.documentation import PAGES, stale_pages
from deploy.documentation.api import render
from deploy.documentation.configuration import EXAMPLE, read_example
from featherweight.job import JobRequest
from featherweight.spec import CompressionSpec
from tasks.settings import Settings

ROOT = Path(__file__).parents[2]
VARIABLES = {
    variable.name.removeprefix("FEATHERWEIGHT_").lower(): variable
    for variable in read_example(EXAMPLE.read_text())
    if variable.name.startswith("FEATHERWEIGHT_")
}
DEPENDS_ON_THE_MACHINE = {"scratch_dir"}


def test_the_generated_pages_are_up_to_date() -> None:
    assert stale_pages() == [], "run 'make docs'"


def test_the_example_has_every_setting_and_no_other() -> None:
    assert set(VARIABLES) == set(Settings.model_fields)


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - DEPENDS_ON_THE_MACHINE))
def test_the_example_shows_the_default_the_code_has(name: str) -> None:
    default = Settings.model_fields[name].default
    assert VARIABLES[name].default == ("" if default is None else str(default))


def test_the_compose_file_sets_only_settings_that_exist() -> None:
    compose = (ROOT / "deploy" / "compose.yaml").read_text()
    names = {name.lower() for name in re.findall(r"\bFEATHERWEIGHT_([A-Z0-9_]+)", compose)}
    assert names <= set(Settings.model_fields)


def test_every_secret_the_compose_file_asks_for_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{([A-Z0-9_]+):\?", (ROOT / "deploy" / "compose.yaml").read_text()))
    assert asked
    assert asked <= {variable.name for variable in read_example(EXAMPLE.read_text())}


def test_relative_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    assert len(pages) > len(PAGES) + 2
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_specs_of_the_readme_are_valid() -> None:
    readme = (ROOT / "README.md").read_text()
    spec = re.search(r"```yaml\n(.*?)```", readme, flags=re.DOTALL)
    body = re.search(r"-d '(\{.*\})'", readme)
    assert spec is not None
    assert body is not None
    assert len(CompressionSpec.model_validate(yaml.safe_load(spec[1])).steps) == 3
    assert JobRequest.model_validate(json.loads(body[1])).spec.steps


def test_the_make_targets_that_the_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]:
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), flags=re.MULTILINE)) <= targets, (
            page.name
        )


def test_an_openapi_document_is_rendered() -> None:
    page = render(_DOCUMENT)
    assert "### `POST /v1/things/{id}`" in page
    assert "| `id` (required) | path | string | Which. |" in page
    assert "Body: `application/json` [Thing](#thing)" in page
    assert "| 201 | `application/json` [Thing](#thing) | Made |" in page
    assert '| `kind` | `"a"` \\| `"b"` | required | |'.replace(" | |", " |  |") in page
    assert "| `size` | integer | `3` | How many. At least 1, at most 9. |" in page
    assert "| `names` | list of string \\| null | `null` |  |" in page


_DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Things", "version": "1"},
    "paths": {
        "/v1/things/{id}": {
            "parameters": [
                {
                    "name": "id",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string"},
                    "description": "Which.",
                }
            ],
            "post": {
                "tags": ["things"],
                "summary": "Make a thing",
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
                },
                "responses": {
                    "201": {
                        "description": "Made",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}},
                    }
                },
            },
        }
    },
    "components": {
        "schemas": {
            "Thing": {
                "type": "object",
                "required": ["kind"],
                "properties": {
                    "kind": {"enum": ["a", "b"]},
                    "size": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": 9,
                        "default": 3,
                        "description": "How many.",
                    },
                    "names": {
                        "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
                        "default": None,
                    },
                },
            }
        }
    },
}
