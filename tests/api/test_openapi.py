"""The description of the API: committed, true, complete, and good enough to build clients from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.api.app import described
from bridge.api.collection import collection, example
from tests.api.scene import Api, problem

DOCS = Path(__file__).resolve().parents[2] / "docs"
OPEN = {"/oauth2/token"}  # it asks for another proof than a key

API: dict[str, Any] = described().openapi()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in API["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def named(one: tuple[str, str, dict[str, Any]]) -> str:
    return f"{one[0]} {one[1]}"


def test_the_committed_description_is_that_of_the_routes() -> None:
    committed = json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))
    assert committed == API, "run `make openapi`, and read what changed"


def test_the_committed_collection_is_made_from_it() -> None:
    committed = json.loads((DOCS / "callbridge.postman_collection.json").read_text(encoding="utf-8"))
    assert committed == collection(API), "run `make openapi`"


def test_every_reference_in_it_leads_somewhere() -> None:
    text = json.dumps(API)
    named = {piece.partition('"')[0] for piece in text.split('"#/components/schemas/')[1:]}
    assert named <= API["components"]["schemas"].keys()


@pytest.mark.parametrize("one", operations(), ids=named)
def test_every_operation_says_what_it_does_and_how_it_is_answered(
    one: tuple[str, str, dict[str, Any]],
) -> None:
    _, path, operation = one
    assert operation["summary"]
    assert any(status.startswith("2") for status in operation["responses"])
    if path not in OPEN:
        assert {"401", "403", "429"} <= operation["responses"].keys()
        assert operation["security"]
    for parameter in operation.get("parameters", []):
        assert parameter.get("description") or parameter["in"] == "path", parameter["name"]


@pytest.mark.parametrize("one", operations(), ids=named)
def test_every_body_has_an_example(one: tuple[str, str, dict[str, Any]]) -> None:
    content = one[2].get("requestBody", {}).get("content", {})
    for kind in content.values():
        schema = kind.get("schema", {})
        assert example(API, schema) is not None


async def test_no_route_answers_without_a_key(api: Api) -> None:
    """Whatever else is wrong with a request, a stranger learns nothing but that a key is missing."""
    for method, path, operation in operations():
        if path in OPEN:
            continue
        where = path
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                where = where.replace(f"{{{parameter['name']}}}", str(example(API, parameter["schema"])))
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        body = example(API, schema) if schema else None
        response = await api.client.request(method, where, json=body)
        if path.startswith("/click-to-dial/"):
            assert (response.status_code, response.json()["code"]) == (401, "UNAUTHENTICATED"), where
        else:
            problem(response, 401, "not_authenticated")
        assert response.headers["www-authenticate"].startswith("Bearer")
