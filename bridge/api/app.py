"""The HTTP side: health, readiness, metrics, and the calls, for whoever has a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST

from bridge import __version__
from bridge.api import problems
from bridge.api.auth import check_key
from bridge.calls.book_watch import BookWatch
from bridge.calls.listing import recent_calls
from bridge.calls.story import story
from bridge.database import connection
from bridge.errors import BridgeError, StoreError
from bridge.observe.metrics import render

LAST_CALL = UUID("ffffffff-ffff-ffff-ffff-ffffffffffff")

# At the top, for FastAPI looks names of annotations up among those of the module.
bearer = HTTPBearer(auto_error=False)


@dataclass(frozen=True, slots=True)
class Services:
    """What the API asks.

    agi          sessions since the start by ending, and `accepted`
    ami_state    down, up or refused; None in a worker that does not keep the switch
    """

    pool: asyncpg.Pool
    books: BookWatch
    agi: Callable[[], Mapping[str, int]]
    ami_state: Callable[[], str | None]


def create_app(services: Services) -> FastAPI:
    """The application of one worker."""
    app = FastAPI(
        title="callbridge",
        version=__version__,
        openapi_url="/v1/openapi.json",
        docs_url="/docs",
        redoc_url=None,
    )
    problems.install(app)

    async def authenticated(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> str:
        async with connection(services.pool) as conn:
            return await check_key(conn, given.credentials if given else "")

    v1 = APIRouter(prefix="/v1", dependencies=[Depends(authenticated)])

    @v1.get("/calls", summary="Calls, newest first")
    async def calls(
        before: Annotated[UUID, Query(description="`next` of the page before")] = LAST_CALL,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> dict[str, Any]:
        async with connection(services.pool) as conn:
            return await recent_calls(conn, before, limit)

    @v1.get("/calls/{call_id}", summary="One call with its attempts, hold, charge and ledger entries")
    async def call(call_id: UUID) -> dict[str, Any]:
        async with connection(services.pool) as conn:
            return await story(conn, call_id)

    app.include_router(v1)
    _health(app, services)
    return app


def _health(app: FastAPI, services: Services) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz(response: Response) -> dict[str, Any]:
        """Ready to take calls. The manager link is told of, but calls can be taken without it."""
        checks: dict[str, str] = {}
        try:
            async with connection(services.pool) as conn:
                await conn.fetchval("SELECT 1")
            checks["database"] = "ok"
        except StoreError as error:
            checks["database"] = str(error)
        try:
            services.books.current()
            checks["book"] = "ok"
        except BridgeError as error:
            checks["book"] = str(error)
        ready = checks["database"] == checks["book"] == "ok"
        response.status_code = 200 if ready else 503
        return {"ready": ready, **checks, "ami": services.ami_state() or "kept by another worker"}

    @app.get("/metrics", include_in_schema=False)
    async def metrics(_: Request) -> Response:
        return Response(render(services.agi(), services.books.versions), media_type=CONTENT_TYPE_LATEST)
