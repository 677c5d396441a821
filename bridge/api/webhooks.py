"""Webhook endpoints: where a partner is told what happens, and what became of each message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Response
from pydantic import AfterValidator, Field

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.events import Event, show_event
from bridge.api.fields import (
    Body,
    EventId,
    Instant,
    Line,
    PartnerId,
    Told,
    WebhookId,
    printable,
    sample,
    show_at,
    show_id,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.events import store
from bridge.events.address import URL_CHARS_MAX, AddressRefused, check
from bridge.events.kind import KINDS, Kind
from bridge.events.signature import show_secret

OVERLAP: Final = timedelta(hours=24)

router = routes("webhooks")
Reader = Annotated[Desk, Depends(Needs("webhooks:read"))]
Writer = Annotated[Desk, Depends(Needs("webhooks:write"))]


Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=URL_CHARS_MAX,
        json_schema_extra={"pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[!-~]+$"},  # told; `read_url` says why not
        examples=["https://hooks.example.com/callbridge"],
    ),
    AfterValidator(printable),
]
Kinds = Annotated[
    list[Kind],
    Field(
        max_length=len(KINDS),
        description="What to tell; empty: everything",
        examples=[["call.ended", "balance.low"]],
    ),
]


class NewWebhook(Body):
    """Where to tell a partner. Its secret is in the reply, once and never again."""

    model_config = sample(url="https://hooks.example.com/callbridge", kinds=["call.ended", "balance.low"])

    url: Url
    kinds: Kinds = Field(default_factory=list)
    description: Line = ""
    enabled: bool = True
    partner_id: PartnerId | None = Field(None, description="For operators: whose it is")


class WebhookChange(Body):
    """What may change. Enabling it again forgets its failures; messages that wait are sent then."""

    model_config = sample(kinds=["call.ended"], enabled=True)

    url: Url | None = None
    kinds: Kinds | None = None
    description: Line | None = None
    enabled: bool | None = None


class ReplayWish(Body):
    """Send again what happened since then, at most 5000 events at a time."""

    model_config = sample(since="2027-01-31T00:00:00Z", kinds=["call.ended"])

    since: Instant
    kinds: Kinds = Field(default_factory=list)
    after: EventId | None = Field(None, description="`next` of the reply before, for the rest")


class Webhook(Told):
    """A webhook endpoint. disabled_why `gone`: it answered 410; `failing`: it only failed for days."""

    webhook_id: WebhookId
    partner_id: PartnerId
    url: str
    kinds: list[Kind]
    description: str
    enabled: bool
    disabled_why: Literal["gone", "failing"] | None
    failing_since: datetime | None
    created_at: datetime


class NewSecret(Told):
    """The secret that signs from now on. Those before it sign along until `previous_until`."""

    webhook_id: WebhookId
    previous_until: datetime
    secret: str | None = Field(
        None, description="`whsec_…`, told once: not to a request that is repeated", examples=["whsec_…"]
    )


class WebhookMade(Webhook):
    """A new endpoint with its secret."""

    secret: str | None = Field(
        None, description="`whsec_…`, told once: not to a request that is repeated", examples=["whsec_…"]
    )


class Replayed(Told):
    """How many events are sent again. next: ask for the rest with it as `after`; null: that was all."""

    events: int
    next: EventId | None


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "webhook_id": show_id("whk", row["endpoint_id"]),
        "partner_id": show_id("prt", row["partner_id"]),
        "url": row["url"],
        "kinds": list(row["kinds"]),
        "description": row["description"],
        "enabled": row["enabled"],
        "disabled_why": row["disabled_why"],
        "failing_since": show_at(row["failing_since"]),
        "created_at": show_at(row["created_at"]),
    }


def _made(row: Mapping[str, Any], **once: Any) -> Made:
    told = show(row)
    path = f"/v1/webhooks/{told['webhook_id']}"
    return Made(told["webhook_id"], told, row["partner_id"], row["edition"], path, once)


async def _checked(desk: Desk, url: str) -> None:
    """raises   Problem 422: nothing would be sent there"""
    try:
        await check(url, desk.services.names, desk.services.settings.events.allow_networks)
    except AddressRefused as error:
        told = [{"pointer": "#/url", "detail": str(error)}]
        raise Problem(422, str(error), code="url_refused", errors=told) from None


@router.get("", response_model=Page[Webhook], summary="Webhook endpoints, newest first")
async def list_webhooks(desk: Reader, paging: Asked, partner_id: PartnerId | None = None) -> Response:
    async with desk.reading() as conn:
        rows = await store.endpoints(conn, paging.before, paging.rows, partner_id)
    return desk.shown(page(rows, paging, "endpoint_id", show))


@router.post(
    "",
    status_code=201,
    response_model=WebhookMade,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Make a webhook endpoint",
)
async def create_webhook(desk: Writer, body: NewWebhook) -> Response:
    partner_id = desk.partner_of(body.partner_id)
    if partner_id is None:
        told = [{"pointer": "#/partner_id", "detail": "is missing"}]
        raise Problem(422, "Name the partner whose endpoint it is.", errors=told)
    await _checked(desk, body.url)

    async def work(conn: Connection) -> Made:
        await desk.as_ours(conn)
        row, secret = await store.add_endpoint(
            conn, partner_id, body.url, body.kinds, body.description, enabled=body.enabled
        )
        return _made(row, secret=show_secret(secret))

    return await desk.create("webhook.create", body, work)


@router.get("/{webhook_id}", response_model=Webhook, responses=responses(404), summary="One webhook endpoint")
async def read_webhook(desk: Reader, webhook_id: WebhookId) -> Response:
    async with desk.reading() as conn:
        row = await store.endpoint(conn, webhook_id)
    return desk.shown(show(row), row["edition"])


@router.patch(
    "/{webhook_id}",
    response_model=Webhook,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Change a webhook endpoint",
)
async def change_webhook(desk: Writer, webhook_id: WebhookId, body: WebhookChange) -> Response:
    if body.url is not None:
        await _checked(desk, body.url)

    async def work(conn: Connection, edition: int) -> Made:
        await store.endpoint(conn, webhook_id)
        await desk.as_ours(conn)
        row = await store.change_endpoint(conn, webhook_id, edition, **body.model_dump())
        if row is None:
            raise stale()
        return _made(row)

    return await desk.change("webhook.change", body, work)


@router.delete(
    "/{webhook_id}",
    status_code=204,
    response_class=Response,
    responses=responses(*BY_METHOD["DELETE"]),
    summary="Delete a webhook endpoint; what waits for it is not sent",
)
async def delete_webhook(desk: Writer, webhook_id: WebhookId) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        await store.endpoint(conn, webhook_id)
        await desk.as_ours(conn)
        row = await store.delete_endpoint(conn, webhook_id, edition)
        if row is None:
            raise stale()
        return Made(show_id("whk", webhook_id), None, row["partner_id"])

    return await desk.change("webhook.delete", None, work)


@router.post(
    "/{webhook_id}/rotate-secret",
    response_model=NewSecret,
    responses=responses(404, 409, 422),
    summary="A new secret; the old one signs along for a day",
)
async def rotate_webhook_secret(desk: Writer, webhook_id: WebhookId) -> Response:
    async def work(conn: Connection) -> Made:
        row = await store.endpoint(conn, webhook_id)
        await desk.as_ours(conn)
        until = datetime.now(UTC) + OVERLAP
        secret = await store.rotate_secret(conn, webhook_id, until)
        name = show_id("whk", webhook_id)
        told = {"webhook_id": name, "previous_until": show_at(until)}
        return Made(name, told, row["partner_id"], once={"secret": show_secret(secret)})

    return await desk.create("webhook.rotate_secret", None, work, status=200)


@router.post(
    "/{webhook_id}/test",
    status_code=202,
    response_model=Event,
    responses=responses(404, 409),
    summary="Send an event of kind webhook.test to this endpoint, whatever it is told otherwise",
)
async def test_webhook(desk: Writer, webhook_id: WebhookId) -> Response:
    async def work(conn: Connection) -> Made:
        row = await store.endpoint(conn, webhook_id)
        if not row["enabled"]:
            raise Problem(409, "The endpoint is disabled. Enable it first.")
        await desk.as_ours(conn)
        name = show_id("whk", webhook_id)
        data = {"webhook_id": name, "said": "This is a test."}
        event = await store.add_test(conn, row["partner_id"], webhook_id, json.dumps(data))
        return Made(name, show_event(event), row["partner_id"])

    return await desk.act("webhook.test", None, work, status=202)


@router.post(
    "/{webhook_id}/replay",
    status_code=202,
    response_model=Replayed,
    responses=responses(404, 413, 415, 422),
    summary="Send again all that happened since an instant",
)
async def replay_webhook(desk: Writer, webhook_id: WebhookId, body: ReplayWish) -> Response:
    async def work(conn: Connection) -> Made:
        row = await store.endpoint(conn, webhook_id)
        if body.after is not None:
            await store.event(conn, body.after)
        await desk.as_ours(conn)
        count, last = await store.replay(conn, webhook_id, body.since, body.kinds, body.after)
        told = {"events": count, "next": show_id("evt", last) if last else None}
        return Made(show_id("whk", webhook_id), told, row["partner_id"])

    return await desk.act("webhook.replay", body, work, status=202)
