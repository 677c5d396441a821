"""Ending calls. Every witness (journal, AGI, CDR file, resync) comes through here, and each call is ended once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from bridge import queries
from bridge.calls.book import Book
from bridge.calls.ended import Ended, EndRecord, Ledgers, instant, price
from bridge.calls.frozen import Frozen
from bridge.calls.store import CallStore, compact
from bridge.calls.token import Orphan, Token
from bridge.database import Connection
from bridge.errors import BridgeError
from bridge.rating.allowance import Burn
from bridge.routing.plan import RoutePlan, plan
from bridge.telephony.number import Number

CACHE_MAX: Final = 20_000
RUNG_APART_MS: Final = 1000

log = structlog.get_logger("calls")


class Endings:
    """Prices finished calls and writes them, many in one statement.

    The worker that admitted a call remembers what it was admitted on, so its end usually asks the database nothing.
    """

    def __init__(self, store: CallStore) -> None:
        self._store = store
        self._cache: OrderedDict[UUID, Frozen] = OrderedDict()

    def remember(self, frozen: Frozen) -> None:
        self._cache[frozen.call_id] = frozen
        if len(self._cache) > CACHE_MAX:
            self._cache.popitem(last=False)

    async def frozen(self, call_id: UUID) -> Frozen | None:
        """What a call was admitted on, from memory or from its row."""
        known = self._cache.get(call_id)
        return known or (await self._store.frozen([call_id])).get(call_id)

    async def end(self, conn: Connection, records: Sequence[EndRecord], book: Book) -> set[UUID]:
        """End the calls of these records inside the caller's transaction. Returns those that were ended here.

        A call that cannot be priced is left live, is recorded as a discrepancy, and does not hold up the others.
        """
        by_id = {record.call_id: record for record in records}
        missing = [call_id for call_id in by_id if call_id not in self._cache]
        known = await self._store.frozen(missing, conn) if missing else {}
        burns = await self._burns(conn, by_id, known)
        priced: list[Ended] = []
        sip_call_ids: dict[UUID, str] = {}
        for call_id, record in by_id.items():
            frozen = self._cache.pop(call_id, None) or known.get(call_id)
            if frozen is None:
                continue  # refused, or not ours
            sip_call_ids[call_id] = frozen.sip_call_id
            try:
                accounts = ledgers(book, frozen, record.attempt_no)
                priced.append(price(record, frozen, accounts, burns.get(call_id, ())))
            except (BridgeError, KeyError, ValueError) as error:
                log.error("call cannot be priced", call=str(call_id), error=repr(error))
                await self._store.disagree(conn, call_id, "not_priced", {"error": repr(error)})
        if not priced:
            return set()
        done = await self._store.end(conn, priced)
        for call_id, (charged_micro, written_off_micro) in done.items():
            if written_off_micro:
                log.warning(
                    "call outlasted its money", call=str(call_id), written_off_micro=written_off_micro
                )
            log.info(
                "call ended",
                call=str(call_id),
                sip_call_id=sip_call_ids[call_id],
                charged_micro=charged_micro,
                by=by_id[call_id].source,
            )
        return set(done)

    async def _burns(
        self, conn: Connection, ending: Iterable[UUID], known: Mapping[UUID, Frozen]
    ) -> dict[UUID, Sequence[Burn]]:
        """The units that these calls hold. Their accounts stay locked, so that no extension adds to them meanwhile."""
        bundled = [
            call_id
            for call_id in ending
            if (found := self._cache.get(call_id) or known.get(call_id)) and found.bundled
        ]
        if not bundled:
            return {}
        await queries.calls.lock_accounts.run(conn, call_ids=list(ending))
        return await self._store.burns(conn, bundled)

    async def adopt(
        self, conn: Connection, token: Token, orphan: Orphan, uniqueid: str, started_at: datetime, book: Book
    ) -> None:
        """Give a call that the failsafe let through its row, rated by today's decks. A repeat changes nothing."""
        row = await queries.calls.subscriber_plan.one(
            conn, subscriber_id=orphan.subscriber_id, b_number=orphan.b_number
        )
        sell, origins = None, book.origins.of(orphan.a_number[1:])
        if row is not None:
            payer = book.plans[str(row["plan_id"])]
            sell = payer.sell(orphan.b_number[1:], zone=row["zone"], on_net=row["on_net"], origins=origins)
        peer = next((peer for peer in book.peers.values() if peer.trunk.name == orphan.trunk), None)
        if sell is None or peer is None:
            log.error("failsafe call cannot be rated", call=str(token.call_id))
            await self._store.disagree(conn, token.call_id, "failsafe_not_rated", {"trunk": orphan.trunk})
            return
        routes: RoutePlan = plan(
            Number(orphan.b_number),
            sell,
            [peer.trunk],
            {},
            margin_floor_micro=-(10**12),
            origins=origins,
            at=started_at,
            fx=book.fx,
        )
        await queries.calls.adopt.run(
            conn,
            call_id=token.call_id,
            switch_id=self._store.switch_id,
            uniqueid=uniqueid,
            subscriber_id=orphan.subscriber_id,
            a_number=orphan.a_number,
            b_number=orphan.b_number,
            sell=compact(sell.frozen(started_at).to_json()),
            routes=compact(routes.frozen(started_at).to_json()),
            admitted_at=started_at,
        )


def ledgers(book: Book, frozen: Frozen, attempt_no: int | None) -> Ledgers:
    """Which accounts a call is booked on. Without an attempt there is no cost, and the carrier does not matter."""
    route = frozen.route(attempt_no) if attempt_no is not None else None
    buy_currency = route.buy.currency if route else frozen.sell.currency
    carrier = book.peers[route.trunk_id].carrier_account_id if route else book.cost[buy_currency]
    return Ledgers(book.revenue[frozen.sell.currency], book.cost[buy_currency], carrier)


def differences(
    mine: EndRecord,
    state: str,
    answered_at: datetime | None,
    ended_at: datetime | None,
    direction: str = "out",
) -> dict[str, str]:
    """What two witnesses of one ended call disagree on; empty when they agree to the millisecond.

    Where several phones rang, the journal has the answer from the length of the talk, and the end from the clock.
    """
    found: dict[str, str] = {}
    if (state == "answered") != (mine.answered_us > 0):
        found["answered"] = f"{state} / {'answered' if mine.answered_us else 'not answered'}"
    elif mine.answered_us and answered_at is not None and ended_at is not None:
        apart_ms = (
            abs((instant(mine.answered_us) - answered_at).total_seconds()) * 1000,
            abs((instant(mine.ended_us) - ended_at).total_seconds()) * 1000,
        )
        if max(apart_ms) > (1 if direction == "out" else RUNG_APART_MS):
            found["times"] = f"answer {apart_ms[0]:.0f} ms, end {apart_ms[1]:.0f} ms apart"
    return found
