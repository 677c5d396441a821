"""Subscribers: app users and their numbers. Nobody calls with a number before it is proved to be theirs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from fastapi import Depends, Query, Response
from pydantic import Field, model_validator

from bridge.api.amounts import PARTNERS_CREDIT_MAX_MICRO, NotNegative
from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import (
    AN_ID,
    E164,
    AccountId,
    Body,
    Line,
    PartnerId,
    PlanId,
    ProofId,
    SubscriberId,
    Told,
    sample,
    show_at,
    show_id,
)
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.partners import store
from bridge.partners.proof import CODES_AN_HOUR, TRIES_MAX
from bridge.telephony.number import Number, parse_caller

router = routes("subscribers")
Reader = Annotated[Desk, Depends(Needs("subscribers:read"))]
Writer = Annotated[Desk, Depends(Needs("subscribers:write"))]

State = Literal["pending", "active", "suspended", "closed"]
Zone = Literal["home", "roaming"]
ProofState = Literal["waiting", "proved", "failed", "late"]
AppName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,30}$", examples=["messenger"])]
CALLS_MAX: Final = 1_000_000


class NewAccount(Body):
    """The account that pays for the calls, in the currency of the plan."""

    funding: Literal["prepaid", "postpaid"] = "prepaid"
    credit_limit: NotNegative = Field(
        0, description="Postpaid only. A partner gives up to 500.00; more, an operator", examples=["50.00"]
    )
    call_cap: int | None = Field(None, ge=0, le=CALLS_MAX, description="Calls at a time; null: no cap")

    @model_validator(mode="after")
    def _credit_is_postpaid(self) -> Self:
        if self.funding == "prepaid" and self.credit_limit:
            raise ValueError("a prepaid account has no credit limit")
        return self


class NewSubscriber(Body):
    """Somebody who will call. `account_id` names an account that exists, `account` describes a new one."""

    model_config = sample(
        app="messenger", a_number="+493023125017", plan_id=AN_ID["plan"], account={"funding": "prepaid"}
    )

    app: AppName
    a_number: E164
    plan_id: PlanId
    account_id: AccountId | None = None
    account: NewAccount | None = None
    partner_id: PartnerId | None = Field(None, description="For operators: whose subscriber it will be")

    @model_validator(mode="after")
    def _one_account(self) -> Self:
        if self.account_id is not None and self.account is not None:
            raise ValueError("name an account or describe a new one, not both")
        return self


class SubscriberChange(Body):
    """What may change. A pending subscriber becomes active by a proof, and by nothing else."""

    model_config = sample(state="suspended")

    plan_id: PlanId | None = None
    state: Literal["active", "suspended"] | None = None
    zone: Zone | None = Field(None, description="Where the subscriber is; abroad other prices hold")


class Subscriber(Told):
    """Somebody who calls through an app."""

    subscriber_id: SubscriberId
    partner_id: PartnerId | None
    app: str
    a_number: str
    account_id: AccountId
    plan_id: PlanId
    state: State
    zone: Zone
    created_at: datetime


class NewProof(Body):
    """attested: you state that the number is your subscriber's. code: you send the code you are told to the number."""

    model_config = sample(method="attested", reference="contract 4711")

    method: Literal["attested", "code"]
    reference: Line = Field(
        "", description="What your statement rests on; needed for `attested`", examples=["contract 4711"]
    )

    @model_validator(mode="after")
    def _statements_have_a_reference(self) -> Self:
        if self.method == "attested" and not self.reference.strip():
            raise ValueError("a statement needs a reference")
        return self


class Confirmation(Body):
    code: str = Field(pattern="^[0-9]{6}$", examples=["042137"])


class Proof(Told):
    """How a number was proved, or is being proved."""

    proof_id: ProofId
    subscriber_id: SubscriberId
    method: Literal["attested", "code"]
    reference: str
    actor: str = Field(description="The key that asked for it")
    state: ProofState = Field(description="`late`: its time is over, or a newer code was asked for")
    tries_left: int | None
    asked_at: datetime
    expires_at: datetime | None
    proved_at: datetime | None


class ToldProof(Proof):
    code: str | None = Field(None, description="Told once: send it to the number. Not kept with the answer")


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "subscriber_id": show_id("sub", row["subscriber_id"]),
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "app": row["app"],
        "a_number": row["a_number"],
        "account_id": show_id("acc", row["account_id"]),
        "plan_id": show_id("plan", row["plan_id"]),
        "state": row["state"],
        "zone": row["zone"],
        "created_at": show_at(row["created_at"]),
    }


def show_proof(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "proof_id": show_id("prf", row["proof_id"]),
        "subscriber_id": show_id("sub", row["subscriber_id"]),
        "method": row["method"],
        "reference": row["reference"],
        "actor": row["actor"],
        "state": store.state_of(row),
        "tries_left": TRIES_MAX - row["tries"] if row["method"] == "code" else None,
        "asked_at": show_at(row["asked_at"]),
        "expires_at": show_at(row["expires_at"]),
        "proved_at": show_at(row["proved_at"]),
    }


def _made(row: Mapping[str, Any]) -> Made:
    told = show(row)
    name = told["subscriber_id"]
    return Made(name, told, row["partner_id"], row["edition"], f"/v1/subscribers/{name}")


def _proof_made(row: Mapping[str, Any], owner: Mapping[str, Any], code: str | None = None) -> Made:
    told = show_proof(row)
    path = f"/v1/subscribers/{told['subscriber_id']}/proofs/{told['proof_id']}"
    once = {} if code is None else {"code": code}
    return Made(told["proof_id"], told, owner["partner_id"], location=path, once=once)


@router.get("", response_model=Page[Subscriber], summary="Subscribers, newest first")
async def list_subscribers(
    desk: Reader,
    paging: Asked,
    a_number: Annotated[E164 | None, Query(description="This number; + is %2B")] = None,
    state: Annotated[State | None, Query()] = None,
    plan_id: Annotated[PlanId | None, Query()] = None,
) -> Response:
    async with desk.reading() as conn:
        rows = await store.subscribers(
            conn, paging.before, paging.rows, partner_id=desk.principal.partner_id, a_number=a_number, state=state,
            plan_id=plan_id,
        )  # fmt: skip
    return desk.shown(page(rows, paging, "subscriber_id", show))


@router.post(
    "",
    status_code=201,
    response_model=Subscriber,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Make a subscriber, whose number is to be proved",
)
async def create_subscriber(desk: Writer, body: NewSubscriber) -> Response:
    _check_number(desk, body.a_number)
    new = body.account or NewAccount()
    _check_credit(desk, new.credit_limit)

    async def work(conn: Connection) -> Made:
        partner_id = desk.partner_of(body.partner_id)
        if body.partner_id is not None:
            await store.partner(conn, body.partner_id)
        account: Mapping[str, Any] | store.NewAccount = store.NewAccount(
            new.funding, new.credit_limit, new.call_cap
        )
        if body.account_id is not None:
            account = await store.account(conn, body.account_id)
        await desk.as_ours(conn)
        return _made(
            await store.add_subscriber(conn, body.app, body.a_number, body.plan_id, account, partner_id)
        )

    return await desk.create("subscriber.create", body, work)


@router.get("/{subscriber_id}", response_model=Subscriber, responses=responses(404), summary="One subscriber")
async def read_subscriber(desk: Reader, subscriber_id: SubscriberId) -> Response:
    async with desk.reading() as conn:
        row = await store.subscriber(conn, subscriber_id)
    return desk.shown(show(row), row["edition"])


@router.patch(
    "/{subscriber_id}",
    response_model=Subscriber,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Change a subscriber",
)
async def change_subscriber(desk: Writer, subscriber_id: SubscriberId, body: SubscriberChange) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        found = await store.subscriber(conn, subscriber_id)
        await desk.as_ours(conn)
        row = await store.change_subscriber(
            conn, found, edition, plan_id=body.plan_id, state=body.state, zone=body.zone
        )
        if row is None:
            raise stale()
        return _made(row)

    return await desk.change("subscriber.change", body, work)


@router.delete(
    "/{subscriber_id}",
    status_code=204,
    responses=responses(*BY_METHOD["DELETE"]),
    summary="Close a subscriber; the account stays, and the number may come to another",
)
async def close_subscriber(desk: Writer, subscriber_id: SubscriberId) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        found = await store.subscriber(conn, subscriber_id)
        await desk.as_ours(conn)
        row = await store.change_subscriber(conn, found, edition, state="closed")
        if row is None:
            raise stale()
        return Made(show_id("sub", subscriber_id), None, row["partner_id"], row["edition"])

    return await desk.change("subscriber.close", None, work)


@router.get(
    "/{subscriber_id}/proofs",
    response_model=Page[Proof],
    responses=responses(404),
    summary="How a subscriber's number was proved, newest first",
)
async def list_proofs(desk: Reader, subscriber_id: SubscriberId, paging: Asked) -> Response:
    async with desk.reading() as conn:
        await store.subscriber(conn, subscriber_id)
        rows = await store.proofs(conn, subscriber_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "proof_id", show_proof))


@router.post(
    "/{subscriber_id}/proofs",
    status_code=201,
    response_model=ToldProof,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Prove a number, or ask for a code to prove it with",
)
async def create_proof(desk: Writer, subscriber_id: SubscriberId, body: NewProof) -> Response:
    async def work(conn: Connection) -> Made:
        owner = await store.subscriber(conn, subscriber_id)
        actor = desk.principal.actor
        await desk.as_ours(conn)
        if body.method == "attested":
            return _proof_made(await store.attest(conn, subscriber_id, body.reference, actor), owner)
        try:
            row, code = await store.ask_code(conn, subscriber_id, body.reference, actor)
        except store.TooManyCodes as error:
            raise Problem(429, str(error), headers={"Retry-After": str(3600 // CODES_AN_HOUR)}) from None
        return _proof_made(row, owner, code)

    return await desk.create("subscriber.prove", body, work)


@router.get(
    "/{subscriber_id}/proofs/{proof_id}",
    response_model=Proof,
    responses=responses(404),
    summary="One proof",
)
async def read_proof(desk: Reader, subscriber_id: SubscriberId, proof_id: ProofId) -> Response:
    async with desk.reading() as conn:
        row = await store.proof(conn, subscriber_id, proof_id)
    return desk.shown(show_proof(row))


@router.post(
    "/{subscriber_id}/proofs/{proof_id}/confirm",
    response_model=Proof,
    responses=responses(404, 410, *BY_METHOD["POST"]),
    summary="Tell the code that whoever has the number has told you",
)
async def confirm_proof(
    desk: Writer, subscriber_id: SubscriberId, proof_id: ProofId, body: Confirmation
) -> Response:
    said = ""

    async def work(conn: Connection) -> Made:
        nonlocal said
        owner = await store.subscriber(conn, subscriber_id)
        await store.proof(conn, subscriber_id, proof_id)
        await desk.as_ours(conn)
        row = await store.try_code(conn, subscriber_id, proof_id, body.code, desk.principal.actor)
        said = store.state_of(row)
        return _proof_made(row, owner)

    # A wrong code is kept as well: only then is it told that it was wrong. The log does not have the code.
    response = await desk.act("subscriber.confirm", None, work)
    if said == "waiting":
        raise Problem(422, "This is not the code. Ask whoever has the number once more.", code="wrong_code")
    if said != "proved":
        raise Problem(410, "This proof can no longer be confirmed. Ask for a new code.")
    return response


def _check_number(desk: Desk, a_number: str) -> None:
    """raises   Problem 422: nobody may show this number as theirs"""
    known = parse_caller(a_number, home=desk.services.settings.calls.home_region)
    if not isinstance(known, Number) or known.e164 != a_number:
        told = [{"pointer": "#/a_number", "detail": "is no number that a caller may show"}]
        raise Problem(422, "This is no number that a caller may show.", errors=told)


def _check_credit(desk: Desk, credit_limit_micro: int) -> None:
    """raises   Problem 403: more than a partner gives"""
    if credit_limit_micro > PARTNERS_CREDIT_MAX_MICRO and not desk.principal.operator:
        raise Problem(403, "Credit of more than 500.00 is given by operators.")
