"""What happened: as a list, and as a stream that can be taken up where it was left (server-sent events)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header, Query, Response
from pydantic import BeforeValidator, Field, WithJsonSchema

from bridge.api.desk import Desk, Needs
from bridge.api.event_stream import SCOPE, EventStream, Place
from bridge.api.fields import EventId, Instant, PartnerId, Told, read_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import routes
from bridge.database import transaction
from bridge.events import store
from bridge.events.kind import PREFIXES, Kind
from bridge.events.message import event_of, told

router = routes("events")
Reader = Annotated[Desk, Depends(Needs(SCOPE))]


def _subject(text: object) -> UUID:
    if isinstance(text, UUID):
        return text
    kind = str(text).partition("_")[0]
    if kind not in PREFIXES:
        raise ValueError(f"should begin with one of {', '.join(f'{one}_' for one in PREFIXES)}")
    return read_id(kind, text)


SubjectId = Annotated[
    UUID,
    BeforeValidator(_subject),
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(PREFIXES)})_[0-9a-f]{{32}}$"}),
]


class Event(Told):
    """Something that happened. What `data` holds depends on the type."""

    type: Kind
    timestamp: datetime
    event_id: EventId
    subject_id: str = Field(description="What it is about: the call, the account, the trunk …")
    seq: int = Field(description="Grows along a call: 1 admitted or refused, 2 ringing, 3 answered, 9 ended")
    data: dict[str, Any]


def show_event(row: Mapping[str, Any]) -> dict[str, Any]:
    return told(event_of(row))


@router.get("", response_model=Page[Event], responses=responses(404), summary="Events, newest first")
async def list_events(
    desk: Reader,
    paging: Asked,
    kind: Annotated[Kind | None, Query(description="Of this type only")] = None,
    subject_id: Annotated[SubjectId | None, Query(description="About this only, e.g. one call")] = None,
    since: Annotated[Instant | None, Query(description="Not older")] = None,
    partner_id: Annotated[PartnerId | None, Query(description="For operators: of this partner only")] = None,
) -> Response:
    if not desk.principal.operator:
        partner_id = desk.partner_of(partner_id)
    async with desk.reading() as conn:
        rows = await store.events(
            conn,
            paging.before,
            paging.rows,
            partner_id=partner_id,
            subject_id=subject_id,
            kind=kind,
            since=since,
        )
    return desk.shown(page(rows, paging, "event_id", show_event))


@router.get(
    "/stream",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, **responses(404)},
    summary="Events as they happen (text/event-stream)",
    description="Each event has its number as `id`. A browser's EventSource goes on after it by itself; others send "
    "it as `Last-Event-ID`. Without it the stream begins now; with `0`, at the oldest event that is kept. "
    "A comment comes every 15 seconds.",
)
async def stream_events(
    desk: Reader,
    kinds: Annotated[
        list[Kind] | None, Query(max_length=20, description="Of these types only; repeat it for more")
    ] = None,
    partner_id: Annotated[PartnerId | None, Query(description="For operators: whose events")] = None,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=2**62, description="Go on after the event of this number")
    ] = None,
) -> Response:
    whose = desk.partner_of(partner_id)
    if whose is None:
        raise Problem(400, "Name the partner whose events to stream, as partner_id.")
    hub = desk.services.hub
    if hub.count(whose) >= desk.services.settings.events.streams_max:
        raise Problem(
            429, "As many streams are open as a partner may have. Close one.", headers={"Retry-After": "5"}
        )
    async with transaction(desk.services.pool) as conn:
        if not await store.listen(conn, whose):
            raise Problem(404, "There is no such partner.")
    async with desk.reading() as conn:
        upto = await store.last_no(conn, whose)
    # A number beyond the last one is of another database: begin now.
    after = upto if last_event_id is None else min(last_event_id, upto)
    return EventStream(desk, Place(whose, tuple(kinds or ()), after), resumed=last_event_id is not None)


@router.get("/{event_id}", response_model=Event, responses=responses(404), summary="One event")
async def read_event(desk: Reader, event_id: EventId) -> Response:
    async with desk.reading() as conn:
        row = await store.event(conn, event_id)
    return desk.shown(show_event(row))
