"""The proof that statements are right: they follow from their inputs, these from the books, and they were booked so."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from bridge import queries
from bridge.database import Connection
from bridge.errors import StoreError
from bridge.partners.settlement import postings
from bridge.partners.statement import lines_of
from bridge.partners.statement_inputs import Inputs
from bridge.partners.store.account import Row
from bridge.partners.store.statement import kept_wrong, lines
from bridge.partners.store.statement_sums import sums_of

FINDINGS_MAX: Final = 1000


async def audit_statements(conn: Connection) -> dict[str, list[dict[str, Any]]]:
    """What breaks an invariant, by the invariant's name; all of one state of the database."""
    found: dict[str, list[dict[str, Any]]] = {
        "statements_follow_from_their_inputs": [],
        "statements_count_every_record": [],
        "settlements_are_booked_as_stated": [],
    }
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        async for row in queries.statements.kept.stream(conn):
            async for name, what in _wrong(conn, row):
                if len(found[name]) < FINDINGS_MAX:
                    found[name].append({"statement_id": str(row["statement_id"]), "what": what})
    return found


async def _wrong(conn: Connection, row: Row) -> AsyncIterator[tuple[str, str]]:
    inputs = Inputs.from_json(json.loads(row["inputs"]))
    try:
        for what in kept_wrong(inputs, row, await lines(conn, row["statement_id"])):
            yield "statements_follow_from_their_inputs", what
        booked = {(one.account, one.currency): one.amount_micro for one in postings(inputs, lines_of(inputs))}
    except StoreError as error:
        yield "statements_follow_from_their_inputs", str(error)
        return
    if row["state"] == "draft":
        return  # a purchase may still come in; approving it looks
    sums = await sums_of(conn, row["partner_id"], inputs.parts)
    if (sums.records, sums.purchases) != (inputs.records, inputs.purchases):
        yield "statements_count_every_record", "the sums of its records or purchases are others by now"
    entries = {
        (one["booked_on"], one["currency"]): int(one["amount_micro"])
        for one in await queries.statements.settled_entries.all(
            conn, transfer_id=row["transfer_id"], currency=row["currency"]
        )
    }
    if entries != booked:
        yield "settlements_are_booked_as_stated", "what was booked is not what its lines come to"
