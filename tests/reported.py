"""Ended calls of two partners and the house itself, numbered: what reports and bills are tried on.

Acme's subscribers call, Netz has the trunk alpha. All ends lie in October 2026 of Berlin, two in its longest day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from bridge.calls.ended import EndRecord
from bridge.database import Connection, connection
from bridge.exports.sequence import seal
from bridge.partners.store import add_partner
from tests.seeded import GERMANY, KINGDOM, Seeded, Who

BERLIN: Final = "Europe/Berlin"
MONTH: Final = "2026-10"
BEGUN: Final = datetime(2026, 9, 30, 22, tzinfo=UTC)  # October of Berlin
OVER: Final = datetime(2026, 10, 31, 23, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Reported:
    """ada is Acme's, otto our own."""

    acme: UUID
    netz: UUID
    ada: Who
    otto: Who


async def ended_at(
    house: Seeded, who: Who, at: datetime, talk_s: int, dialled: str = GERMANY, *, failed: bool = False
) -> UUID:
    """A call that is over at an instant. talk_s 0: nobody answered. failed: the carrier did, and the next took it."""
    admitted = await house.admitted(who, dialled)
    no = 1
    if failed:
        await house.failed(admitted.frozen)
        no = 2
    end_us = round(at.timestamp() * 1_000_000)
    begin_us = end_us - talk_s * 1_000_000 if talk_s else 0
    how = ("ANSWER", 16, "caller", 1720) if talk_s else ("BUSY", 17, "callee", 900)
    call_id = admitted.frozen.call_id
    assert await house.end(EndRecord(call_id, no, begin_us, end_us, "journal", *how)) == {call_id}
    return call_id


async def numbered(conn: Connection, until: datetime = OVER) -> None:
    await seal(conn, until, thorough=True, time_zone=BERLIN)


async def report_scene(house: Seeded, conn: Connection) -> Reported:
    """Acme: 100 s and 60 s to Germany, 61 s to the United Kingdom, one busy. The house: 30 s at the second try."""
    async with connection(house.pool) as one:
        acme, netz = [(await add_partner(one, name, "EUR"))["partner_id"] for name in ("=Acme", "Netz")]
        await one.execute("UPDATE trunk SET partner_id = $1 WHERE name = 'alpha'", netz)
    ada, otto = await house.subscriber(50_000_000), await house.subscriber(50_000_000)
    await house.rows("UPDATE subscriber SET partner_id = $1 WHERE account_id = $2", acme, ada.account_id)
    await house.rows("UPDATE account SET partner_id = $1 WHERE account_id = $2", acme, ada.account_id)
    await house.reload()
    await ended_at(house, ada, BEGUN + timedelta(minutes=1), 100)
    # Both at half past two of the night on which the clock goes back
    await ended_at(house, ada, datetime(2026, 10, 25, 0, 30, tzinfo=UTC), 60)
    await ended_at(house, ada, datetime(2026, 10, 25, 1, 30, tzinfo=UTC), 61, KINGDOM)
    await ended_at(house, ada, datetime(2026, 10, 26, 9, tzinfo=UTC), 0)
    await ended_at(house, otto, OVER - timedelta(seconds=1), 30, failed=True)
    await numbered(conn)
    return Reported(acme, netz, ada, otto)
