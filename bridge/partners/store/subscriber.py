"""Subscribers: who calls through an app with which number, and how it was proved that the number is theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, NotFound
from bridge.partners.proof import CODES_AN_HOUR, LASTS_S, TRIES_MAX, is_code, new_code
from bridge.partners.store.account import SUBSCRIBERS, Row
from bridge.rollout import store as rollout

PENDING: Final = "pending"
CLOSED: Final = "closed"
ATTESTED: Final = "attested"


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account that is made with its subscriber, in the currency of the plan."""

    funding: str = "prepaid"
    credit_limit_micro: int = 0
    call_cap: int | None = None


class TooManyCodes(Conflict):
    """So many were asked for within the hour that guessing would pay."""


async def subscribers(
    conn: Connection,
    before: UUID,
    rows: int,
    *,
    partner_id: UUID | None = None,
    a_number: str | None = None,
    state: str | None = None,
    plan_id: UUID | None = None,
) -> Sequence[Row]:
    """Newest first, those older than `before`; of a partner or of all."""
    asked = {"before": before, "rows": rows, "a_number": a_number, "state": state, "plan_id": plan_id}
    if partner_id is not None:
        return list(await queries.subscribers.subscribers_partner.all(conn, partner_id=partner_id, **asked))
    return list(await queries.subscribers.subscribers.all(conn, **asked))


async def subscriber(conn: Connection, subscriber_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.subscribers.subscriber.one(conn, subscriber_id=subscriber_id)
    if row is None:
        raise NotFound("There is no such subscriber.")
    return row


async def add_subscriber(
    conn: Connection,
    app: str,
    a_number: str,
    plan_id: UUID,
    account: Row | NewAccount,
    partner_id: UUID | None,
) -> Row:
    """A subscriber who may call once the number is proved, or waits where the app has a rollout. As ours.

    account  one that exists, or what a new one is like
    raises   NotFound: no such app, nor plan nor account of this partner · Conflict: the number has a subscriber in
             this app, or account and plan do not go together
    """
    app_id = await queries.subscribers.app_of.value(conn, app=app)
    if app_id is None:
        raise NotFound("There is no such app.")
    currency = await _plan_currency(conn, plan_id, partner_id)
    if isinstance(account, NewAccount):
        account_id = await _add_account(conn, a_number, currency, account, partner_id)
    else:
        if account["partner_id"] != partner_id:
            raise NotFound("There is no such account.")
        if account["kind"] != SUBSCRIBERS or account["state"] == CLOSED or account["currency"] != currency:
            raise Conflict(f"Calls of this plan are paid from an open subscriber's account in {currency}.")
        account_id = account["account_id"]
    for gone in await queries.subscribers.give_way.all(conn, a_number=a_number, app_id=app_id):
        await _tell(conn, gone["partner_id"], gone["subscriber_id"], gone["edition"], CLOSED)
    made = await queries.subscribers.add_subscriber.value(
        conn, app_id=app_id, a_number=a_number, account_id=account_id, plan_id=plan_id, partner_id=partner_id
    )
    if made is None:
        raise Conflict("This number has a subscriber in this app already.")
    return await subscriber(conn, made)


async def change_subscriber(
    conn: Connection,
    found: Row,
    edition: int,
    *,
    plan_id: UUID | None = None,
    state: str | None = None,
    zone: str | None = None,
) -> Row | None:
    """What is None stays. As ours. Returns None when the subscriber is of another edition by now.

    raises   NotFound: no such plan of this partner · Conflict: closed, not proved yet, or a plan of another currency
    """
    subscriber_id, was = found["subscriber_id"], found["state"]
    if was == CLOSED:
        raise Conflict("The subscriber is closed.")
    if was == PENDING and state not in (None, CLOSED):
        raise Conflict("Nobody has proved yet that the number is this subscriber's.")
    if plan_id is not None:
        currency = await _plan_currency(conn, plan_id, found["partner_id"])
        account = await queries.accounts.account.one(conn, account_id=found["account_id"])
        if account["currency"] != currency:
            raise Conflict(f"The account is kept in {account['currency']}, and this plan is in {currency}.")
    row = await queries.subscribers.change.one(
        conn, subscriber_id=subscriber_id, edition=edition, plan_id=plan_id, state=state, zone=zone
    )
    if row is None:
        return None
    if row["state"] == CLOSED:
        await rollout.leave(conn, subscriber_id, datetime.now(UTC))
    await _tell(conn, found["partner_id"], subscriber_id, row["edition"], row["state"])
    return await subscriber(conn, subscriber_id)


async def proofs(conn: Connection, subscriber_id: UUID, before: UUID, rows: int) -> Sequence[Row]:
    """Newest first."""
    return list(
        await queries.subscribers.proofs.all(conn, subscriber_id=subscriber_id, before=before, rows=rows)
    )


async def proof(conn: Connection, subscriber_id: UUID, proof_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.subscribers.proof.one(
        conn, subscriber_id=subscriber_id, proof_id=proof_id
    )
    if row is None:
        raise NotFound("There is no such proof of this subscriber.")
    return row


async def attest(conn: Connection, subscriber_id: UUID, reference: str, actor: str) -> Row:
    """The carrier says that the number is its subscriber's. As ours.

    raises   Conflict: the subscriber is closed
    """
    await _lock_open(conn, subscriber_id)
    proof_id = await queries.subscribers.add_proof.value(
        conn,
        subscriber_id=subscriber_id,
        method=ATTESTED,
        reference=reference,
        actor=actor,
        salt=None,
        hash=None,
        lasts_s=None,
    )
    await _proved(conn, subscriber_id)
    return await proof(conn, subscriber_id, proof_id)


async def ask_code(conn: Connection, subscriber_id: UUID, reference: str, actor: str) -> tuple[Row, str]:
    """A new code to be sent to the number, and its proof. Codes of before are void. As ours.

    raises   Conflict: the subscriber is closed · TooManyCodes
    """
    await _lock_open(conn, subscriber_id)
    if await queries.subscribers.codes_lately.value(conn, subscriber_id=subscriber_id) >= CODES_AN_HOUR:
        raise TooManyCodes(f"{CODES_AN_HOUR} codes were asked for within the hour. Ask again later.")
    code = new_code()
    proof_id = await queries.subscribers.add_proof.value(
        conn,
        subscriber_id=subscriber_id,
        method="code",
        reference=reference,
        actor=actor,
        salt=code.salt,
        hash=code.hash,
        lasts_s=LASTS_S,
    )
    return await proof(conn, subscriber_id, proof_id), code.digits


async def try_code(conn: Connection, subscriber_id: UUID, proof_id: UUID, code: str, actor: str) -> Row:
    """Count a try, and if the code is right, the number is proved. The right one again changes nothing. As ours.

    Commit whatever the answer: a wrong try counts.

    returns  the proof; whether it was right, `proved_at` and `state_of` tell
    raises   NotFound: no such proof, or none with a code · Conflict: the subscriber is closed
    """
    await _lock_open(conn, subscriber_id)
    row = await proof(conn, subscriber_id, proof_id)  # after the lock: nobody else is counting
    if row["method"] == ATTESTED:
        raise NotFound("There is no code to this proof.")
    if state_of(row) in ("late", "failed"):
        return row
    secret = await queries.subscribers.proof_secret.one(conn, proof_id=proof_id)
    correct = is_code(code, secret["salt"], secret["hash"])
    if row["proved_at"] is not None:
        if not correct:
            raise Conflict("The number was proved by another code.")
        return row
    await queries.subscribers.add_try.run(
        conn, proof_id=proof_id, try_no=row["tries"] + 1, correct=correct, actor=actor
    )
    if correct:
        await _proved(conn, subscriber_id)
    return await proof(conn, subscriber_id, proof_id)


def state_of(row: Mapping[str, Any]) -> str:
    """proved · failed: too many wrong codes · late: its time is over, or there is a newer code · waiting"""
    if row["proved_at"] is not None:
        return "proved"
    if row["tries"] >= TRIES_MAX:
        return "failed"
    return "late" if row["late"] else "waiting"


async def _lock_open(conn: Connection, subscriber_id: UUID) -> None:
    if await queries.subscribers.lock.value(conn, subscriber_id=subscriber_id) == CLOSED:
        raise Conflict("The subscriber is closed.")


async def _proved(conn: Connection, subscriber_id: UUID) -> None:
    before = await subscriber(conn, subscriber_id)
    if before["state"] == PENDING:
        await queries.subscribers.proved.run(conn, subscriber_id=subscriber_id)
        await rollout.enrol(conn, subscriber_id, datetime.now(UTC))
        await _tell(conn, before["partner_id"], subscriber_id, before["edition"] + 1, "active")


async def _plan_currency(conn: Connection, plan_id: UUID, partner_id: UUID | None) -> str:
    currency: str | None = await queries.subscribers.plan_currency.value(
        conn, plan_id=plan_id, partner_id=partner_id
    )
    if currency is None:
        raise NotFound("There is no such plan.")
    return currency


async def _add_account(
    conn: Connection, a_number: str, currency: str, new: NewAccount, partner_id: UUID | None
) -> UUID:
    """Its name has a key in it: a number may have had a subscriber before, and may have one in another app."""
    key = await queries.allowance.new_id.value(conn)
    account_id: UUID = await queries.subscribers.add_account.value(
        conn,
        name=f"subscriber {a_number} {key.hex}",
        currency=currency,
        funding=new.funding,
        credit_limit_micro=new.credit_limit_micro,
        call_cap=new.call_cap,
        partner_id=partner_id,
    )
    return account_id


async def _tell(
    conn: Connection, partner_id: UUID | None, subscriber_id: UUID, edition: int, state: str
) -> None:
    """To whoever listens, in the transaction of the change."""
    data = json.dumps({"subscriber_id": f"sub_{subscriber_id.hex}", "state": state})
    await queries.subscribers.tell_changed.run(
        conn, partner_id=partner_id, subscriber_id=subscriber_id, edition=edition, data=data
    )
