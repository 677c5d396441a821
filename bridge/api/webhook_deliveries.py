"""What became of each message to a webhook endpoint, and sending it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs
from bridge.api.fields import DeliveryId, EventId, Told, WebhookId, show_at, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import responses
from bridge.api.route import routes
from bridge.database import Connection
from bridge.events import store
from bridge.events.kind import Kind, prefix_of

router = routes("webhooks")
Reader = Annotated[Desk, Depends(Needs("webhooks:read"))]
Writer = Annotated[Desk, Depends(Needs("webhooks:write"))]

State = Literal["pending", "done", "failed"]


class Delivery(Told):
    """One event on its way to one endpoint. The event's id is the header `webhook-id`."""

    delivery_id: DeliveryId
    event_id: EventId
    type: Kind
    subject_id: str
    state: State
    tries: int = Field(description="Since it was last asked for")
    next_try_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime
    done_at: datetime | None


class DeliveryAttempt(Told):
    """One try. answer: the beginning of what the endpoint said."""

    attempt_no: int
    tried_at: datetime
    took_ms: int
    status: int | None
    error: str | None
    answer: str


class DeliveryStory(Delivery):
    """A delivery with its last hundred attempts, newest first."""

    attempts: list[DeliveryAttempt]


def show_delivery(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "delivery_id": show_id("dlv", row["delivery_id"]),
        "event_id": show_id("evt", row["event_id"]),
        "type": row["kind"],
        "subject_id": show_id(prefix_of(row["kind"]), row["subject_id"]),
        "state": row["state"],
        "tries": row["tries"],
        "next_try_at": show_at(row["due_at"]) if row["state"] == "pending" else None,
        "last_status": row["last_status"],
        "last_error": row["last_error"],
        "created_at": show_at(row["created_at"]),
        "done_at": show_at(row["done_at"]),
    }


@router.get(
    "/{webhook_id}/deliveries",
    response_model=Page[Delivery],
    responses=responses(404),
    summary="Messages to an endpoint, newest first; `state=failed`: those that were given up",
)
async def list_webhook_deliveries(
    desk: Reader, webhook_id: WebhookId, paging: Asked, state: Annotated[State | None, Query()] = None
) -> Response:
    async with desk.reading() as conn:
        await store.endpoint(conn, webhook_id)
        rows = await store.deliveries(conn, webhook_id, state, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "delivery_id", show_delivery))


@router.get(
    "/{webhook_id}/deliveries/{delivery_id}",
    response_model=DeliveryStory,
    responses=responses(404),
    summary="One message and its attempts",
)
async def read_webhook_delivery(desk: Reader, webhook_id: WebhookId, delivery_id: DeliveryId) -> Response:
    async with desk.reading() as conn:
        await store.endpoint(conn, webhook_id)
        row = await store.delivery(conn, webhook_id, delivery_id)
        tried = await store.attempts(conn, delivery_id)
    attempts = [{**one, "tried_at": show_at(one["tried_at"])} for one in tried]
    return desk.shown({**show_delivery(row), "attempts": attempts})


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    response_model=Delivery,
    responses=responses(404),
    summary="Send one message again",
)
async def replay_webhook_delivery(desk: Writer, webhook_id: WebhookId, delivery_id: DeliveryId) -> Response:
    async def work(conn: Connection) -> Made:
        row = await store.endpoint(conn, webhook_id)
        await store.delivery(conn, webhook_id, delivery_id)
        await desk.as_ours(conn)
        told = show_delivery(await store.replay_one(conn, delivery_id))
        return Made(told["delivery_id"], told, row["partner_id"])

    return await desk.act("webhook.replay_one", None, work, status=202)
