"""What a closing will need, looked for before it begins: all that is missing at once, each with what mends it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from bridge import queries
from bridge.closing.closing import Closing
from bridge.closing.statements import Row, of_deal
from bridge.database import Connection
from bridge.errors import BridgeError, Conflict
from bridge.exports.billing import company, partner, rates_of, terms_of
from bridge.exports.delivery import check_reachable
from bridge.exports.invoiceable import Lacks
from bridge.exports.sequence import horizon
from bridge.exports.store.billing import billing
from bridge.exports.store.cdr_files import Recipient
from bridge.exports.store.cdr_files import recipients as every_recipient
from bridge.exports.store.invoice import check_drafts
from bridge.ledger.exchange import RATE_DAYS_MAX
from bridge.partners.deal import Terms
from bridge.partners.month import zone_of
from bridge.partners.store import statement as statements

_OURS: Final = True  # we supplied it; else the partner did
_THEIRS: Final = not _OURS
# Of a deal's terms, who supplies what: whether it is telecommunication
_SUPPLIED: Final[Mapping[str, tuple[bool, bool]]] = {
    "wholesale": (_THEIRS, True),
    "commitment": (_THEIRS, True),
    "revenue_share": (_THEIRS, False),
    "bundle_funding": (_OURS, False),
    "zero_rated": (_OURS, True),
}


class NotReady(Conflict):
    """Something is missing; nothing that could not be undone was done. missing: what, each with what mends it"""

    def __init__(self, month: str, missing: Sequence[str]) -> None:
        self.missing = list(missing)
        lines = "".join(f"\n  - {one}" for one in missing)
        super().__init__(f"{month} cannot be closed yet. Missing:{lines}")


async def missing(conn: Connection, of: Closing) -> list[str]:
    """Nothing is written, and nothing sent."""
    found = [*_too_early(of), *_folders(of)]
    for one in await every_recipient(conn):
        if one.enabled:
            found += await _unreachable(of, one)
    open_deals = await _open_deals(conn, of)
    lacks = Lacks()
    for deal in open_deals:
        found += await _papers(conn, of, deal, lacks)
    found += lacks.told()
    found += await _rates(conn, of, [deal["deal_id"] for deal in open_deals])
    reached = await horizon(conn)
    if not found and reached is not None and reached >= of.to_at:
        found += await unfit(conn, of)
    return list(dict.fromkeys(found))


async def unfit(conn: Connection, of: Closing) -> list[str]:
    """What keeps statements and invoices from being made of a month that is numbered: they are, and undone again."""
    found = []
    zone = of.settings.company.time_zone
    for deal in await _open_deals(conn, of):
        rehearsal = conn.transaction()
        await rehearsal.start()
        try:
            statement_id = await statements.draft(
                conn, deal["deal_id"], of.month, zone, author=of.author, noted=False
            )
            found += await check_drafts(conn, statement_id, of.settings)
        except BridgeError as error:
            found.append(f"{deal['name']}: {error}")
        finally:
            await rehearsal.rollback()
    return list(dict.fromkeys(found))


def _too_early(of: Closing) -> Iterator[str]:
    if of.numbered_until < of.to_at:
        may_at = of.to_at + timedelta(seconds=of.settings.exports.lag_s)
        yield (
            f"{of.month} can be closed from {may_at.isoformat()} on: until then its last calls may come in"
            " (exports.lag_s)."
        )


def _folders(of: Closing) -> Iterator[str]:
    for folder, fix in ((of.settings.exports.folder, "exports.folder"), (of.out, "--out")):
        there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield f"We may not write in {folder}. Let us, or name another folder: {fix}."


async def _unreachable(of: Closing, one: Recipient) -> list[str]:
    if one.format == "tap3" and not of.settings.exports.tap_schema:
        return [
            f"{one.code} gets TAP3, and exports.tap_schema is empty. Name the module, or choose another format."
        ]
    try:
        await check_reachable(of.settings.exports, one.target)
    except BridgeError as error:
        return [f"Files of {one.code} cannot be delivered: {error}"]
    return []


async def _open_deals(conn: Connection, of: Closing) -> list[Row]:
    """Those of the month whose statement is not approved, or not invoiced: it may have been paid as it is."""
    found = []
    for deal in await statements.deals_of_month(conn, of.month, of.settings.company.time_zone):
        rows = [row for row in await of_deal(conn, of, deal["deal_id"]) if row["state"] != "draft"]
        if not rows:
            found.append(deal)
    return found


async def _papers(conn: Connection, of: Closing, deal: Row, lacks: Lacks) -> list[str]:
    """Whether both sides can be named on the invoices that the deal's terms lead to."""
    partner_id = deal["partner_id"]
    try:
        details = await billing(conn, partner_id)
    except BridgeError as error:
        return [f"{deal['name']}: {error}"]
    us, them, terms = company(of.settings.company), partner(partner_id, details), terms_of(details)
    given = {"partner_id": partner_id, "from_at": of.from_at, "to_at": of.to_at}
    kinds: dict[bool, set[bool]] = {}
    for row in await queries.statements.agreed.all(conn, **given):
        if row["deal_id"] == deal["deal_id"]:
            for who, telecom in _supplied(json.loads(row["terms"])):
                kinds.setdefault(who, set()).add(telecom)
    rates, day = rates_of(of.settings), _last_day(of)
    if _OURS in kinds:
        lacks.look(us, them, rates, day, terms.buyer_reference, telecom=kinds[_OURS])
    if _THEIRS in kinds and terms.self_billing:
        lacks.look(them, us, rates, day, us.key, telecom=kinds[_THEIRS])
    return []


def _supplied(terms: Mapping[str, Any]) -> Iterator[tuple[bool, bool]]:
    agreed = Terms.from_json(terms)
    for name, supplied in _SUPPLIED.items():
        if getattr(agreed, name):
            yield supplied


async def _rates(conn: Connection, of: Closing, deal_ids: Sequence[Any]) -> list[str]:
    """Of foreign currencies in which something was charged, sold or carried."""
    day = _last_day(of)
    given = {"from_at": of.from_at, "to_at": of.to_at, "deal_ids": deal_ids}
    rows = await queries.closing.rates_missing.all(conn, **given, day=day, days=RATE_DAYS_MAX)
    return [
        f"No rate between {row['currency']} and {row['quote']} of the {RATE_DAYS_MAX} days up to {day}."
        f" Note it: callbridge fx set {row['currency']} {row['quote']} RATE --on {day}"
        for row in rows
    ]


def _last_day(of: Closing) -> date:
    return (of.to_at - timedelta(microseconds=1)).astimezone(zone_of(of.settings.company.time_zone)).date()
