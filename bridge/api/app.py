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
    apps,
    audit_log,
    billing,
    calls,
    camara,
    cdr_files,
    cdr_recipients,
    cdrs,
    completeness,
    credentials,
    deals,
    decks,
    disputes,
    events,
    exports,
    health,
    invoices,
    keys,
    messages,
    numbers,
    oauth,
    originations,
    partners,
    phone,
    plans,
    problems,
    quotes,
    reference,
    reports,
    rollout_members,
    rollout_waves,
    rollout_windows,
    rollouts,
    sign_in,
    statements,
    subscribers,
    tmf,
    trials,
    trunks,
    usage,
    webhook_deliveries,
    webhooks,
)
from bridge.api.guard import Guard
from bridge.api.openapi import openapi
from bridge.api.services import Services
from bridge.partners.dispute import EVIDENCE_BYTES_MAX

__all__ = ["Services", "create_app"]

RESOURCES: Final = (
    partners,
    billing,
    deals,
    trunks,
    decks,
    plans,
    apps,
    subscribers,
    credentials,
    sign_in,
    numbers,
    accounts,
    calls,
    originations,
    cdrs,
    completeness,
    exports,
    cdr_files,
    cdr_recipients,
    messages,
    usage,
    reports,
    statements,
    invoices,
    disputes,
    quotes,
    rollouts,
    rollout_windows,
    trials,
    rollout_waves,
    rollout_members,
    webhooks,
    webhook_deliveries,
    events,
    keys,
    audit_log,
    oauth,
    camara,
    tmf,
    reference,
    health,
    phone,
)
_ABOUT: Final = """Calls between messenger apps and the phone network, for carrier partners.

- **Money and rates** are decimal strings beside a `currency`; **times** are RFC 3339, in UTC in replies.
- **Ids** say what they are (`sub_…`, `call_…`). **Lists** are newest first; `next` of a page is the `cursor` of the one
  after.
- **Creating** needs an `Idempotency-Key`: the same request with the same key happens once. **Changing** needs the
  `ETag` that was read as `If-Match`.
- **Errors** are problem documents (RFC 9457): act on `status` and `code`, show `detail` to people, tell us the
  `correlator`.
- **You see your own.** What is another partner's is not there: 404.
"""
DECK_BYTES_MAX: Final = 64 << 20
ROOMY: Final = {
    re.compile(r"/v1/decks/[^/]+/imports"): DECK_BYTES_MAX,
    re.compile(r"/v1/disputes/[^/]+/evidence"): EVIDENCE_BYTES_MAX,
}
PATIENT: Final = re.compile(
    r"/v1/events/stream|/v1/voice-messages/[^/]+/audio|/v1/(?:exports|cdr-files)/[^/]+/file|/v1/reports/[^/]+"
    r"|/v1/subscribers/[^/]+/bill(?:\.pdf)?|/v1/decks/[^/]+/(?:imports(?:/[^/]+/(?:apply|report))?|rollback|rates)"
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
        description=_ABOUT,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    problems.install(app, {oauth.PATH: oauth.dialect, camara.BASE: camara.dialect})
    for resource in RESOURCES:
        app.include_router(resource.router)
    app.openapi = partial(openapi, app)  # type: ignore[method-assign]
    return app


def guarded(app: FastAPI) -> ASGIApp:
    """The application as it meets the world."""
    return Guard(app, app, ROOMY, PATIENT)
