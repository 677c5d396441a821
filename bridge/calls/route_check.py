"""Which trunks a call would take now, and why others would not: the admission's own rules, with nothing written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from bridge import queries
from bridge.calls.admit import Admission, decide
from bridge.calls.book import Book
from bridge.calls.store import Caller
from bridge.config import Calls
from bridge.database import Connection
from bridge.errors import NotFound
from bridge.routing.plan import RoutePlan
from bridge.telephony.cause import Refuse
from bridge.telephony.number import Number, barred


@dataclass(frozen=True, slots=True)
class Tried:
    """refused: why such a call would not be made now. routes: where it would go otherwise; None: it is not for sale."""

    refused: Refuse | None
    routes: RoutePlan | None


def try_routes(
    book: Book,
    payer: Caller,
    number: Number | Refuse,
    *,
    live: Mapping[str, int],
    rules: Calls,
    at: datetime,
    origins: Sequence[str] = (),
) -> Tried:
    """live: calls now on each trunk that has a capacity, by trunk_id."""
    verdict = decide(payer, number, book, live, rules, at, origins)
    if isinstance(verdict, Admission):
        return Tried(None, verdict.routes)
    if isinstance(number, Refuse) or barred(number) is not None:
        return Tried(verdict, None)
    plan = book.plans[payer.plan_id]
    sell = plan.sell(number.digits, zone=payer.zone, on_net=payer.on_net, origins=origins)
    if sell is None or sell.at(at).rate.blocked:
        return Tried(verdict, None)
    routes = book.router.plan(
        number,
        sell,
        live,
        margin_floor_micro=plan.margin_floor_micro,
        limit=rules.attempts_max,
        origins=origins,
        at=at,
        zero_rated=bool(sell.zero_rated),
    )
    return Tried(verdict, routes)


async def live_calls(conn: Connection, book: Book) -> dict[str, int]:
    """As `try_routes` wants them."""
    if not book.capped:
        return {}
    return {str(row["trunk_id"]): row["live"] for row in await queries.calls.trunks_live.all(conn)}


async def trunks_of(conn: Connection, partner_id: UUID) -> frozenset[str]:
    """A partner's own."""
    rows = await queries.quotes.trunks_of.all(conn, partner_id=partner_id)
    return frozenset(str(row["trunk_id"]) for row in rows)


async def check_named(conn: Connection, subscriber_id: UUID | None, plan_id: UUID | None) -> None:
    """What a call is asked about must be there for whoever asks. raises   NotFound"""
    if subscriber_id is not None and not await queries.quotes.asked_subscriber.value(
        conn, subscriber_id=subscriber_id
    ):
        raise NotFound("There is no such subscriber.")
    if plan_id is not None and not await queries.quotes.asked_plan.value(conn, plan_id=plan_id):
        raise NotFound("There is no such plan.")
