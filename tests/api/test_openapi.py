"""The description of the API: committed, true, complete, and good enough to build clients from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.api.app import described
from bridge.api.collection import collection, example
from bridge.config import Api as ApiSettings
from tests.api.scene import Api, problem

DOCS = Path(__file__).resolve().parents[2] / "docs"
NEVER = "/click-to-dial/v0.2/calls/{callId}/recording"  # nothing is recorded, but the contract has it
OPEN = {"/oauth2/token"}  # it asks for another proof than a key

API: dict[str, Any] = described().openapi()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in API["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def parameters(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Its own, and those it shares."""
    for one in operation.get("parameters", []):
        yield API["components"]["parameters"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one


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
    for kind in ("schemas", "parameters"):
        named = {piece.partition('"')[0] for piece in text.split(f'"#/components/{kind}/')[1:]}
        assert named <= API["components"][kind].keys()


def test_names_are_short_and_stable() -> None:
    """Generators make functions and classes of them, and who uses those must not change whenever a module moves."""
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)
    assert not [one for one in ids if not re.fullmatch("[a-z]+(_[a-z0-9]+){1,4}", one)]
    assert not [one for one in API["components"]["schemas"] if "__" in one]


@pytest.mark.parametrize("one", list(operations()), ids=named)
def test_every_operation_says_what_it_does_and_how_it_is_answered(
    one: tuple[str, str, dict[str, Any]],
) -> None:
    _, path, operation = one
    assert operation["summary"]
    assert path == NEVER or any(status.startswith("2") for status in operation["responses"])
    assert "401" in operation["responses"]
    if path not in OPEN:
        assert {"401", "403", "429"} <= operation["responses"].keys()
        assert operation["security"]
    for parameter in parameters(operation):
        assert parameter.get("description") or parameter["in"] == "path", parameter["name"]


@pytest.mark.parametrize("one", list(operations()), ids=named)
def test_every_body_has_an_example(one: tuple[str, str, dict[str, Any]]) -> None:
    content = one[2].get("requestBody", {}).get("content", {})
    for kind in content.values():
        schema = kind.get("schema", {})
        assert example(API, schema) is not None


async def test_no_route_answers_without_a_key(api: Api) -> None:
    """Whatever else is wrong with a request, a stranger learns nothing but that a key is missing."""
    patient = api.services.settings.model_copy(update={"api": ApiSettings(stranger_quota=10_000)})
    api.app.state.services = replace(api.services, settings=patient)
    for method, path, operation in operations():
        if path in OPEN:
            continue
        where = path
        for parameter in parameters(operation):
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
