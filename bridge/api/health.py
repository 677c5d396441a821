"""Whether the worker lives, whether it can take calls, and its figures. Without a key; for the proxy to keep inside."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from bridge.api.services import Services
from bridge.database import connection
from bridge.errors import BridgeError, StoreError
from bridge.observe.metrics import render

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request, response: Response) -> dict[str, Any]:
    """Ready to take calls. The manager link is told of, but calls can be taken without it."""
    services: Services = request.app.state.services
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


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    services: Services = request.app.state.services
    return Response(render(services.agi(), services.books.versions), media_type=CONTENT_TYPE_LATEST)
