"""The OpenAPI document says who may ask what, and is the same each time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from bridge.api.app import create_app
from bridge.api.auth import ALL, OPERATORS_ONLY, SCOPES
from bridge.api.openapi import needs_of
from bridge.api.services import Services


def app_of() -> FastAPI:
    return create_app(cast(Services, None))


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return app_of().openapi()


def operations(told: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def refs(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def test_it_is_the_same_each_time(told: dict[str, Any]) -> None:
    assert json.dumps(told) == json.dumps(app_of().openapi())


def test_it_is_complete_in_itself(told: dict[str, Any]) -> None:
    for ref in set(refs(told)):
        node: Any = told
        for part in ref.removeprefix("#/").split("/"):
            assert part in node, ref
            node = node[part]


def test_every_operation_says_who_may_ask(told: dict[str, Any]) -> None:
    scopes = told["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]["scopes"]
    assert set(scopes) == {ALL, *SCOPES}
    for path, method, operation in operations(told):
        wanted = operation["security"]
        if path.startswith("/v1/"):
            assert [list(one) for one in wanted] == [["apiKey"], ["oauth2"]], (path, method)
            assert set(wanted[1]["oauth2"]) <= set(scopes), (path, method)
            assert "401" in operation["responses"]
            assert "403" in operation["responses"]


def test_headers_that_are_read_are_told(told: dict[str, Any]) -> None:
    for path, method, operation in operations(told):
        if not path.startswith("/v1/"):
            continue
        names = {one["$ref"].rpartition("/")[2] for one in operation.get("parameters", []) if "$ref" in one}
        assert "Correlator" in names
        assert ("IfMatch" in names) == ("428" in operation["responses"]), (path, method)
        assert "IfMatch" in names or method not in ("patch", "put"), (path, method)
        if method == "post" and "201" in operation["responses"]:
            assert "IdempotencyKey" in names, (path, method)


def test_no_form_of_errors_but_ours(told: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in json.dumps(told)
    for path, method, operation in operations(told):
        for status, response in operation["responses"].items():
            if int(status) >= 400 and path.startswith("/v1/"):
                assert list(response["content"]) == ["application/problem+json"], (path, method, status)


def test_what_only_operators_may_is_not_given_to_partners() -> None:
    """A scope whose every route is for operators is one of theirs, and the other way round."""
    found: dict[str, set[bool]] = {}
    for route in iter_route_contexts(app_of().routes):
        if isinstance(route.original_route, APIRoute) and (needs := needs_of(route.dependant)):
            found.setdefault(needs.scope, set()).add(needs.operator)
    assert set(found) <= set(SCOPES)
    theirs = {scope for scope, kinds in found.items() if kinds == {True}}
    assert theirs == OPERATORS_ONLY, "OPERATORS_ONLY of bridge/api/auth.py is what no partner's key may have"
