"""Routes that refuse what they do not know: query parameters nobody reads, bodies of another media type."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from bridge.api.problems import Problem, responses

ALWAYS: Final = (400, 401, 403, 429, 503)  # what any route may answer
BY_METHOD: Final = {
    "POST": (409, 413, 415, 422),
    "PATCH": (404, 409, 412, 413, 415, 422, 428),
    "PUT": (404, 409, 412, 413, 415, 422, 428),
    "DELETE": (404, 409, 412, 428),
}


class StrictRoute(APIRoute):
    """An APIRoute that says no to what it would otherwise pass over in silence."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known = _query_names(self.dependant)

        async def strict(request: Request) -> Response:
            unknown = sorted(set(request.query_params) - known)
            if unknown:
                told = [
                    {"pointer": f"query/{name[:80]}", "detail": "is no parameter of this route"}
                    for name in unknown
                ]
                raise Problem(400, f"Known here: {', '.join(sorted(known)) or 'none'}.", errors=told)
            if self.body_field is not None and not _is_json(request):
                raise Problem(415, "Send the body as application/json.")
            return await handle(request)

        return strict


def routes(name: str, prefix: str = "") -> APIRouter:
    """The router of one resource, below /v1."""
    return APIRouter(
        prefix=prefix or f"/v1/{name}",
        tags=[name],
        route_class=StrictRoute,
        responses=responses(*ALWAYS),
    )


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _query_names(dependant: Dependant) -> set[str]:
    names = {field.alias for field in dependant.query_params}
    for inner in dependant.dependencies:
        names |= _query_names(inner)
    return names
