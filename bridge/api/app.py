"""The HTTP side: one router a resource, and around all of them what holds for every request."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from bridge import __version__
from bridge.api import (
    accounts,
    audit_log,
    calls,
    camara,
    cdrs,
    deals,
    decks,
    events,
    health,
    keys,
    numbers,
    oauth,
    originations,
    partners,
    plans,
    problems,
    quotes,
    reference,
    subscribers,
    tmf,
    trunks,
    usage,
    webhooks,
)
from bridge.api.guard import Guard
from bridge.api.openapi import openapi
from bridge.api.services import Services

__all__ = ["Services", "create_app"]

RESOURCES: Final = (
    partners,
    deals,
    trunks,
    decks,
    plans,
    subscribers,
    numbers,
    accounts,
    calls,
    originations,
    cdrs,
    usage,
    quotes,
    webhooks,
    events,
    keys,
    audit_log,
    oauth,
    camara,
    tmf,
    reference,
    health,
)
DECK_BYTES_MAX: Final = 64 << 20
ROOMY: Final = {re.compile(r"/v1/decks/[^/]+/imports"): DECK_BYTES_MAX}
PATIENT: Final = re.compile(
    r"/v1/events/stream|/v1/decks/[^/]+/(?:imports(?:/[^/]+/(?:apply|report))?|rollback|rates)"
)


def create_app(services: Services) -> FastAPI:
    """The application of one worker, without its guard."""
    app = described()
    app.state.services = services
    return app


def described() -> FastAPI:
    """The application as its documents tell it: it has nothing to answer with."""
    app = FastAPI(
        title="callbridge",
        version=__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app, {oauth.PATH: oauth.dialect, camara.BASE: camara.dialect})
    for resource in RESOURCES:
        app.include_router(resource.router)
    app.openapi = partial(openapi, app)  # type: ignore[method-assign]
    return app


def guarded(app: FastAPI) -> ASGIApp:
    """The application as it meets the world."""
    return Guard(app, app, ROOMY, PATIENT)
