"""Disputes in the database: opened, argued about, decided; and what was agreed on booked, once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, Invalid, NotFound
from bridge.ledger.store import correct
from bridge.partners import dispute as rules
from bridge.partners.dispute import Side
from bridge.partners.reconciliation import claim_micro
from bridge.partners.store.reconcile import counterparty
from bridge.telephony.money import format_micro

Row: TypeAlias = Mapping[str, Any]
RECORDS_MAX: Final = 1_000  # named one by one
_LAST: Final = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Claim:
    """What is claimed, by whom, and about what.

    claimed_micro   in favour of whoever opens it; None: what the run says, where it is about one
    deadline        None: as agreed with the counterparty
    class_, rows    of the run: a class of it, or rows of its file
    records         numbers of the partner's own records
    """

    opened_by: Side
    kind: str
    title: str
    author: str
    claimed_micro: int | None = None
    currency: str | None = None
    deadline: datetime | None = None
    statement_id: UUID | None = None
    run_id: UUID | None = None
    class_: str | None = None
    rows: Sequence[int] = ()
    records: Sequence[int] = ()


async def disputes(
    conn: Connection,
    before: UUID,
    rows: int,
    *,
    partner_id: UUID | None = None,
    state: str | None = None,
    overdue_at: datetime | None = None,
) -> Sequence[Row]:
    """Newest first, those older than `before`. overdue_at: only those whose answer was due before, and is not there"""
    return list(
        await queries.disputes.disputes.all(
            conn, before=before, rows=rows, partner_id=partner_id, state=state, overdue_at=overdue_at
        )
    )


async def ours(
    conn: Connection, *, state: str | None = None, overdue_at: datetime | None = None, rows: int = 200
) -> Sequence[Row]:
    """As operators look at them: undecided ones first, by deadline."""
    return list(
        await queries.disputes.ours.all(conn, dispute_id=None, state=state, overdue_at=overdue_at, rows=rows)
    )


async def our_dispute(conn: Connection, dispute_id: UUID) -> Row:
    """With counterparty and run. raises NotFound"""
    row: Row | None = await queries.disputes.ours.one(
        conn, dispute_id=dispute_id, state=None, overdue_at=None, rows=1
    )
    if row is None:
        raise NotFound("There is no such dispute.")
    return row


async def dispute(conn: Connection, dispute_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.disputes.dispute.one(conn, dispute_id=dispute_id)
    if row is None:
        raise NotFound("There is no such dispute.")
    return row


async def find_statement(conn: Connection, statement_id: UUID, account_id: UUID) -> None:
    """raises   NotFound: there is none of this id with that counterparty, as far as whoever asks may see"""
    if not await queries.disputes.statement.value(conn, statement_id=statement_id, account_id=account_id):
        raise NotFound("There is no such statement.")


async def open_dispute(conn: Connection, account_id: UUID, claim: Claim) -> Row:
    """With the partner or carrier whose account it is. In a transaction.

    raises   Invalid: nothing is claimed, in another currency than the account's, or about records that are not there
             NotFound: no such counterparty, run or row · Conflict: the run was not matched
    """
    party = await counterparty(conn, None, account_id)
    if claim.currency not in (None, party["currency"]):
        raise Invalid(f"the account of {party['name']} is kept in {party['currency']}: claim it in that")
    claimed = claim.claimed_micro
    if claim.run_id is not None:
        worth = await _worth(conn, party, claim)
        claimed = worth if claimed is None else claimed
    if claimed is None or claimed <= 0:
        raise Invalid("nothing is claimed: name an amount above 0")
    dispute_id: UUID = await queries.disputes.add.value(
        conn, account_id=account_id, partner_id=party["partner_id"], opened_by=claim.opened_by, kind=claim.kind,
        title=claim.title, claimed_micro=claimed, currency=party["currency"], statement_id=claim.statement_id,
        run_id=claim.run_id, author=claim.author, class_name=claim.class_,
        deadline=claim.deadline or datetime.now(UTC) + timedelta(days=party["dispute_days"]),
    )  # fmt: skip
    if claim.run_id is not None:
        await queries.disputes.add_rows_of_run.value(
            conn,
            dispute_id=dispute_id,
            run_id=claim.run_id,
            row_nos=list(claim.rows) or None,
            class_name=claim.class_,
        )
    if claim.records:
        await _add_records(conn, dispute_id, party["partner_id"], set(claim.records))
    return await dispute(conn, dispute_id)


async def _worth(conn: Connection, party: Row, claim: Claim) -> int:
    """What the calls of a run that the claim is about are worth to whoever claims."""
    run = await queries.reconcile.run_of.one(conn, run_id=claim.run_id)
    if run is None or run["account_id"] != party["account_id"]:
        raise NotFound(f"{party['name']} has no run {claim.run_id}")
    if run["state"] != "matched":
        raise Conflict(f"run {claim.run_id} is not matched yet: `callbridge reconcile run {claim.run_id}`")
    if claim.class_ is None and not claim.rows:
        raise Invalid("name a class of the run, or rows of its file")
    sums = await queries.disputes.sums_of_run.all(
        conn, run_id=claim.run_id, row_nos=list(claim.rows) or None, class_name=claim.class_
    )
    if not sums or (claim.rows and sum(one["calls"] for one in sums) != len(set(claim.rows))):
        raise NotFound(f"run {claim.run_id} has no such calls that differ")
    worth = sum(claim_micro(run["leg"], one["class"], one["our_micro"], one["their_micro"]) for one in sums)
    worth = worth if claim.opened_by == "us" else -worth
    if worth <= 0 and claim.claimed_micro is None:
        in_favour = format_micro(-worth)
        raise Invalid(
            f"the difference of {in_favour} {run['currency']} is not in favour of whoever claims it"
        )
    return worth


async def _add_records(
    conn: Connection, dispute_id: UUID, partner_id: UUID | None, records: set[int]
) -> None:
    if len(records) > RECORDS_MAX:
        raise Invalid(f"name at most {RECORDS_MAX} records")
    added = await queries.disputes.add_records.value(
        conn, dispute_id=dispute_id, partner_id=partner_id, records=sorted(records)
    )
    if added != len(records):
        raise Invalid(f"{len(records) - added} of the records are not there")


async def _undecided(conn: Connection, dispute_id: UUID) -> Row:
    """The row, locked. raises NotFound · Conflict: it is decided"""
    row: Row | None = await queries.disputes.lock.one(conn, dispute_id=dispute_id)
    if row is None:
        raise NotFound("There is no such dispute.")
    if row["state"] not in rules.UNDECIDED:
        raise Conflict(f"The dispute is {row['state']}: nothing is added to it any more.")
    return row


async def comment(conn: Connection, dispute_id: UUID, side: Side, author: str, text: str) -> Row:
    """Say something. The first word of whoever did not open it is the answer. raises NotFound · Conflict"""
    row = await _undecided(conn, dispute_id)
    state = "answered" if row["state"] == "open" and side != row["opened_by"] else None
    note: Row = await queries.disputes.add_note.one(
        conn,
        dispute_id=dispute_id,
        partner_id=row["partner_id"],
        side=side,
        author=author,
        text=text,
        state=state,
    )
    await _change(conn, dispute_id, state=state)
    return note


async def attach(
    conn: Connection, dispute_id: UUID, side: Side, author: str, *, name: str, media_type: str, content: bytes
) -> Row:
    """Keep a file of evidence. raises NotFound · Conflict: it is there, or too many are · Invalid: its size or kind"""
    row = await _undecided(conn, dispute_id)
    if media_type not in rules.MEDIA_TYPES:
        raise Invalid(f"Evidence is one of {', '.join(rules.MEDIA_TYPES)}.")
    if not 1 <= len(content) <= rules.EVIDENCE_BYTES_MAX:
        raise Invalid(f"A file of evidence has 1 to {rules.EVIDENCE_BYTES_MAX} bytes.")
    if await queries.disputes.evidence_count.value(conn, dispute_id=dispute_id) >= rules.EVIDENCE_MAX:
        raise Conflict(f"The dispute has {rules.EVIDENCE_MAX} files already. Pack several into one.")
    kept: Row = await queries.disputes.add_evidence.one(
        conn, dispute_id=dispute_id, partner_id=row["partner_id"], side=side, name=rules.safe_name(name),
        media_type=media_type, sha256=hashlib.sha256(content).digest(), bytes=len(content), content=content,
        author=author,
    )  # fmt: skip
    await _change(conn, dispute_id)
    return kept


async def decide(
    conn: Connection,
    dispute_id: UUID,
    after: str,
    side: Side,
    author: str,
    *,
    agreed_micro: int | None = None,
    text: str = "",
    edition: int | None = None,
) -> Row | None:
    """Give a dispute its outcome, and book what was agreed on: once, in the same transaction.

    edition   as its author has read it; another by now: None is returned
    raises    NotFound · Conflict: it is decided · Invalid: that side cannot, or the amount is none
    """
    row = await _undecided(conn, dispute_id)
    if edition is not None and edition != row["edition"]:
        return None
    if wrong := rules.problem(row["state"], after, row["opened_by"], side):
        raise Invalid(f"{wrong[0].upper()}{wrong[1:]}.")
    try:
        agreed = rules.agreed_micro(after, row["claimed_micro"], agreed_micro)
    except ValueError as error:
        raise Invalid(f"{str(error)[0].upper()}{str(error)[1:]}.") from None
    transfer_id = None
    if agreed:
        owed = rules.owed_micro(row["opened_by"], agreed)
        reason = f"dispute {dispute_id}: {row['title']}"
        key = f"dispute:{dispute_id}"
        transfer_id = UUID(
            await correct(conn, str(row["account_id"]), owed, author=author, reason=reason, key=key)
        )
    await queries.disputes.add_note.one(
        conn,
        dispute_id=dispute_id,
        partner_id=row["partner_id"],
        side=side,
        author=author,
        text=text,
        state=after,
    )
    return await _change(
        conn,
        dispute_id,
        state=after,
        agreed_micro=agreed,
        transfer_id=transfer_id,
        decided=after != "answered",
    )


async def postpone(
    conn: Connection, dispute_id: UUID, deadline: datetime, edition: int | None = None
) -> Row | None:
    """Another deadline. raises as `decide`"""
    row = await _undecided(conn, dispute_id)
    if edition is not None and edition != row["edition"]:
        return None
    return await _change(conn, dispute_id, deadline=deadline)


async def _change(conn: Connection, dispute_id: UUID, **given: Any) -> Row:
    usual = {"state": None, "deadline": None, "agreed_micro": None, "transfer_id": None, "decided": False}
    row: Row = await queries.disputes.change.one(conn, dispute_id=dispute_id, **(usual | given))
    return row


async def notes(conn: Connection, dispute_id: UUID, before: UUID = _LAST, rows: int = 1_000) -> Sequence[Row]:
    """What was said and decided, newest first."""
    return list(await queries.disputes.notes.all(conn, dispute_id=dispute_id, before=before, rows=rows))


async def evidence(
    conn: Connection, dispute_id: UUID, before: UUID = _LAST, rows: int = 1_000
) -> Sequence[Row]:
    """Its files, newest first, without their bytes."""
    return list(await queries.disputes.evidence.all(conn, dispute_id=dispute_id, before=before, rows=rows))


async def evidence_file(conn: Connection, dispute_id: UUID, evidence_id: UUID) -> Row:
    """name, sha256 and content. raises NotFound"""
    row: Row | None = await queries.disputes.evidence_file.one(
        conn, dispute_id=dispute_id, evidence_id=evidence_id
    )
    if row is None:
        raise NotFound("There is no such file.")
    return row


async def dispute_outcomes(
    conn: Connection, account_id: UUID, from_at: datetime, to_at: datetime
) -> Sequence[Row]:
    """What was agreed on from an instant to before another, as it was decided. All of it is in the ledger already.

    Each has dispute_id, kind, title, decided_at, transfer_id, currency, and amount_micro: positive is what the
    counterparty gets from us.
    """
    return list(
        await queries.disputes.outcomes.all(conn, account_id=account_id, from_at=from_at, to_at=to_at)
    )
