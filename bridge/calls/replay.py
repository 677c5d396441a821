"""The dry run of a deck: recorded calls priced as they would be once an import is applied. Nothing is written."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.calls.impact import Impact
from bridge.calls.reprice import DeckThen, Recorded, Repriced, Skip
from bridge.calls.selection import Prices, Progress, Selection, price_again, silent
from bridge.database import Connection
from bridge.errors import Invalid
from bridge.rating.store import load_staged_deck
from bridge.rating.store.imports import import_of

LISTED_MAX: Final = 20
_NOTE: Final = {
    "sell": "Costs stay as they were. Whether callers would have been refused or called less is not computed.",
    "buy": "Charges stay as they were. Each call keeps the carrier it had: which calls the new prices would have "
    "sent to another carrier is not computed.",
}


async def replay(
    conn: Connection, import_id: UUID, since: datetime, until: datetime, *, progress: Progress = silent
) -> dict[str, Any]:
    """Charge, cost and margin before and after of the calls that were priced by the import's deck.

    Prices are those in force when all of the import is: at its effective date, or the latest one in its rows.

    since, until   of the calls' admission, aware; until is exclusive
    returns        JSON-able; `skips` names the calls that the deck would not cover any more
    raises         NotFound · StoreError: the period ends before it begins
    """
    if since >= until:
        raise Invalid("the period ends before it begins: give --from an earlier instant than --to")
    one = await import_of(conn, import_id)
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        await queries.rerating.plan_each_time.run(conn)
        at = await queries.rerating.import_in_force.value(conn, import_id=import_id)
        deck = await load_staged_deck(conn, import_id, at)
        side = await queries.rerating.side_of.value(conn, deck_id=one["deck_id"])
        selection = Selection(since=since, until=until, deck_id=deck.deck_id, sides=frozenset({side}))
        prices = Prices(conn, selection, {deck.deck_id: DeckThen(deck)})
        impact, left_out = Impact(), defaultdict[Skip, list[UUID]](list)

        def take(call: Recorded, found: Repriced | Skip) -> None:
            if not isinstance(found, Skip):
                impact.add(found)
                return
            impact.skipped[found] += 1
            if len(left_out[found]) < LISTED_MAX:
                left_out[found].append(call.call_id)

        await price_again(conn, selection, prices, take, _nothing, progress)
    return {
        "import_id": str(import_id),
        "deck": one["deck"],
        "side": side,
        "at": at.isoformat(),
        "from": since.isoformat(),
        "to": until.isoformat(),
        "impact": impact.to_json(),
        "skips": [
            {
                "reason": why.value,
                "why": why.words,
                "calls": impact.skipped[why],
                "call_ids": [str(call_id) for call_id in call_ids],
            }
            for why, call_ids in sorted(left_out.items())
        ],
        "note": _NOTE[side],
    }


async def _nothing() -> None:
    """Nothing is written."""
