"""Invoices as text, and what the command line does with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from io import StringIO
from typing import Any, Final
from uuid import UUID

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.api.invoice_told import show
from bridge.api.invoice_told import whole as whole_of
from bridge.api.page import LAST
from bridge.config import Settings
from bridge.database import Connection
from bridge.errors import Invalid, NotFound
from bridge.exports.invoice import CENT
from bridge.exports.store import invoice as store
from bridge.exports.store import invoice_payment as after
from bridge.exports.store.billing import billing_row, merge_billing
from bridge.partners.store import partner as partner_row
from bridge.partners.store import partners
from bridge.telephony.money import parse_micro
from bridge.telling.seen import seen

WIDTH: Final = 140
LIST_MAX: Final = 200
_ROWS: Final = 100
_RIGHT: Final = frozenset({"net", "tax", "gross", "open", "quantity", "price", "vat %"})
_TYPES: Final = {"380": "invoice", "381": "credit note", "389": "self-billed"}
_ID: Final = re.compile(r"(?:inv_)?([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_PART: Final = re.compile(r"([0-9]{1,5})=(-?[0-9.]{1,20})")


async def named(conn: Connection, text: str) -> UUID:
    """By its number or its id. raises NotFound"""
    found = _ID.fullmatch(text)
    return UUID(found[1]) if found else await store.numbered(conn, text)


async def issued(
    conn: Connection, what: str, settings: Settings, author: str, *, draft: bool
) -> list[dict[str, Any]]:
    """The invoices of a statement (`stm_…`) or of all approved ones of a month, with their numbers unless `draft`.

    raises   as `store.issue` and `store.validate`; NotFound: nothing of that month is approved
    """
    found = _ID.fullmatch(what.removeprefix("stm_"))
    statements = [UUID(found[1])] if found else await store.statements_of_month(conn, what)
    if not statements:
        raise NotFound(
            f"No statement of {what[:20]} is approved: callbridge statement list --month {what[:20]}"
        )
    made = []
    for statement_id in statements:
        for invoice_id in await store.issue(conn, statement_id, settings, author):
            before = await store.invoice(conn, invoice_id)
            if not draft and before["state"] == "new":
                await store.validate(conn, invoice_id, settings, author)
            if before["number"] is None:
                await after.note(conn, invoice_id, "issue", author)
            made.append(await _told(conn, invoice_id))
    return made


async def latest(conn: Connection, state: str | None) -> list[dict[str, Any]]:
    return [_row(row) for row in await store.invoices(conn, LAST, LIST_MAX, state=state)]


async def whole(conn: Connection, what: str) -> dict[str, Any]:
    """raises   NotFound"""
    row = await store.invoice(conn, await named(conn, what))
    return await whole_of(conn, row) | {"partner": row["partner"]}


async def document(conn: Connection, what: str, kind: str) -> tuple[str, bytes]:
    """A name for the file, and its bytes. raises NotFound"""
    row = await store.document(conn, await named(conn, what), kind)
    return f"{row['number']}.{kind}", row["content"]


async def moved(conn: Connection, what: str, action: str, author: str) -> dict[str, Any]:
    """action   send, hold or release"""
    steps = {"send": after.send, "hold": after.put_on_hold, "release": after.release}
    invoice_id = await named(conn, what)
    await steps[action](conn, invoice_id)
    await after.note(conn, invoice_id, action, author)
    return await _told(conn, invoice_id)


async def paid(
    conn: Connection, what: str, amount_micro: int | None, on: date, key: str, author: str, note: str
) -> dict[str, Any]:
    invoice_id = await named(conn, what)
    await after.pay(conn, invoice_id, amount_micro, on, key=key, author=author, note=note)
    await after.note(conn, invoice_id, "pay", author, {"on": on.isoformat()})
    return await _told(conn, invoice_id)


async def credited(
    conn: Connection, what: str, parts: Sequence[str], settings: Settings, author: str, reason: str
) -> dict[str, Any]:
    invoice_id = await named(conn, what)
    wanted = _parts(parts) if parts else None
    credit_id = await after.credit(conn, invoice_id, wanted, settings, author=author, reason=reason)
    await after.note(conn, credit_id, "credit", author, {"of": f"inv_{invoice_id.hex}"})
    return await _told(conn, credit_id)


def _parts(texts: Sequence[str]) -> dict[int, int]:
    parts: dict[int, int] = {}
    for text in texts:
        found = _PART.fullmatch(text)
        if found is None or int(found[1]) in parts:
            raise Invalid(
                f"{text[:40]!r} is no part of an invoice. Write each line once, such as --line 1=12.50"
            )
        try:
            micro = parse_micro(found[2])
        except ValueError as error:
            raise Invalid(str(error)) from None
        if micro % CENT:
            raise Invalid(f"{text[:40]!r} has parts of a cent.")
        parts[int(found[1])] = micro // CENT
    return parts


async def billing_of(conn: Connection, what: str, changed: Mapping[str, Any]) -> dict[str, Any]:
    """A partner's billing details, after what is given was changed. what: its name or id. raises NotFound · Invalid"""
    partner_id = await _partner(conn, what)
    row = await merge_billing(conn, partner_id, changed) if changed else await billing_row(conn, partner_id)
    if row is None:
        raise NotFound(
            f"There are no billing details of {what[:80]} yet. Give --legal-name and --country at least."
        )
    told = {name: value for name, value in dict(row).items() if name not in ("edition", "changed_at")}
    return told | {"partner_id": f"prt_{partner_id.hex}", "changed_at": row["changed_at"].isoformat()}


async def _partner(conn: Connection, what: str) -> UUID:
    found = _ID.fullmatch(what.removeprefix("prt_"))
    if found:
        partner_id: UUID = (await partner_row(conn, UUID(found[1])))["partner_id"]
        return partner_id
    before = LAST
    while rows := await partners(conn, before, _ROWS):
        for row in rows:
            if row["name"] == what:
                return UUID(str(row["partner_id"]))
        before = rows[-1]["partner_id"]
    raise NotFound(f"There is no partner {what[:80]!r}.")


async def _told(conn: Connection, invoice_id: UUID) -> dict[str, Any]:
    return _row(await store.invoice(conn, invoice_id))


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return show(row) | {"partner": row["partner"]}


# ---------------------------------------------------------------- text


def tell_invoices(found: Sequence[Mapping[str, Any]]) -> str:
    """One line an invoice."""
    if not found:
        return "there are no invoices"
    columns = ("number", "what", "partner", "state", "issued", "due", "net", "tax", "gross", "open", "", "id")
    return _table(columns, [_cells(one) for one in found])


def _cells(one: Mapping[str, Any]) -> list[object]:
    return [
        one["number"] or "draft", _TYPES[one["type"]], one["partner"], one["state"], one["issued_on"], one["due_on"],
        one["net"], one["tax"], one["gross"], one["open"], one["currency"], one["invoice_id"],
    ]  # fmt: skip


def tell_invoice(one: Mapping[str, Any]) -> str:
    """The invoice with its lines and payments."""
    lines = [
        (
            line["line_no"], line["title"], f"{line['quantity']} {line['unit']}",
            f"{line['price']}/{line['price_base']}", line["vat_percent"], line["net"],
        )
        for line in one["lines"]
    ]  # fmt: skip
    paid = [
        f"  {each['paid_on']}  {each['kind']}  {each['amount']} {one['currency']}" for each in one["payments"]
    ]
    who = "from" if one["self_billed"] else "to"
    return "\n".join(
        [
            f"{_TYPES[one['type']]} {one['number'] or '(draft)'} {who} {one['partner']}, {one['state']}",
            f"for {one['from_on']} to {one['until_on']}, issued {one['issued_on'] or '–'}, due {one['due_on'] or '–'}",
            _table(("no", "what", "quantity", "price", "vat %", "net"), lines),
            f"net {one['net']}, tax {one['tax']}, total {one['gross']}, open {one['open']} {one['currency']}",
            *paid,
        ]
    )


def tell_billing(told: Mapping[str, Any]) -> str:
    """One fact a line."""
    return "\n".join(
        f"{name.replace('_', ' '):<18}{seen(value)}"
        for name, value in told.items()
        if value not in ("", None)
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = Console(file=StringIO(), width=WIDTH, highlight=False, no_color=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _RIGHT else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("–" if cell is None else seen(cell)) for cell in row))
    out.print(table)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().strip("\n")
