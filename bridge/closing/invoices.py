"""The month's invoices: of each approved statement, validated, with their documents in the folder."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from lxml import etree

from bridge import queries
from bridge.closing.agreement import Agreement
from bridge.closing.closing import Closing
from bridge.closing.statements import of_month
from bridge.database import Connection
from bridge.exports.invoicing import direction
from bridge.exports.store import invoice as invoices
from bridge.telephony.money import parse_micro

CENT_MICRO: Final = 10_000
KINDS: Final = ("xml", "pdf")
# Of the header's sums in Cross Industry Invoice (UN/CEFACT D16B): BT-109, BT-112
_NET: Final = "{*}TaxBasisTotalAmount"
_GROSS: Final = "{*}GrandTotalAmount"
_PARSER: Final = {"resolve_entities": False, "no_network": True}


async def issue_invoices(conn: Connection, of: Closing) -> str:
    """Each number is given in a transaction of its own, so that a kill leaves none without its document."""
    made = before = 0
    for statement in await of_month(conn, of):
        async with conn.transaction():
            issued = await invoices.issue(conn, statement["statement_id"], of.settings, of.author)
        for invoice_id in issued:
            held = await invoices.invoice(conn, invoice_id)
            if held["number"] is None:
                async with conn.transaction():
                    await invoices.validate(conn, invoice_id, of.settings, of.author)
                made += 1
            else:
                before += 1
            await _lay_documents(conn, of, invoice_id)
            of.progress("invoices", made + before, 0)
    return f"{made} numbered, {before} were before"


async def _lay_documents(conn: Connection, of: Closing, invoice_id: UUID) -> None:
    for kind in KINDS:
        row = await invoices.document(conn, invoice_id, kind)
        await asyncio.to_thread(of.lay, f"{row['number']}.{kind}", row["content"])


async def lay_invoices(conn: Connection, of: Closing) -> None:
    """To the micro-unit beside the statement: what was rounded to cents is kept. And the document as it lies there."""
    for statement in await of_month(conn, of):
        rows = await queries.closing.invoiced.all(conn, statement_id=statement["statement_id"])
        signs = [direction(self_billed=row["self_billed"], credit=row["type"] == "381") for row in rows]
        said = sum(sign * (row["net_cents"] * CENT_MICRO - row["rounding_micro"])
                   for sign, row in zip(signs, rows, strict=True))  # fmt: skip
        lines = sum(sign * row["lines_micro"] for sign, row in zip(signs, rows, strict=True))
        source = sum(row["source_micro"] for row in rows)
        scope, currency = statement["partner"], statement["currency"]
        beside = {"statement": source, "lines": lines, "net": said}
        of.agreements.append(Agreement(scope, f"invoiced, {statement['deal']}", currency, beside))
        if source != statement["total_micro"]:
            of.notes.append(
                f"{scope}, {statement['deal']}: what the partner supplied is for its own invoice, it agreed to no other"
            )
        for row in rows:
            of.agreements += await _document(of, scope, currency, row)


async def _document(of: Closing, scope: str, currency: str, row: Mapping[str, Any]) -> list[Agreement]:
    """The sums of the document that was laid into the folder, read from there."""
    path = of.out / f"{row['number']}.xml"
    try:
        root = etree.fromstring(await asyncio.to_thread(path.read_bytes), etree.XMLParser(**_PARSER))
        net, gross = (parse_micro(str(root.findtext(f".//{name}"))) for name in (_NET, _GROSS))
    except (OSError, etree.XMLSyntaxError, ValueError) as error:
        of.problems.append(f"{path.name} cannot be read back: {error}")
        return []
    kept = {"net": (row["net_cents"], net), "gross": (row["gross_cents"], gross)}
    return [
        Agreement(scope, f"{row['number']} {what}", currency, {"books": cents * CENT_MICRO, "document": said})
        for what, (cents, said) in kept.items()
    ]
