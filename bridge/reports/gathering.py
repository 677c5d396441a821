"""All figures of a month for its report on paper. A partner's are read as the partner: nothing else can be on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge.database import Connection
from bridge.errors import Conflict
from bridge.partners.store import statement as statements
from bridge.reports import store
from bridge.reports.measure import Money, Mover, Quality, fold, movers, total
from bridge.reports.period import Period, before

_LAST: Final = UUID(int=2**128 - 1)
_STATEMENTS_MAX: Final = 50  # deals of one partner in one month


@dataclass(frozen=True, slots=True)
class Gathered:
    """A month's figures. partner: its name; None: the house, with cost and margin.

    money, quality        by "destination", "day", "week_hour", "trunk", … as asked of the store
    earlier, quality_earlier   totals of the month before
    moved                 of the house
    statements            of the month that were approved, with their lines; of a partner
    names                 of trunks and partners, by key
    """

    period: Period
    partner: str | None
    money: Mapping[str, Sequence[Money]]
    quality: Mapping[str, Sequence[Quality]]
    earlier: Sequence[Money]
    quality_earlier: Sequence[Quality]
    moved: Sequence[Mover]
    statements: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]
    names: Mapping[str, str]

    def totals(self) -> list[Money]:
        """One a currency, the main one first."""
        found = total(self.money["day"], "")
        return sorted(found, key=lambda one: (-one.calls, -one.carried, one.currency))

    def measured(self) -> Quality:
        found = total(self.quality["day"], "")
        return found[0] if found else Quality("", 0, 0, 0, 0, 0, {})


async def gather(conn: Connection, period: Period, partner: tuple[UUID, str] | None) -> Gathered:
    """Read in one moment. conn: ours, not in a transaction.

    raises   Conflict: not all calls of the period are numbered yet
    """
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        horizon = await store.horizon(conn)
        if horizon is None or horizon < period.until:
            raise _early(period, horizon)
        if partner:
            await store.as_partner(conn, partner[0])
        keys = ["day", "destination", "week_hour", "purpose", "trunk", *([] if partner else ["partner"])]
        money = await store.money(conn, period, keys, None)
        past = before(period)
        earlier = fold((await store.money(conn, past, ["destination"], None))["destination"])
        ordered = {key: fold(rows) for key, rows in money.items()}
        return Gathered(
            period,
            partner[1] if partner else None,
            ordered,
            await store.quality(conn, period, ["day", "destination", "trunk"], None),
            total(earlier, ""),
            (await store.quality(conn, past, [""], None))[""],
            [] if partner else movers(ordered["destination"], earlier, 8),
            await _statements(conn, period) if partner else [],
            await store.names(conn, "trunk") | ({} if partner else await store.names(conn, "partner")),
        )


async def _statements(
    conn: Connection, period: Period
) -> list[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]:
    """As the partner that the connection is: of drafts it sees nothing."""
    found = []
    for one in await statements.statements(conn, _LAST, _STATEMENTS_MAX, month=period.month):
        whole = await statements.statement(conn, one["statement_id"])
        found.append((whole, await statements.lines(conn, one["statement_id"])))
    return found


def _early(period: Period, horizon: datetime | None) -> Conflict:
    said = f"until {horizon:%Y-%m-%d %H:%M} UTC" if horizon else "not at all yet"
    return Conflict(f"{period.label} is not complete: calls are numbered {said}. Ask again later.")
