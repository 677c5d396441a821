"""A subscriber's bill of a period, from its name to its figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.config import Settings
from bridge.database import Connection
from bridge.reports import bill_paper, store
from bridge.reports.bill import Bill
from bridge.reports.period import Period
from bridge.reports.store import bill as bills
from bridge.reports.store.bill import Holder


@dataclass(frozen=True, slots=True)
class BillOf:
    """complete: all calls of the period are in it."""

    bill: Bill
    whose: Holder
    period: Period
    complete: bool

    def to_json(self) -> dict[str, Any]:
        return bill_paper.to_json(self.bill, self.whose, self.period, complete=self.complete)


async def bill_of(conn: Connection, settings: Settings, subscriber: str, period: Period) -> BillOf:
    """Read in one moment. conn: not in a transaction. raises NotFound · Invalid: bills.counselling names no number"""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        return await bill_in(conn, settings, await bills.holder_named(conn, subscriber), period)


async def bill_in(conn: Connection, settings: Settings, whose: Holder, period: Period) -> BillOf:
    """The same, in a transaction of the caller's."""
    protected = bills.protected_lines(settings.bills.counselling, settings.calls.home_region)
    horizon = await store.horizon(conn)
    made = await bills.read_bill(conn, whose, period, protected)
    return BillOf(made, whose, period, horizon is not None and horizon >= period.until)
