"""What a call to another user of the same app would come to, asked before it is made. Nothing is made by asking."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from bridge import queries
from bridge.calls.book import Book
from bridge.calls.caller import Callee, Caller
from bridge.calls.ring import LET_IN, Ring, not_reached, ring
from bridge.database import Connection
from bridge.rollout.store import would_call
from bridge.telephony.cause import Refuse
from bridge.telephony.number import Number


async def callee_of(conn: Connection, app_id: UUID, b_number: str) -> Callee | None:
    """Whose number it is within an app; None: nobody's who could be rung."""
    row = await queries.calls.callee.one(conn, app_id=app_id, b_number=b_number)
    return None if row is None else Callee(row["subscriber_id"], row["allowed"])


async def whose_phones(
    conn: Connection, book: Book, caller: Caller | None, number: Number | Refuse
) -> Callee | None:
    """Whose phones a call of this caller may ring. None: it goes over a carrier, or nowhere."""
    if caller is None or not isinstance(number, Number):
        return None
    if caller.app_id is None or caller.app_id not in book.phones:
        return None
    return await callee_of(conn, caller.app_id, number.e164)


async def would_ring(
    conn: Connection,
    book: Book,
    caller: Caller,
    number: Number | Refuse,
    at: datetime,
    origins: Sequence[str] = (),
) -> Refuse | Ring | None:
    """By the rules of the admission, were it asked now. None: the call goes over a carrier. As ours."""
    callee = await whose_phones(conn, book, caller, number)
    if callee is None:
        return None
    return await would_ring_them(conn, book, caller, number, callee, at, origins)


async def would_ring_them(
    conn: Connection,
    book: Book,
    caller: Caller,
    number: Number | Refuse,
    callee: Callee,
    at: datetime,
    origins: Sequence[str] = (),
    *,
    to_self: bool = False,
) -> Refuse | Ring | None:
    """The same where it is known whose phones. to_self: it is the first leg of a call by order."""
    verdict = ring(caller, number, callee, book, origins=origins, to_self=to_self)
    if isinstance(verdict, Refuse) or not verdict.activate:
        return verdict
    said = await would_call(conn, caller.subscriber_id, callee.subscriber_id, at)
    return verdict if said in LET_IN else not_reached(book.plans[caller.plan_id], said)
