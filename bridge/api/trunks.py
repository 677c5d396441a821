"""Trunks: the ways to carriers. A partner sets up its own, an operator looks at it and enables it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Query, Response

from bridge.api.desk import Desk, Made, Needs, stale
from bridge.api.fields import DeckId, PartnerId, Told, TrunkId, show_at, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.api.trunk_fields import (
    Codecs,
    Health,
    Host,
    Kind,
    NewTrunk,
    NumberFormat,
    Origin,
    PolicyClass,
    State,
    Transport,
    TrunkChange,
    TrunkName,
    settings_of,
)
from bridge.database import Connection
from bridge.errors import Conflict
from bridge.partners.store import partner
from bridge.routing import store
from bridge.routing.trunk import WHATSAPP

router = routes("trunks")
Reader = Annotated[Desk, Depends(Needs("trunks:read"))]
Writer = Annotated[Desk, Depends(Needs("trunks:write"))]

OPERATORS_ONLY: Final = {
    NewTrunk: frozenset(
        {"account_id", "business_number", "enabled", "kind", "origin", "policy_class", "priority", "ring_s"}
    ),
    TrunkChange: frozenset({"deck_id", "enabled", "origin", "policy_class", "priority", "ring_s"}),
}
_PARTNERS_NETWORK_BITS_MIN: Final = 24
_OUR_DOMAINS: Final = ("localhost", "local", "internal", "localdomain", "arpa")


class TrunkAuth(Told):
    """The secret is never told."""

    username: str


class TrunkNumbers(Told):
    """How numbers are written for the carrier."""

    b_format: NumberFormat
    a_format: NumberFormat
    tech_prefix: str


class TrunkHealth(Told):
    """down: no answer to OPTIONS; then it is used only when no other trunk can carry a call. unknown: nobody asks."""

    status: Health
    since: datetime | None


class TrunkApplied(Told):
    """What the switch has. It lags behind the ETag while a change is on its way, or could not be made."""

    edition: int | None
    at: datetime | None
    error: str | None


class Trunk(Told):
    """A way to a carrier."""

    trunk_id: TrunkId
    partner_id: PartnerId | None
    name: TrunkName
    host: Host
    port: int
    transport: Transport
    codecs: Codecs
    auth: TrunkAuth | None
    allowed_ips: list[str]
    capacity: int | None
    cps: int | None
    numbers: TrunkNumbers
    origin: Origin
    policy_class: PolicyClass
    priority: int
    ring_s: int
    deck_id: DeckId
    enabled: bool
    state: State
    qualify_s: int | None
    kind: Kind
    business_number: str | None
    health: TrunkHealth
    applied: TrunkApplied


class TrunkQuality(Told):
    """Attempts since an hour ago, or as far back as the newest 100 000 of all trunks reach.

    asr: answered; ner: that reached somebody, were they answered or not; both of 1. pdd: from INVITE to ringing.
    """

    since: datetime
    attempts: int
    answered: int
    asr: float | None
    ner: float | None
    pdd_ms_median: int | None
    pdd_ms_p95: int | None


class TrunkNow(Told):
    """How a trunk does now. starts_this_second: null where cps is."""

    trunk_id: TrunkId
    enabled: bool
    state: State
    health: TrunkHealth
    live_calls: int
    capacity: int | None
    starts_this_second: int | None
    cps: int | None
    last_hour: TrunkQuality


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    username = row["auth_username"]
    return {
        "trunk_id": show_id("trk", row["trunk_id"]),
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        **{name: row[name] for name in ("name", "host", "port", "transport", "codecs")},
        "auth": {"username": username} if username else None,
        "allowed_ips": [str(network) for network in row["allowed_ips"]],
        "capacity": row["capacity"],
        "cps": row["cps"],
        "numbers": {name: row[name] for name in ("b_format", "a_format", "tech_prefix")},
        **{name: row[name] for name in ("origin", "policy_class", "priority", "ring_s")},
        "deck_id": show_id("deck", row["deck_id"]),
        **{name: row[name] for name in ("enabled", "state", "qualify_s", "kind", "business_number")},
        "health": _show_health(row),
        "applied": {
            "edition": row["applied_edition"],
            "at": show_at(row["applied_at"]),
            "error": row["apply_error"],
        },
    }


def _show_health(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"status": row["health"] or "unknown", "since": show_at(row["health_at"])}


def _made(row: Mapping[str, Any]) -> Made:
    told = show(row)
    return Made(told["trunk_id"], told, row["partner_id"], row["edition"], f"/v1/trunks/{told['trunk_id']}")


@router.get("", response_model=Page[Trunk], summary="Trunks, newest first")
async def list_trunks(
    desk: Reader,
    paging: Asked,
    state: Annotated[State | None, Query()] = None,
    health: Annotated[Health | None, Query()] = None,
) -> Response:
    async with desk.reading() as conn:
        rows = await store.trunks(conn, paging.before, paging.rows, state=state, health=health)
    return desk.shown(page(rows, paging, "trunk_id", show))


@router.post(
    "",
    status_code=201,
    response_model=Trunk,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Make a trunk; a partner's is disabled until an operator has looked at it",
)
async def create_trunk(desk: Writer, body: NewTrunk) -> Response:
    partner_id = desk.partner_of(body.partner_id)
    _check(desk, body, body.name, body.host, body.port, body.allowed_ips)
    if body.kind == WHATSAPP and (setting := desk.services.settings.whatsapp.missing) is not None:
        raise _wrong("kind", f"needs the setting {setting}, which is empty")

    async def work(conn: Connection) -> Made:
        if partner_id is not None:
            await partner(conn, partner_id)
        await desk.as_ours(conn)  # decks and accounts are looked up by their partner's id
        row = await store.add_trunk(
            conn,
            body.name,
            partner_id,
            settings_of(body),
            account_id=body.account_id,
            our_decks=desk.principal.operator,
        )
        return _made(row)

    return await desk.create("trunk.create", body, work)


@router.get("/{trunk_id}", response_model=Trunk, responses=responses(404), summary="One trunk")
async def read_trunk(desk: Reader, trunk_id: TrunkId) -> Response:
    async with desk.reading() as conn:
        row = await store.trunk(conn, trunk_id)
    return desk.shown(show(row), row["edition"])


@router.patch(
    "/{trunk_id}",
    response_model=Trunk,
    responses=responses(*BY_METHOD["PATCH"]),
    summary="Change a trunk; calls in progress go on",
)
async def change_trunk(desk: Writer, trunk_id: TrunkId, body: TrunkChange) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        now = await store.trunk(conn, trunk_id)
        host, port = body.host or now["host"], body.port or now["port"]
        _check(desk, body, now["name"], host, port, body.allowed_ips or [])
        await desk.as_ours(conn)
        row = await store.change_trunk(conn, trunk_id, edition, settings_of(body))
        if row is None:
            raise stale()
        return _made(row)

    return await desk.change("trunk.change", body, work)


@router.delete(
    "/{trunk_id}",
    status_code=204,
    response_model=None,
    responses=responses(*BY_METHOD["DELETE"]),
    summary="Delete a trunk that was never enabled",
)
async def delete_trunk(desk: Writer, trunk_id: TrunkId) -> Response:
    async def work(conn: Connection, edition: int) -> Made:
        now = await store.trunk(conn, trunk_id)
        if now["name"] == desk.services.settings.switch.emergency_trunk:
            raise Conflict("Emergency calls go over this trunk.")
        await desk.as_ours(conn)
        if not await store.delete_trunk(conn, trunk_id, edition):
            raise stale()
        return Made(show_id("trk", trunk_id), None, now["partner_id"])

    return await desk.change("trunk.delete", None, work)


@router.post(
    "/{trunk_id}/drain",
    response_model=Trunk,
    responses=responses(404),
    summary="No new calls; those in progress go on",
)
async def drain_trunk(desk: Writer, trunk_id: TrunkId) -> Response:
    return await _set_state(desk, trunk_id, "draining", "trunk.drain")


@router.post(
    "/{trunk_id}/undrain", response_model=Trunk, responses=responses(404), summary="Take calls again"
)
async def undrain_trunk(desk: Writer, trunk_id: TrunkId) -> Response:
    return await _set_state(desk, trunk_id, "active", "trunk.undrain")


@router.get(
    "/{trunk_id}/health",
    response_model=TrunkNow,
    responses=responses(404),
    summary="Calls now, and how those of the last hour went",
)
async def read_trunk_health(desk: Reader, trunk_id: TrunkId) -> Response:
    async with desk.reading() as conn:
        row = await store.trunk(conn, trunk_id)
        seen = await store.trunk_quality(conn, trunk_id)
    attempts = seen["attempts"]
    told = {
        "trunk_id": show_id("trk", trunk_id),
        "enabled": row["enabled"],
        "state": row["state"],
        "health": _show_health(row),
        "live_calls": seen["live_calls"],
        "capacity": row["capacity"],
        "starts_this_second": seen["starts_now"] if row["cps"] is not None else None,
        "cps": row["cps"],
        "last_hour": {
            "since": show_at(seen["since"]),
            "attempts": attempts,
            "answered": seen["answered"],
            "asr": round(seen["answered"] / attempts, 4) if attempts else None,
            "ner": round(seen["effective"] / attempts, 4) if attempts else None,
            "pdd_ms_median": seen["pdd_ms_median"],
            "pdd_ms_p95": seen["pdd_ms_p95"],
        },
    }
    return desk.shown(told)


async def _set_state(desk: Desk, trunk_id: UUID, state: str, action: str) -> Response:
    async def work(conn: Connection) -> Made:
        now = await store.trunk(conn, trunk_id)
        _check_emergency(desk, now["name"])
        await desk.as_ours(conn)
        return _made(await store.set_state(conn, trunk_id, state))

    return await desk.act(action, None, work)


def _check(
    desk: Desk, body: NewTrunk | TrunkChange, name: str, host: str, port: int, networks: list[str]
) -> None:
    """What a value alone does not say: who sets it, and where it leads.

    raises   Problem 403 · 422
    """
    switch = desk.services.settings.switch
    if (host, port) == (switch.sip_host, switch.sip_port):
        raise _wrong("host", "is this switch itself: its calls would come back to it")
    if desk.principal.operator:
        return
    _check_emergency(desk, name)
    if not_theirs := sorted(OPERATORS_ONLY[type(body)] & body.model_fields_set):
        errors = [{"pointer": f"#/{field}", "detail": "is set by operators"} for field in not_theirs]
        raise Problem(403, "Some of this is set by operators only.", errors=errors)
    if "host" in body.model_fields_set and ours(host):
        raise _wrong("host", "should be an address or a name that is known in the whole Internet")
    for network in map(IPv4Network, networks):
        if not network.is_global or network.prefixlen < _PARTNERS_NETWORK_BITS_MIN:
            raise _wrong("allowed_ips", f"should be public, and /{_PARTNERS_NETWORK_BITS_MIN} at the widest")


def _check_emergency(desk: Desk, name: str) -> None:
    if not desk.principal.operator and name == desk.services.settings.switch.emergency_trunk:
        raise Problem(403, "Emergency calls go over this trunk, so operators alone change it.")


def ours(host: str) -> bool:
    """Whether a host may be one of our own network. Of names only the look is judged: what they lead to may change."""
    last = host.rpartition(".")[2].lower()
    if last[0].isdigit():
        return not IPv4Address(host).is_global
    return "." not in host or last in _OUR_DOMAINS


def _wrong(field: str, detail: str) -> Problem:
    problem = f"{field} {detail}."
    return Problem(422, problem, errors=[{"pointer": f"#/{field}", "detail": detail}])
