"""A month that is over, with a partner, its deal and its calls: what tests of statements begin with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from bridge.calls.ended import EndRecord
from bridge.database import connect, connection, transaction
from bridge.exports.sequence import seal
from bridge.ledger.store import close_period
from bridge.partners.deal import Basis, Share, Step, Terms, Wholesale, ZeroRated
from bridge.partners.month import month, month_of
from bridge.partners.store import add_partner
from bridge.partners.store import deal as deals
from bridge.partners.store import statement as store
from bridge.partners.store.statement_audit import audit_statements
from tests.seeded import Seeded, Who

ZONE = "Europe/Berlin"
NOW = datetime.now(UTC)
MONTH = month_of(month(month_of(NOW, ZONE), ZONE)[0] - timedelta(days=3), ZONE)
FROM, TO = month(MONTH, ZONE)
STEPS = (Step(0, 36_000), Step(2, 24_000))  # from the third minute of the month on it is cheaper
TERMS = Terms(Wholesale(STEPS), (Share(2_500, Basis.RETAIL_REVENUE),), zero_rated=ZeroRated(("49800",)))


@dataclass
class Scene:
    house: Seeded
    dsn: str
    partner_id: UUID
    who: Who
    seals: int = 0

    async def deal(
        self, terms: Terms = TERMS, *, name: str = "Termination", currency: str = "EUR",
        from_at: datetime = FROM - timedelta(days=400), partner_id: UUID | None = None,
    ) -> UUID:  # fmt: skip
        async with transaction(self.house.pool) as conn:
            deal_id = await deals.add_deal(conn, partner_id or self.partner_id, name, currency)
            await deals.agree(conn, deal_id, 0, terms, from_at=from_at, until_at=None, note="", author="anna")
            held = await deals.deal(conn, deal_id)
            await deals.change_deal(conn, deal_id, held["edition"], name=None, state="signed")
        return deal_id

    async def talk(self, talk_s: int, at: datetime = FROM + timedelta(days=5)) -> UUID:
        """A call of the partner's subscriber over the partner's trunk, ended then."""
        call_id = (await self.house.admitted(self.who)).frozen.call_id
        end_us = int(at.timestamp() * 1_000_000)
        await self.house.end(
            EndRecord(call_id, 1, end_us - talk_s * 1_000_000, end_us, "journal", "ANSWER", 16, "caller", 100)
        )
        return call_id

    async def seal(self, until: datetime = TO + timedelta(days=1)) -> None:
        self.seals += 1
        async with connect(self.dsn) as conn:
            await seal(conn, until + timedelta(seconds=self.seals))

    async def close(self) -> None:
        async with connection(self.house.pool) as conn:
            await close_period(conn, TO, author="anna")

    async def draft(self, deal_id: UUID, **more: Any) -> UUID:
        async with transaction(self.house.pool) as conn:
            return await store.draft(conn, deal_id, MONTH, ZONE, author="anna", **more)

    async def do(self, name: str, *given: Any, **more: Any) -> Any:
        async with transaction(self.house.pool) as conn:
            return await getattr(store, name)(conn, *given, **more)

    async def lines(self, statement_id: UUID) -> list[tuple[str, int, int]]:
        rows = await self.do("lines", statement_id)
        return [(row["kind"], row["quantity"], row["amount_micro"]) for row in rows]

    async def balances(self) -> dict[str, int]:
        rows = await self.house.rows(
            """SELECT a.name, sum(e.amount_micro)::bigint AS micro FROM entry e JOIN account a USING (account_id)
                WHERE a.kind <> 'subscriber' GROUP BY a.name"""
        )
        return {row["name"]: row["micro"] for row in rows}

    async def sound(self) -> None:
        assert await self.house.broken() == {}
        async with connection(self.house.pool) as conn:
            assert not any((await audit_statements(conn)).values())

    async def approved(self) -> UUID:
        """A deal whose two steps were reached, drafted and approved: 120 s at 0.036 and 60 s at 0.024 a minute."""
        deal_id = await self.deal()
        await self.talk(180)
        await self.seal()
        await self.close()
        statement_id = await self.draft(deal_id)
        await self.do("approve", statement_id, author="ben")
        return statement_id


async def scene_of(house: Seeded, dsn: str, partner_id: UUID | None = None) -> Scene:
    """partner_id: whose trunk and subscriber they are; a new partner's unless given."""
    if partner_id is None:
        async with transaction(house.pool) as conn:
            partner_id = (await add_partner(conn, "Alpha", "EUR"))["partner_id"]
    who = await house.subscriber(100_000_000)
    account_id = UUID(who.account_id)
    await house.rows("UPDATE trunk SET partner_id = $1 WHERE name = 'alpha'", partner_id)
    await house.rows("UPDATE account SET partner_id = $1 WHERE account_id = $2", partner_id, account_id)
    await house.rows("UPDATE subscriber SET partner_id = $1 WHERE account_id = $2", partner_id, account_id)
    await house.reload()
    return Scene(house, dsn, partner_id, who)
