"""Trunks as they are made and changed, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, Invalid, NotFound
from bridge.routing.trunk import VOIP_ONLY, wrong_for_kind

Row = Mapping[str, Any]

# What a caller of `add_trunk` and `change_trunk` may set, by column.
SETTINGS = (
    "host", "port", "transport", "codecs", "auth_username", "auth_secret", "allowed_ips", "capacity", "cps",
    "b_format", "a_format", "tech_prefix", "origin", "policy_class", "priority", "ring_s", "deck_id", "enabled",
    "qualify_s",
)  # fmt: skip
# And what is set once, when it is made.
FOREVER = ("kind", "business_number")


async def trunks(
    conn: Connection, before: UUID, rows: int, *, state: str | None = None, health: str | None = None
) -> Sequence[Row]:
    """Newest first, those older than `before`."""
    return list(await queries.trunks.trunks.all(conn, before=before, rows=rows, state=state, health=health))


async def trunk(conn: Connection, trunk_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.trunks.trunk.one(conn, trunk_id=trunk_id)
    if row is None:
        raise NotFound("There is no such trunk.")
    return row


async def add_trunk(
    conn: Connection,
    name: str,
    partner_id: UUID | None,
    settings: Mapping[str, Any],
    *,
    account_id: UUID | None = None,
    our_decks: bool,
) -> Row:
    """A trunk, with the carrier's account if it has none yet. To be called as ours, with `SETTINGS` and `FOREVER`.

    account_id   None: the partner's own carrier account in the deck's currency, else a new one
    our_decks    it may be charged by a deck of ours, which says what the carrier charges
    raises       NotFound: no such deck, or not the partner's · Conflict: the name or the business number is taken
                 Invalid: another currency, or a setting does not fit the kind
    """
    _check_kind(settings)
    deck = await _buy_deck(conn, settings["deck_id"], partner_id, ours=our_decks)
    await _check_name(conn, name)
    await _check_addresses(conn, None, settings["kind"], settings["allowed_ips"])
    if settings["business_number"] and await queries.trunks.business_number_taken.value(
        conn, business_number=settings["business_number"]
    ):
        raise Conflict("Another trunk has this business number. Meta calls one server for each.")
    if account_id is None:
        account_id = await queries.trunks.carrier_account.value(
            conn, partner_id=partner_id, currency=deck["currency"]
        ) or await _new_account(conn, name, partner_id, deck["currency"])
    elif not await queries.trunks.is_carrier.value(
        conn, account_id=account_id, currency=deck["currency"], partner_id=partner_id
    ):
        raise Invalid(f"The account is none of that carrier in {deck['currency']}, the deck's currency.")
    trunk_id = await queries.trunks.add_trunk.value(
        conn, name=name, partner_id=partner_id, account_id=account_id, **settings
    )
    return await trunk(conn, trunk_id)


async def change_trunk(
    conn: Connection, trunk_id: UUID, edition: int, changes: Mapping[str, Any]
) -> Row | None:
    """Set some of `SETTINGS`. To be called as ours. None when the trunk is of another edition by now.

    raises   NotFound: no such deck · Invalid: a deck in another currency, or a setting does not fit the kind
             Conflict: addresses another trunk has, or it would pass between WhatsApp and the phone network
    """
    now: Row | None = await queries.trunks.settings.one(conn, trunk_id=trunk_id, edition=edition)
    if now is None:
        return None
    if "deck_id" in changes:
        deck = await _buy_deck(conn, changes["deck_id"], now["partner_id"], ours=True)
        if deck["currency"] != now["currency"]:
            raise Invalid(f"The deck is in {deck['currency']}, the carrier's account in {now['currency']}.")
    if changes.get("allowed_ips"):
        await _check_addresses(conn, trunk_id, now["kind"], changes["allowed_ips"])
    settings = {column: now[column] for column in SETTINGS} | dict(changes)
    _check_kind({**settings, **{column: now[column] for column in FOREVER}})
    if VOIP_ONLY in (now["policy_class"], settings["policy_class"]) and (
        now["policy_class"] != settings["policy_class"]
    ):
        raise Conflict("What is voip_only stays so, and nothing becomes it: make another trunk.")
    await queries.trunks.change_trunk.run(conn, trunk_id=trunk_id, **settings)
    return await trunk(conn, trunk_id)


async def set_state(conn: Connection, trunk_id: UUID, state: str) -> Row:
    """active or draining; to set what it is already changes nothing. To be called as ours."""
    await queries.trunks.set_state.run(conn, trunk_id=trunk_id, state=state)
    return await trunk(conn, trunk_id)


async def delete_trunk(conn: Connection, trunk_id: UUID, edition: int) -> bool:
    """To be called as ours. False when it is of another edition by now.

    raises   Conflict: it was enabled once, so calls may refer to it
    """
    row = await queries.trunks.settings.one(conn, trunk_id=trunk_id, edition=edition)
    if row is None:
        return False
    if row["was_enabled"]:
        raise Conflict("Calls may have gone over this trunk, so it stays. Disable it instead.")
    await queries.trunks.delete_trunk.run(conn, trunk_id=trunk_id)
    return True


async def trunk_quality(conn: Connection, trunk_id: UUID) -> Row:
    """raises   NotFound"""
    row: Row | None = await queries.trunks.quality.one(conn, trunk_id=trunk_id)
    if row is None:
        raise NotFound("There is no such trunk.")
    return row


async def trunk_seen(conn: Connection, trunk_id: UUID, health: str) -> bool:
    """Keep whether it answers: up, down, or unknown when nobody asks. Returns whether that is new."""
    return bool(await queries.trunks.seen.value(conn, trunk_id=trunk_id, health=health))


async def applied(conn: Connection, editions: Mapping[UUID, int]) -> None:
    """The switch has these editions."""
    await queries.trunks.applied.run(conn, trunk_ids=list(editions), editions=list(editions.values()))


async def not_applied(conn: Connection, trunk_ids: Sequence[UUID], error: str) -> None:
    """The switch could not be given these."""
    await queries.trunks.not_applied.run(conn, trunk_ids=trunk_ids, error=error[:500])


async def _buy_deck(conn: Connection, deck_id: UUID, partner_id: UUID | None, *, ours: bool) -> Row:
    row: Row | None = await queries.trunks.buy_deck.one(
        conn, deck_id=deck_id, partner_id=partner_id, ours=ours
    )
    if row is None:
        raise NotFound("There is no such buy deck of this carrier.")
    return row


async def _check_name(conn: Connection, name: str) -> None:
    if await queries.trunks.name_taken.value(conn, name=name):
        raise Conflict("Another trunk or app has this name.")


def _check_kind(settings: Mapping[str, Any]) -> None:
    if (wrong := wrong_for_kind(settings)) is not None:
        raise Invalid(f"{wrong[0]} {wrong[1]}.")


async def _check_addresses(
    conn: Connection, trunk_id: UUID | None, kind: str, networks: Sequence[object]
) -> None:
    """Who calls from an address must be clear: an app and a carrier are never told apart by chance.

    All business numbers are called from the same addresses, Meta's; the number that is called tells these apart.
    """
    taken = await queries.trunks.addresses_taken.value(conn, trunk_id=trunk_id, kind=kind, networks=networks)
    if networks and taken:
        raise Conflict("Somebody else calls from one of these addresses.")


async def _new_account(conn: Connection, name: str, partner_id: UUID | None, currency: str) -> UUID:
    try:
        account_id: UUID = await queries.trunks.add_account.value(
            conn, name=f"carrier {name}", currency=currency, partner_id=partner_id
        )
    except asyncpg.UniqueViolationError:
        raise Conflict(
            f"There is an account 'carrier {name}'. Name its account_id, or another trunk."
        ) from None
    return account_id
