"""Events and their deliveries in the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, NotFound
from bridge.events.kind import KINDS
from bridge.events.message import Event, event_of
from bridge.events.send import Answer
from bridge.events.signature import new_secret

ENDPOINTS_MAX: Final = 20  # of one partner
SECRETS_MAX: Final = 5  # of one endpoint at the same time
REPLAY_MAX: Final = 5000  # events at once
FAN_OUT_ROWS: Final = 500
PURGE_ROWS: Final = 2000

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery this worker is to make. tries: how often it was tried; keys: none for a sink"""

    delivery_id: UUID
    tries: int
    event: Event
    url: str
    keys: Sequence[bytes]
    bearer: str | None
    to_sink: bool


async def fan_out(conn: Connection) -> int:
    """Number new events and lay them out. Returns how many; -1: somebody else is at it."""
    done: int = await queries.events.fan_out.value(conn, rows=FAN_OUT_ROWS)
    return done


async def claim(conn: Connection, *, failing: bool, rows: int, each: int, lease_s: float) -> list[Claim]:
    """Deliveries that are due. Nobody else gets them for lease_s."""
    found = await queries.events.claim.all(conn, failing=failing, rows=rows, each=each, lease_s=lease_s)
    return [
        Claim(
            row["delivery_id"],
            row["tries"],
            event_of(row),
            row["url"],
            row["secrets"] or (),
            row["bearer"],
            row["to_sink"],
        )
        for row in found
    ]


async def note(
    conn: Connection, delivery_id: UUID, answer: Answer, retry_s: float | None, disable_after_s: float
) -> None:
    """retry_s   None: there is no next time"""
    await queries.events.note.run(
        conn,
        delivery_id=delivery_id,
        said=answer.said,
        status=answer.status,
        took_ms=answer.took_ms,
        error=answer.error,
        answer=answer.text,
        retry_s=retry_s,
        disable_after_s=disable_after_s,
    )


async def release(conn: Connection, delivery_ids: Iterable[UUID]) -> None:
    await queries.events.release.run(conn, delivery_ids=list(delivery_ids))


async def purge(conn: Connection, before: datetime) -> int:
    """Forget a batch of what is older. Returns how many events; fewer than PURGE_ROWS: that was all."""
    gone: int = await queries.events.purge.value(conn, before=before, rows=PURGE_ROWS)
    return gone


# ---------------------------------------------------------------- reading


async def listen(conn: Connection, partner_id: UUID) -> bool:
    """From now on what happens to a partner is kept. False: there is no such partner."""
    return bool(await queries.events.listen.value(conn, partner_id=partner_id))


async def last_no(conn: Connection, partner_id: UUID) -> int:
    """The number up to which a partner's events can be read; 0: there are none."""
    return await queries.events.last_no.value(conn, partner_id=partner_id) or 0


async def first_no(conn: Connection, partner_id: UUID) -> int | None:
    """The number of the oldest event that is still kept."""
    found: int | None = await queries.events.first_no.value(conn, partner_id=partner_id)
    return found


async def stream(
    conn: Connection, partner_id: UUID, after: int, upto: int, kinds: Sequence[str], rows: int
) -> list[Row]:
    """Events in the order of their numbers, which is the order in which they can be read."""
    return list(
        await queries.events.stream.all(
            conn, partner_id=partner_id, after=after, upto=upto, kinds=list(kinds), rows=rows
        )
    )


async def events(
    conn: Connection,
    before: UUID,
    rows: int,
    *,
    partner_id: UUID | None = None,
    subject_id: UUID | None = None,
    kind: str | None = None,
    since: datetime | None = None,
) -> list[Row]:
    """Newest first, those before `before`. What is None is not asked for."""
    asked: dict[str, Any] = {"before": before, "rows": rows, "kind": kind, "since": since}
    if subject_id is not None:
        return list(
            await queries.events.events_of.all(conn, subject_id=subject_id, partner_id=partner_id, **asked)
        )
    if partner_id is not None:
        return list(await queries.events.events_partner.all(conn, partner_id=partner_id, **asked))
    return list(await queries.events.events.all(conn, **asked))


async def event(conn: Connection, event_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.events.event.one(conn, event_id=event_id)
    if row is None:
        raise NotFound("There is no such event.")
    return row


# ---------------------------------------------------------------- endpoints


async def endpoints(conn: Connection, before: UUID, rows: int, partner_id: UUID | None) -> list[Row]:
    """Newest first. partner_id None: of whoever may be seen."""
    return list(await queries.webhooks.endpoints.all(conn, before=before, rows=rows, partner_id=partner_id))


async def endpoint(conn: Connection, endpoint_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.webhooks.endpoint.one(conn, endpoint_id=endpoint_id)
    if row is None:
        raise NotFound("There is no such webhook endpoint.")
    return row


async def add_endpoint(
    conn: Connection, partner_id: UUID, url: str, kinds: Sequence[str], description: str, *, enabled: bool
) -> tuple[Row, bytes]:
    """An endpoint and its secret, which can be shown now and never again.

    raises   NotFound: no such partner · Conflict: it has as many as it may
    """
    if not await queries.webhooks.begin_listening.value(conn, partner_id=partner_id):
        raise NotFound("There is no such partner.")
    if await queries.webhooks.count_endpoints.value(conn, partner_id=partner_id) >= ENDPOINTS_MAX:
        raise Conflict(f"A partner may have {ENDPOINTS_MAX} webhook endpoints. Delete one first.")
    row: Row = await queries.webhooks.add_endpoint.one(
        conn,
        partner_id=partner_id,
        url=url,
        kinds=sorted(set(kinds)),
        description=description,
        enabled=enabled,
    )
    secret = new_secret()
    await queries.webhooks.add_secret.one(
        conn, endpoint_id=row["endpoint_id"], secret=secret, until=row["created_at"]
    )
    return row, secret


async def change_endpoint(
    conn: Connection,
    endpoint_id: UUID,
    edition: int,
    *,
    url: str | None,
    kinds: Sequence[str] | None,
    description: str | None,
    enabled: bool | None,
) -> Row | None:
    """What is None stays. Returns None when it is of another edition by now."""
    row: Row | None = await queries.webhooks.change_endpoint.one(
        conn,
        endpoint_id=endpoint_id,
        edition=edition,
        url=url,
        kinds=None if kinds is None else sorted(set(kinds)),
        description=description,
        enabled=enabled,
    )
    if row is not None:
        await queries.events.wake.run(conn, partner_id=row["partner_id"])
    return row


async def delete_endpoint(conn: Connection, endpoint_id: UUID, edition: int) -> Row | None:
    """Returns None when it is of another edition by now."""
    row: Row | None = await queries.webhooks.delete_endpoint.one(
        conn, endpoint_id=endpoint_id, edition=edition
    )
    return row


async def rotate_secret(conn: Connection, endpoint_id: UUID, until: datetime) -> bytes:
    """A new secret. Those before it go on signing, too, until then at the latest.

    raises   Conflict: as many are signing as may
    """
    secret = new_secret()
    made = await queries.webhooks.add_secret.one(conn, endpoint_id=endpoint_id, secret=secret, until=until)
    if made["signing"] > SECRETS_MAX:
        raise Conflict(f"{SECRETS_MAX} secrets are signing already. Wait until the oldest has ended.")
    return secret


async def add_test(conn: Connection, partner_id: UUID, endpoint_id: UUID, data: str) -> Row:
    """An event for this endpoint alone. data: JSON"""
    row: Row = await queries.webhooks.add_test.one(
        conn, partner_id=partner_id, endpoint_id=endpoint_id, data=data
    )
    return row


async def deliveries(
    conn: Connection, endpoint_id: UUID, state: str | None, before: UUID, rows: int
) -> list[Row]:
    """Newest first."""
    if state is None:
        return list(
            await queries.webhooks.deliveries.all(conn, endpoint_id=endpoint_id, before=before, rows=rows)
        )
    return list(
        await queries.webhooks.deliveries_in.all(
            conn, endpoint_id=endpoint_id, state=state, before=before, rows=rows
        )
    )


async def delivery(conn: Connection, endpoint_id: UUID, delivery_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.webhooks.delivery.one(
        conn, endpoint_id=endpoint_id, delivery_id=delivery_id
    )
    if row is None:
        raise NotFound("There is no such delivery.")
    return row


async def attempts(conn: Connection, delivery_id: UUID) -> list[Row]:
    """The last hundred, newest first."""
    return list(await queries.webhooks.attempts.all(conn, delivery_id=delivery_id))


async def replay_one(conn: Connection, delivery_id: UUID) -> Row:
    """Send it again, from the beginning of the schedule."""
    row: Row = await queries.webhooks.replay_one.one(conn, delivery_id=delivery_id)
    await queries.events.wake.run(conn, partner_id=row["partner_id"])
    return row


async def replay(
    conn: Connection, endpoint_id: UUID, since: datetime, kinds: Sequence[str], after: UUID | None = None
) -> tuple[int, UUID | None]:
    """Send events since then, the oldest first, again or for the first time.

    kinds     none: all
    after     only those after this one
    returns   how many, and the last of them where there are more
    """
    row: asyncpg.Record = await queries.webhooks.replay.one(
        conn,
        endpoint_id=endpoint_id,
        since=since,
        after=after or UUID(int=0),
        kinds=list(kinds or KINDS),
        rows=REPLAY_MAX,
    )
    return row["replayed"], row["more_after"]
