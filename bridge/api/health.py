"""Whether the worker lives, whether it can take calls, and its figures. Without a key; for the proxy to keep inside."""

from __future__ import annotations

import time
from datetime import UTC, datetime
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
    """Ready to take calls. The manager link is told of, but calls can be taken without it, and with old decks."""
    services: Services = request.app.state.services
    checks: dict[str, Any] = {}
    begun_s = time.perf_counter()
    try:
        async with connection(services.pool) as conn:
            await conn.fetchval("SELECT 1")
        checks["database"] = "ok"
        checks["database_ms"] = round((time.perf_counter() - begun_s) * 1000, 1)
    except StoreError as error:
        checks["database"] = str(error)
    try:
        checks |= {"book": "ok"} | _ages(services)
    except BridgeError as error:
        checks["book"] = str(error)
    ready = checks["database"] == checks["book"] == "ok"
    response.status_code = 200 if ready else 503
    counts = dict(services.agi())
    accepted = counts.pop("accepted")
    return {
        "ready": ready,
        **checks,
        "ami": services.ami_state() or "kept by another worker",
        "agi": {"accepted": accepted, "open": accepted - sum(counts.values())},
    }


def _ages(services: Services) -> dict[str, int | None]:
    """How old the book in use is, and the newest change to a deck in it, in seconds.

    raises   StoreUnavailable: there is no book
    """
    changed_at, now = services.books.current().decks.changed_at, datetime.now(UTC)
    loaded_at = services.books.loaded_at or now
    return {
        "book_age_s": int((now - loaded_at).total_seconds()),
        "deck_age_s": max(int((now - changed_at).total_seconds()), 0) if changed_at else None,
    }


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    services: Services = request.app.state.services
    return Response(
        render(
            services.agi(), services.books.versions, services.requests, services.overload(), services.jobs()
        ),
        media_type=CONTENT_TYPE_LATEST,
    )
