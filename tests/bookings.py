"""What tests of the ledger share: its functions, each in a transaction of its own, and what must be true afterwards."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from bridge import queries
from bridge.database import connection, transaction
from bridge.ledger import store
from bridge.ledger.entry import Entry
from tests.seeded import Seeded, Who

MICRO = 10**6
DOCUMENTED = {"author": "anna", "reason": "goodwill"}


async def booked(house: Seeded, name: str, *given: Any, **more: Any) -> Any:
    """One function of the store, in a transaction of its own."""
    async with transaction(house.pool) as conn:
        return await getattr(store, name)(conn, *given, **more)


async def ours(house: Seeded, role: str, currency: str = "EUR") -> str:
    made: str = await booked(house, "system_account", role, currency)
    return made


async def american(house: Seeded, balance_micro: int = 0) -> str:
    """A subscriber's account in dollars."""
    async with transaction(house.pool) as conn:
        account_id = str(
            await queries.seed.add_account.value(
                conn, kind="subscriber", name=f"subscriber {uuid4()}", currency="USD", funding="prepaid",
                credit_limit_micro=0, call_cap=None,
            )
        )  # fmt: skip
        if balance_micro:
            await store.top_up(conn, account_id, balance_micro, "USD", key=f"first money of {account_id}")
    return account_id


async def transfers(house: Seeded) -> int:
    count: int = await house.value("SELECT count(*) FROM transfer")
    return count


async def balance(house: Seeded, account_id: str) -> int:
    found: int = await house.value("SELECT balance_micro FROM account WHERE account_id = $1", account_id)
    return found


async def sound(house: Seeded) -> None:
    """The audit is silent, and so are the ledger's own questions."""
    assert await house.broken() == {}
    async with connection(house.pool) as conn:
        assert await queries.ledger.audit_reversals.all(conn) == []
        assert await queries.ledger.audit_refunds.all(conn) == []


def between(payer: str, payee: str, amount_micro: int, currency: str = "EUR") -> tuple[Entry, Entry]:
    return Entry(payer, -amount_micro, currency), Entry(payee, amount_micro, currency)


async def purchase(house: Seeded, who: Who, amount_micro: int, key: str, **more: Any) -> str:
    entries = between(who.account_id, await ours(house, "revenue"), amount_micro)
    made: str = await booked(house, "book", "purchase", entries, key=key, **more)
    return made
