"""Statements: drafted from the records of a month, approved, which books them, sent, and settled by payments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, Invalid, NotFound
from bridge.ledger.entry import Entry
from bridge.ledger.store import book, system_account
from bridge.partners.month import month as month_of_text
from bridge.partners.settlement import PARTNER, Posting, postings
from bridge.partners.statement import lines_of, total_micro
from bridge.partners.statement_inputs import Inputs
from bridge.partners.statement_line import Line
from bridge.partners.store.account import Row
from bridge.partners.store.deal import deal as deal_of
from bridge.partners.store.statement_sums import inputs_of
from bridge.telephony.money import format_micro

HOUSE: Final = "callbridge"  # who does what nobody does by hand
BANK: Final = "bank"
CHANNEL_CHARS_MAX: Final = 40
NOTE_CHARS_MAX: Final = 500
# Of the inputs, what can only be as it was once the month was closed. A rate may be noted, and a deal signed, later.
_COUNTED: Final = ("records", "purchases", "outcomes", "evidence")


# ---------------------------------------------------------------- reading


async def statements(
    conn: Connection,
    before: UUID,
    rows: int,
    *,
    partner_id: UUID | None = None,
    deal_id: UUID | None = None,
    month: str | None = None,
    state: str | None = None,
) -> Sequence[Row]:
    """Newest first, those older than `before`; of a partner or of all. Partners see none that are drafts."""
    asked: dict[str, Any] = {
        "before": before, "rows": rows, "deal_id": deal_id, "month": month, "state": state,
    }  # fmt: skip
    if partner_id is not None:
        return list(await queries.statements.statements_partner.all(conn, partner_id=partner_id, **asked))
    return list(await queries.statements.statements.all(conn, **asked))


async def statement(conn: Connection, statement_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.statements.statement.one(conn, statement_id=statement_id)
    if row is None:
        raise NotFound("There is no such statement.")
    return row


async def lines(conn: Connection, statement_id: UUID) -> Sequence[Row]:
    return list(await queries.statements.lines.all(conn, statement_id=statement_id))


async def payments(conn: Connection, statement_id: UUID) -> Sequence[Row]:
    return list(await queries.statements.payments.all(conn, statement_id=statement_id))


async def deals_of_month(conn: Connection, month: str, zone: str) -> Sequence[Row]:
    """The deals that were in force at some time of a month: each gets a statement. As ours."""
    from_at, to_at = month_of_text(month, zone)
    return list(await queries.statements.deals_of_month.all(conn, from_at=from_at, to_at=to_at))


# ---------------------------------------------------------------- what happens to one


async def draft(
    conn: Connection,
    deal_id: UUID,
    month: str,
    zone: str,
    *,
    author: str = HOUSE,
    at: datetime | None = None,
    noted: bool = True,
) -> UUID:
    """A draft of a deal's statement for a month, in the place of an earlier draft. As ours, in a transaction.

    at       now, unless given
    noted    whether the audit log is written here; False where whoever asks does that
    raises   NotFound: no such deal · Invalid: no month, one that is not over or in which the deal was not in force, or
             a rate of exchange is missing · Conflict: not all is numbered, it was approved before, or two deals say
             something of the same kind
    """
    deal = await deal_of(conn, deal_id)
    from_at, to_at = month_of_text(month, zone)
    if to_at > (at or datetime.now(UTC)):
        raise Invalid(f"{month} is not over. A statement is of a month that is.")
    await _check_numbered(conn, month, to_at)
    await queries.deals.lock_deal.one(conn, deal_id=deal_id)
    held = await queries.statements.of_deal.one(conn, deal_id=deal_id, from_at=from_at)
    if held is not None and held["state"] != "draft":
        raise Conflict(
            f"The statement of {month} is {held['state']}. What is learnt since is on the next month's."
        )
    inputs = await inputs_of(conn, deal, month, zone)
    made = lines_of(inputs)
    kept = {
        "total_micro": total_micro(made),
        "inputs": json.dumps(inputs.to_json()),
        "first_no": inputs.evidence.first_no,
        "last_no": inputs.evidence.last_no,
        "chain_day": date.fromisoformat(inputs.evidence.hash_day),
        "chain_hash": bytes.fromhex(inputs.evidence.hash) or None,
        "author": author,
    }
    if held is None:
        statement_id: UUID = await queries.statements.add.value(
            conn,
            deal_id=deal_id,
            partner_id=deal["partner_id"],
            month=month,
            from_at=from_at,
            to_at=to_at,
            currency=deal["currency"],
            **kept,
        )
    else:
        statement_id = held["statement_id"]
        await queries.statements.redraft.run(conn, statement_id=statement_id, **kept)
        await queries.statements.forget_lines.run(conn, statement_id=statement_id)
    await queries.statements.add_lines.run(conn, statement_id=statement_id, lines=_as_kept(made))
    if noted:
        await _note(conn, deal["partner_id"], statement_id, "draft", author, {"month": month})
    return statement_id


async def check(conn: Connection, statement_id: UUID) -> list[str]:
    """What is not as it was: none where the lines follow from the inputs, and the inputs from the books. As ours."""
    held = await _held(conn, statement_id)
    found = kept_wrong(Inputs.from_json(json.loads(held["inputs"])), held, await lines(conn, statement_id))
    kept, again = json.loads(held["inputs"]), (await _again(conn, held)).to_json()
    names = kept if held["state"] == "draft" else _COUNTED
    return found + [f"{name}: not what the books say by now" for name in names if again[name] != kept[name]]


async def approve(
    conn: Connection, statement_id: UUID, edition: int | None = None, *, author: str, noted: bool = True
) -> Row | None:
    """Approve a draft and book what it comes to, once. None: it is of another edition by now. As ours.

    The books must be closed until the month's end: else a purchase could still be booked into a month that was settled.

    raises   Conflict: it was approved before, the books are open, or say something else by now
    """
    held = await _held(conn, statement_id)
    if edition is not None and held["edition"] != edition:
        return None
    if held["state"] != "draft":
        raise Conflict(f"The statement is {held['state']} already.")
    books = await queries.statements.state_of_books.one(conn)
    if books["closed_until"] is None or books["closed_until"] < held["to_at"]:
        end = held["to_at"].isoformat()
        raise Conflict(
            f"The books are open for {held['month']}: close them until {end} first, `callbridge period close {end}`."
        )
    if wrong := await check(conn, statement_id):
        raise Conflict(f"The books have changed since it was drafted ({'; '.join(wrong)}). Draft it again.")
    inputs = Inputs.from_json(json.loads(held["inputs"]))
    transfer_id = await _settle(conn, held, postings(inputs, lines_of(inputs)), author)
    await queries.statements.approve.run(
        conn, statement_id=statement_id, transfer_id=transfer_id, author=author
    )
    return await _changed(conn, held, "approve", author, noted=noted)


async def send(
    conn: Connection,
    statement_id: UUID,
    edition: int | None = None,
    *,
    channel: str,
    author: str,
    noted: bool = True,
) -> Row | None:
    """Note that it was sent, and how. One that comes to nothing is settled with that. None: another edition. As ours.

    raises   Conflict: it is no approved one · Invalid: no channel
    """
    if not 1 <= len(channel.strip()) <= CHANNEL_CHARS_MAX or not channel.isprintable():
        raise Invalid(f"Say in 1 to {CHANNEL_CHARS_MAX} characters how it was sent, such as email.")
    held = await _held(conn, statement_id)
    if edition is not None and held["edition"] != edition:
        return None
    if held["state"] != "approved":
        raise Conflict(f"The statement is {held['state']}. One is sent once, after it was approved.")
    await queries.statements.send.run(conn, statement_id=statement_id, channel=channel, author=author)
    if not held["total_micro"]:
        await queries.statements.settle.run(conn, statement_id=statement_id, whole=True)
    return await _changed(conn, held, "send", author, {"channel": channel}, noted=noted)


async def settle(
    conn: Connection,
    statement_id: UUID,
    amount_micro: int | None = None,
    edition: int | None = None,
    *,
    key: str,
    author: str,
    note: str = "",
    noted: bool = True,
) -> Row | None:
    """Book a payment of a statement that was sent, by whoever owes it. With nothing open it is settled. As ours.

    amount_micro   positive; None: all that is open
    key            the same again, with the same amount, changes nothing
    returns        the statement; None: another edition
    raises         Invalid: not positive · Conflict: more than is open, not sent, or the key was used for another one
    """
    if (amount_micro is not None and amount_micro <= 0) or len(note) > NOTE_CHARS_MAX:
        raise Invalid("A payment is more than nothing; who pays follows from the statement.")
    held = await _held(conn, statement_id)
    before = await queries.statements.payment.one(conn, key=key)
    if before is not None:
        same = before["statement_id"] == statement_id and amount_micro in (None, before["amount_micro"])
        if not same or (before["note"], before["author"]) != (note, author):
            raise Conflict("The key was used for another payment.")
        return await statement(conn, statement_id)
    if edition is not None and held["edition"] != edition:
        return None
    if held["state"] != "sent":
        raise Conflict(f"The statement is {held['state']}. Payments are of statements that were sent.")
    paid = await queries.statements.paid.value(conn, statement_id=statement_id)
    open_micro = abs(held["total_micro"]) - paid
    paid_micro = open_micro if amount_micro is None else amount_micro
    if paid_micro > open_micro:
        raise Conflict(f"Only {format_micro(open_micro)} {held['currency']} are open.")
    transfer_id = await _pay(conn, held, paid_micro, key=key, author=author, note=note)
    await queries.statements.add_payment.run(
        conn, statement_id=statement_id, amount_micro=paid_micro, transfer_id=transfer_id, key=key, note=note,
        author=author,
    )  # fmt: skip
    await queries.statements.settle.run(conn, statement_id=statement_id, whole=paid_micro == open_micro)
    return await _changed(conn, held, "pay", author, {"amount": format_micro(paid_micro)}, noted=noted)


# ---------------------------------------------------------------- how


def kept_wrong(inputs: Inputs, kept: Row, rows: Sequence[Row]) -> list[str]:
    """Where lines and total as kept are not what follows from the inputs."""
    made = lines_of(inputs)
    found = [] if total_micro(made) == kept["total_micro"] else ["total: does not follow from the inputs"]
    if [dict(row) | {"detail": json.loads(row["detail"])} for row in rows] != json.loads(_as_kept(made)):
        found.append("lines: do not follow from the inputs")
    return found


def _as_kept(made: Sequence[Line]) -> str:
    return json.dumps(
        [
            {
                "line_no": no,
                "kind": line.kind.value,
                "title": line.title,
                "quantity": line.quantity,
                "unit": line.unit,
                "rate_micro": line.rate_micro,
                "base_micro": line.base_micro,
                "amount_micro": line.amount_micro,
                "purpose": line.purpose,
                "of_kind": line.of.value,
                "detail": dict(line.detail),
            }
            for no, line in enumerate(made, 1)
        ]
    )


async def _held(conn: Connection, statement_id: UUID) -> Row:
    row: Row | None = await queries.statements.hold.one(conn, statement_id=statement_id)
    if row is None:
        raise NotFound("There is no such statement.")
    return row


async def _again(conn: Connection, held: Row) -> Inputs:
    kept = json.loads(held["inputs"])
    return await inputs_of(conn, await deal_of(conn, held["deal_id"]), kept["month"], kept["time_zone"])


async def _check_numbered(conn: Connection, month: str, to_at: datetime) -> None:
    until = (await queries.statements.state_of_books.one(conn))["numbered_until"]
    if until is None or until < to_at:
        told = f"until {until.isoformat()} only" if until else "not at all"
        raise Conflict(f"The calls of {month} are not all numbered, {told}: that comes first.")


async def _settle(conn: Connection, held: Row, booked: Sequence[Posting], author: str) -> UUID | None:
    """Book in the open period: the month itself is closed."""
    if not booked:
        return None
    entries = []
    for one in booked:
        account = one.account
        if account == PARTNER:
            account = str(
                await queries.statements.partner_account.value(
                    conn, partner_id=held["partner_id"], currency=one.currency
                )
            )
        elif len(account) < len(str(held["partner_id"])):
            account = await system_account(conn, account, one.currency)
        entries.append(Entry(account, one.amount_micro, one.currency))
    key, note = f"statement:{held['statement_id']}", f"statement of {held['month']}"
    return UUID(await book(conn, "settlement", entries, key=key, author=author, note=note))


async def _pay(conn: Connection, held: Row, paid_micro: int, *, key: str, author: str, note: str) -> UUID:
    """What we owe goes from the bank to the partner, what it owes the other way."""
    unit = held["currency"]
    signed = -paid_micro if held["total_micro"] > 0 else paid_micro
    account = await queries.statements.partner_account.value(
        conn, partner_id=held["partner_id"], currency=unit
    )
    entries = (
        Entry(str(account), signed, unit),
        Entry(await system_account(conn, BANK, unit), -signed, unit),
    )
    told = note or f"statement of {held['month']}"
    return UUID(await book(conn, "payment", entries, key=f"payment {key}", author=author, note=told))


async def _changed(
    conn: Connection, held: Row, action: str, author: str, detail: Row | None = None, *, noted: bool
) -> Row:
    """Tell whoever listens, write it down, and the statement as it is now."""
    await queries.statements.tell.run(conn, statement_id=held["statement_id"])
    if noted:
        await _note(conn, held["partner_id"], held["statement_id"], action, author, detail or {})
    return await statement(conn, held["statement_id"])


async def _note(
    conn: Connection, partner_id: UUID, statement_id: UUID, action: str, author: str, detail: Row
) -> None:
    await queries.statements.note.run(
        conn,
        partner_id=partner_id,
        actor=author,
        action=f"statement.{action}",
        subject=f"stm_{statement_id.hex}",
        detail=json.dumps(dict(detail)),
    )
