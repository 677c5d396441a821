"""The description of the API: FastAPI's own, with what it cannot know: who may ask, and which headers are read."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from bridge.api.auth import ALL, OPERATORS_ONLY, SCOPES
from bridge.api.desk import Needs, Reads
from bridge.api.oauth import PATH as TOKEN_PATH
from bridge.api.problems import ProblemDocument

_DEEDS: Final = {"read": "Read", "write": "Make and change", "create": "Make", "delete": "End"}
_REF: Final = "#/components/schemas/"
_OURS_NOT: Final = ("HTTPValidationError", "ValidationError")
_KEY_PATTERN: Final = '^([!#-~]([ !#-~]{0,253}[!#-~])?|"[ !#-~]{1,255}")$'
# What a query parameter means wherever it occurs. Where more is to be said of it, its route does.
_SAID: Final = {
    "account_id": "Of this account only",
    "action": "What was done, as `<noun>.<verb>`",
    "cursor": "`next` of the page before",
    "destination": "Rates of the destination of this name only",
    "file_name": "What the file is called where it comes from",
    "from": "The version before",
    "health": "What the switch finds of it",
    "kind": "Of this kind only",
    "limit": "Rows of a page",
    "min_talk_s": "Calls that lasted so many seconds or longer",
    "name": "Of exactly this name",
    "number": "Exactly this number, in E.164 form",
    "offset": "So many rows are left out at the beginning",
    "partner_id": "Of this partner only; a partner asks for its own at most",
    "plan_id": "Who pay by this plan only",
    "side": "`sell`: what subscribers pay; `buy`: what a carrier charges",
    "state": "In this state only",
    "subject": "What was changed, by its id",
    "subscriber_id": "Of this subscriber only",
    "to": "The version after",
    "usageDate.gte": "At this instant or later",
    "usageDate.lt": "Before this instant",
}
PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    "Correlator": {
        "name": "x-correlator",
        "in": "header",
        "required": False,
        "description": "Comes back with the answer, and stands in the audit log; one is made up when missing",
        "schema": {"type": "string", "pattern": r"^[a-zA-Z0-9\-_:;./<>{}]{0,256}$"},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": True,
        "description": "The same key with the same request is done once and answered alike, for 24 hours",
        "schema": {"type": "string", "pattern": _KEY_PATTERN},
        "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "required": True,
        "description": "The ETag that was read: a change made in between is not overwritten",
        "schema": {"type": "string", "pattern": '^"[0-9]{1,9}"$'},
        "example": '"1"',
    },
}


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the application, the same whenever it is asked for."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return app.openapi_schema


def _document(app: FastAPI) -> dict[str, Any]:
    told = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    told = copy.deepcopy(told)
    for path, method, route in _operations(app):
        operation = told["paths"].get(path, {}).get(method)
        if operation is not None:
            _complete(operation, method, path, route)
    components = told.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in _OURS_NOT:
        schemas.pop(name, None)
    problem = ProblemDocument.model_json_schema(ref_template=_REF + "{model}")
    schemas |= problem.pop("$defs", {})
    schemas["ProblemDocument"] = problem
    components["schemas"] = dict(sorted(schemas.items()))
    components["parameters"] = {name: dict(one) for name, one in PARAMETERS.items()}
    components["securitySchemes"] = _schemes()
    return told


def _operations(app: FastAPI) -> Iterator[tuple[str, str, Any]]:
    """Path, method in lower case, and the route as it is served."""
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute):
            for method in sorted(route.methods or ()):
                yield str(route.path_format), method.lower(), route


def needs_of(dependant: Dependant) -> Needs | None:
    """What a route asks of a key; None: it is open."""
    if isinstance(dependant.call, Reads):
        return dependant.call.needs
    if isinstance(dependant.call, Needs):
        return dependant.call
    return next((found for one in dependant.dependencies if (found := needs_of(one))), None)


def _complete(operation: dict[str, Any], method: str, path: str, route: Any) -> None:
    needs = needs_of(route.dependant)
    if needs is not None:
        operation["security"] = [{"apiKey": []}, {"oauth2": [needs.scope]}]
        who = f"Scope `{needs.scope}`" + ("; for operators only." if needs.operator else ".")
        operation["description"] = "\n\n".join(filter(None, [operation.get("description"), who]))
    elif path == TOKEN_PATH:
        operation["security"] = [{"client": []}, {}]
    else:
        operation["security"] = []
    found = operation["responses"].get("422", {}).get("content", {}).get("application/json", {})
    if found.get("schema", {}).get("$ref", "").rpartition("/")[2] in _OURS_NOT:
        del operation["responses"]["422"]
    asked = ["Correlator"]
    # Read by `Desk.create` and `Desk.change`, of which a route's signature knows nothing
    creates = "create" in route.endpoint.__code__.co_names or path.endswith("/imports")
    asked += ["IdempotencyKey"] if needs is not None and method == "post" and creates else []
    asked += ["IfMatch"] if needs is not None and "428" in operation["responses"] else []
    for one in operation.get("parameters", []):
        if one["in"] == "query" and one["name"] in _SAID:
            one.setdefault("description", _SAID[one["name"]])
    refs = [{"$ref": f"#/components/parameters/{name}"} for name in asked]
    operation["parameters"] = [*operation.get("parameters", []), *refs]


def _schemes() -> dict[str, Any]:
    scopes = {scope: _told_of(scope) for scope in SCOPES}
    return {
        "apiKey": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`cb_…`) of POST /v1/keys, with the scope that the operation names.",
        },
        "oauth2": {
            "type": "oauth2",
            "description": "An access token for the id and secret of a client (`kind` client of POST /v1/keys).",
            "flows": {
                "clientCredentials": {
                    "tokenUrl": TOKEN_PATH,
                    "scopes": {ALL: "Everything that the client's owner may do", **scopes},
                }
            },
        },
        "client": {"type": "http", "scheme": "basic", "description": "client_id and client_secret"},
    }


def _told_of(scope: str) -> str:
    *what, deed = scope.split(":")
    return f"{_DEEDS[deed]} {' '.join(what)}" + (" (operators only)" if scope in OPERATORS_ONLY else "")
