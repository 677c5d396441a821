"""What requests and replies about disputes carry."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from bridge.api.fields import (
    AccountId,
    Body,
    CurrencyCode,
    DisputeId,
    EvidenceId,
    Instant,
    Line,
    Money,
    NoteId,
    PartnerId,
    RunId,
    StatementId,
    Told,
    TransferId,
    sample,
    show_at,
    show_id,
    show_money,
)

Kind = Literal["rate", "duration", "only_ours", "only_theirs", "duplicate", "other"]
State = Literal["open", "answered", "accepted", "rejected", "settled", "withdrawn"]
Class = Literal["rate", "duration", "only_ours", "only_theirs"]
SideTold = Literal["operator", "partner"]


def _lines(text: str) -> str:
    if not all(letter.isprintable() or letter == "\n" for letter in text):
        raise ValueError("should hold no control characters but line breaks")
    return text


Title = Annotated[Line, Field(min_length=1, max_length=200, examples=["Rate to Germany mobile in October"])]
Text = Annotated[
    str, Field(min_length=1, max_length=4000, examples=["See row 17 of the file."]), AfterValidator(_lines)
]


class NewDispute(Body):
    """A claim. Whoever opens it claims the amount for itself."""

    model_config = sample(
        kind="rate",
        title="Rate to Germany mobile in October",
        claimed_amount="125.50",
        currency="EUR",
        text="By our deck of 1 October it is 0.021 a minute.",
    )

    partner_id: PartnerId | None = Field(None, description="With whom; a partner's own need not be named")
    account_id: AccountId | None = Field(
        None, description="For operators: with a carrier that is no partner, by its account"
    )
    kind: Kind
    title: Title
    claimed_amount: Money | None = Field(
        None, description="Above 0; may be left out with `run_id`, which tells it"
    )
    currency: CurrencyCode | None = Field(None, description="Of the account; another one is refused")
    deadline: Instant | None = Field(
        None, description="Until when the other side answers; left out: as was agreed"
    )
    statement_id: StatementId | None = None
    text: Text | None = None
    records: list[Annotated[int, Field(ge=1, le=10**15)]] = Field(
        [], max_length=1000, description="`record_id` of the partner's own CDR files"
    )
    run_id: RunId | None = Field(None, description="For operators: a reconciliation")
    run_class: Class | None = Field(None, description="All its calls of a class")

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if self.run_id is None and self.claimed_amount is None:
            raise ValueError("claimed_amount is needed without run_id")
        if self.claimed_amount is not None and self.claimed_amount <= 0:
            raise ValueError("claimed_amount should be above 0")
        if (self.run_id is None) != (self.run_class is None):
            raise ValueError("run_id and run_class need each other")
        return self


class DisputeChange(Body):
    """An outcome, or another deadline. Only whoever opened it withdraws it; the others are for operators."""

    model_config = sample(state="settled", agreed_amount="100.00", text="As agreed on the phone")

    state: Literal["accepted", "rejected", "settled", "withdrawn"] | None = None
    agreed_amount: Money | None = Field(None, description="Of `settled`: from 0 to the claim")
    text: Text | None = None
    deadline: Instant | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.state is None) == (self.deadline is None):
            raise ValueError("should name a state or a deadline, one of them")
        if self.state is None and (self.agreed_amount is not None or self.text is not None):
            raise ValueError("agreed_amount and text belong to a state")
        return self


class NewNote(Body):
    """Something to say about a dispute."""

    model_config = sample(text="We have checked the rate and disagree.")

    text: Text


class Attached(Body):
    """What the audit log keeps of a file of evidence."""

    name: str
    media_type: str
    sha256: str
    bytes: int


class Dispute(Told):
    """A claim, and what became of it. What is agreed on is booked at once, and a line of the next statement."""

    dispute_id: DisputeId
    partner_id: PartnerId | None
    account_id: AccountId
    opened_by: SideTold
    kind: Kind
    title: str
    claimed_amount: Money
    currency: CurrencyCode
    statement_id: StatementId | None
    state: State
    deadline: datetime
    overdue: bool
    agreed_amount: Money | None
    transfer_id: TransferId | None = Field(description="The correction that was booked")
    opened_at: datetime
    decided_at: datetime | None


class Note(Told):
    """Something that was said; with a state, a decision."""

    note_id: NoteId
    side: SideTold
    text: str
    state: State | None
    at: datetime


class Evidence(Told):
    """A file. `url` gives it back as it came."""

    evidence_id: EvidenceId
    side: SideTold
    name: str
    media_type: str
    sha256: str
    bytes: int
    added_at: datetime
    url: str


def show(row: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    return {
        "dispute_id": show_id("dsp", row["dispute_id"]),
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "account_id": show_id("acc", row["account_id"]),
        "opened_by": show_side(row["opened_by"]),
        "kind": row["kind"],
        "title": row["title"],
        "claimed_amount": show_money(row["claimed_micro"]),
        "currency": row["currency"],
        "statement_id": show_id("stm", row["statement_id"]) if row["statement_id"] else None,
        "state": row["state"],
        "deadline": show_at(row["deadline"]),
        "overdue": row["decided_at"] is None and row["deadline"] < at,
        "agreed_amount": show_money(row["agreed_micro"]),
        "transfer_id": show_id("tr", row["transfer_id"]) if row["transfer_id"] else None,
        "opened_at": show_at(row["opened_at"]),
        "decided_at": show_at(row["decided_at"]),
    }


def show_side(side: str) -> str:
    return "operator" if side == "us" else "partner"


def show_note(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "note_id": show_id("dsn", row["note_id"]),
        "side": show_side(row["side"]),
        "text": row["text"],
        "state": row["state"],
        "at": show_at(row["at"]),
    }


def show_evidence(row: Mapping[str, Any], dispute_id: UUID) -> dict[str, Any]:
    evidence_id = show_id("evd", row["evidence_id"])
    return {
        "evidence_id": evidence_id,
        "side": show_side(row["side"]),
        "name": row["name"],
        "media_type": row["media_type"],
        "sha256": row["sha256"].hex(),
        "bytes": row["bytes"],
        "added_at": show_at(row["added_at"]),
        "url": f"/v1/disputes/{show_id('dsp', dispute_id)}/evidence/{evidence_id}/file",
    }
