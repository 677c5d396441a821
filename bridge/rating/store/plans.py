"""A plan's file made true: decks with their rates, terms and bands, the plan, prices of services, bundles.

What the file says is how it is afterwards, and what it says no more is taken away: a band, a service's price; a bundle
goes off sale. Nothing that somebody has bought and no call that was made changes by it. Rates go through the versions
of their decks, so there is a history and a way back.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, DeckError, NotFound
from bridge.rating.deck_cells import guarded
from bridge.rating.plan_file import BundlePart, CallRate, PlanFile
from bridge.rating.store import imports
from bridge.rating.store.terms import Done, difference, set_bands, set_terms
from bridge.rating.store.versions import tiers_text
from bridge.telephony.money import format_micro

_KINDS = ("new", "increase", "decrease", "changed", "blocked", "deleted")
_COLUMNS = (
    "prefix", "destination", "rate", "interval_1", "interval_n", "connection_fee", "minimum_s", "grace_s", "tiers",
    "blocked",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of each part, and what the file says that is for others to do."""

    plan_id: UUID
    plan: str
    parts: tuple[Done, ...]
    notes: tuple[str, ...]

    @property
    def changed(self) -> bool:
        return any(one.done != "same" for one in self.parts)

    def to_json(self) -> dict[str, Any]:
        return {
            "plan": self.plan,
            "changed": self.changed,
            "parts": [one.to_json() for one in self.parts],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose plan it is. asks: it is the partner who applies it, and may name its own decks only; else we are."""

    partner_id: UUID | None
    asks: bool = False


async def plan_id_of(conn: Connection, name: str) -> UUID | None:
    found = await queries.plans.plan_of.one(conn, name=name)
    return found["plan_id"] if found else None


async def apply_plan(conn: Connection, plan: PlanFile, *, author: str, at: datetime) -> Applied:
    """Create the plan or make it what the file says, in one transaction. The same file again changes nothing.

    A plan of this name that was priced by other decks is priced by the file's from then on; those decks stay.
    A partner's plan stays the partner's; a new one is ours.
    at       now: from then on its rates hold
    raises   Conflict: a deck or bundle of the plan belongs to somebody else, or is in another currency
             NotFound: a deck that the file names does not exist
    """
    async with conn.transaction():
        await queries.plans.take_turn.run(conn)
        before = await queries.plans.plan_of.one(conn, name=plan.name)
        owner = Owner(before["partner_id"] if before else None)
        return await _Work(conn, plan, owner, author, at).run(before)


async def create_plan(
    conn: Connection, plan: PlanFile, owner: Owner, *, author: str, at: datetime
) -> Applied:
    """As `apply_plan`, and the plan is its owner's. raises   Conflict, too: there is a plan of this name"""
    async with conn.transaction():
        await queries.plans.take_turn.run(conn)
        if await queries.plans.plan_of.one(conn, name=plan.name) is not None:
            raise _taken("plan", plan.name)
        return await _Work(conn, plan, owner, author, at).run(None)


async def change_plan(
    conn: Connection, plan: PlanFile, owner: Owner, edition: int, *, author: str, at: datetime
) -> Applied | None:
    """As `apply_plan`, for the plan of this name and owner. Returns None when it is of another edition by now.

    Whoever may use their own things only may not change what we earn at least: the margin floor stays.
    """
    async with conn.transaction():
        await queries.plans.take_turn.run(conn)
        before = await queries.plans.plan_of.one(conn, name=plan.name)
        if before is None or before["edition"] != edition or before["partner_id"] != owner.partner_id:
            return None
        if owner.asks:
            plan = plan.model_copy(update={"margin_floor_micro": before["margin_floor_micro"]})
        return await _Work(conn, plan, owner, author, at).run(before)


def _taken(kind: str, name: str) -> Conflict:
    """Whose it is, is nobody's business."""
    return Conflict(f"The name of {kind} {name} is taken. Choose another one.")


class _Work:
    def __init__(self, conn: Connection, plan: PlanFile, owner: Owner, author: str, at: datetime) -> None:
        self.conn, self.plan, self.owner, self.author, self.at = conn, plan, owner, author, at
        self.parts: list[Done] = []
        self.home_deck = plan.home_deck or f"sell {plan.name}"

    async def run(self, before: Any) -> Applied:
        """before: the plan's row, if it is there already"""
        plan = self.plan
        if before is not None and before["currency"] != plan.currency:
            raise Conflict(
                f"plan {plan.name} is in {before['currency']}, its file in {plan.currency}. Give the new plan "
                "another name"
            )
        roaming_deck = plan.roaming_deck
        for band in plan.bands:
            if band.deck:
                await self._check_named(band.deck)
        if plan.home:
            await self._deck(self.home_deck, plan.home)
            self.parts.append(await set_terms(self.conn, self.home_deck, plan.terms))
            await self._bands()
        if plan.roaming:
            roaming_deck = f"sell {plan.name} roaming"
            await self._deck(roaming_deck, plan.roaming)
            self.parts.append(await set_terms(self.conn, roaming_deck, plan.terms))
            self.parts += await set_bands(self.conn, roaming_deck, ())
        for named in filter(None, (plan.home_deck, plan.roaming_deck)):
            await self._check_named(named)
        plan_id = await self._plan(before, roaming_deck)
        await self._services(plan_id)
        await self._bundles(plan_id)
        applied = Applied(plan_id, plan.name, tuple(self.parts), tuple(_notes(plan)))
        if before is not None and applied.changed:
            await queries.plans.next_edition.run(self.conn, plan_id=plan_id)
        return applied

    async def _deck(self, name: str, rates: Sequence[CallRate]) -> None:
        """A deck of the plan's own with exactly these rates from now on."""
        head = await queries.decks.head.one(self.conn, name=name)
        if head is None:
            partner_id = self.owner.partner_id
            await queries.plans.add_deck.run(
                self.conn, name=name, currency=self.plan.currency, partner_id=partner_id
            )
        owned = await queries.plans.deck_owner.one(self.conn, name=name)
        if owned["partner_id"] != self.owner.partner_id:
            raise _taken("deck", name)
        other = await queries.plans.other_user.value(
            self.conn, deck=name, plan=self.plan.name, home_deck=self.home_deck
        )
        if other is not None:
            raise Conflict(f"deck {name} prices {other}, too. Rename the plan or its band")
        if head is None or (head["side"], head["currency"]) != ("sell", self.plan.currency):
            await imports.create_deck(self.conn, name, "sell", self.plan.currency)
        file = imports.DeckFile(_as_csv(rates), f"plan {self.plan.name}", self.author)
        staged = await imports.stage(self.conn, name, file, "replace", at=self.at)
        if staged.state == "refused":
            (wrong,) = await queries.decks.errors.all(self.conn, import_id=staged.import_id, most=1)
            raise DeckError(f"deck {name}: {wrong['problem']}", column=wrong["column_name"])
        version = await imports.apply(self.conn, staged.import_id)
        counts = [f"{staged.summary[kind]} {kind}" for kind in _KINDS if staged.summary[kind]]
        done = "created" if head is None else "same" if staged.state == "same" else "changed"
        detail = "" if done == "same" else f"version {version}: {', '.join(counts)}"
        self.parts.append(Done(f"deck {name}", done, detail))

    async def _bands(self) -> None:
        placed = []
        for one in self.plan.bands:
            deck = one.deck or f"{self.home_deck} {one.name}"
            if one.home:
                await self._deck(deck, one.home)
            placed.append((one.band, deck))
        self.parts += await set_bands(self.conn, self.home_deck, placed)

    async def _check_named(self, name: str) -> None:
        owned = await queries.plans.deck_owner.one(self.conn, name=name)
        if owned is not None and owned["partner_id"] != self.owner.partner_id:
            if self.owner.asks:
                raise NotFound(f"There is no deck {name!r:.60} of yours.")
            if owned["partner_id"] is not None:
                raise Conflict(f"deck {name} belongs to another partner")
        head = await imports.head_of(self.conn, name)
        if (head["side"], head["currency"]) != ("sell", self.plan.currency):
            raise Conflict(
                f"deck {name} is a {head['side']} deck in {head['currency']}. Name a sell deck in {self.plan.currency}"
            )

    async def _plan(self, before: Any, roaming_deck: str | None) -> UUID:
        after = {
            "deck": self.home_deck,
            "roaming_deck": roaming_deck,
            "margin_floor_micro": self.plan.margin_floor_micro,
            "zero_rated": list(self.plan.zero_rated),
            "on_net_free": self.plan.on_net_free,
            "on_net_fallback": self.plan.on_net_fallback,
        }
        part = f"plan {self.plan.name}"
        said = difference(before, after) if before is not None else ""
        done = "created" if before is None else "changed" if said else "same"
        self.parts.append(Done(part, done, said))
        if done == "same":
            known: UUID = before["plan_id"]
            return known
        plan_id: UUID = await queries.plans.put_plan.value(
            self.conn, name=self.plan.name, partner_id=self.owner.partner_id, **after
        )
        return plan_id

    async def _services(self, plan_id: UUID) -> None:
        rows = await queries.plans.service_prices.all(self.conn, plan_id=plan_id)
        before = {(row["service"], row["zone"]): row for row in rows}
        for one in self.plan.services:
            old = before.pop((one.name, one.zone), None)
            after = {"price_micro": one.price_micro, "per": one.per}
            self._note(f"service {one.name} ({one.zone})", old, after)
            await queries.plans.put_service_price.run(
                self.conn, plan_id=plan_id, service=one.name, zone=one.zone, **after
            )
        for service, zone in before:
            await queries.plans.drop_service_price.run(self.conn, plan_id=plan_id, service=service, zone=zone)
            self.parts.append(Done(f"service {service} ({zone})", "removed"))

    async def _bundles(self, plan_id: UUID) -> None:
        names = [one.name for one in self.plan.bundles]
        rows = await queries.plans.bundles_at_hand.all(self.conn, plan_id=plan_id, names=names)
        before = {row["name"]: dict(row) | {"covers": json.loads(row["covers"])} for row in rows}
        for one in self.plan.bundles:
            old = before.pop(one.name, None)
            if old is not None and old["partner_id"] != self.owner.partner_id:
                raise _taken("bundle", one.name)
            if old is not None and old["currency"] != self.plan.currency:
                owner = f" of plan {old['plan']}" if old["plan"] else ""
                raise Conflict(
                    f"bundle {one.name}{owner} is in {old['currency']}, plan {self.plan.name} in "
                    f"{self.plan.currency}. Give the new bundle another name"
                )
            if old is not None and old["plan_id"] not in (None, plan_id):
                raise Conflict(
                    f"bundle {one.name} belongs to plan {old['plan']}. Give the new bundle another name"
                )
            after = _columns(one) | {"on_sale": True}
            self._note(f"bundle {one.name}", old, after)
            await queries.plans.put_bundle.run(
                self.conn,
                plan_id=plan_id,
                currency=self.plan.currency,
                partner_id=self.owner.partner_id,
                **_columns(one) | {"name": one.name, "covers": json.dumps(one.covers)},
            )
        for name, old in before.items():
            if old["on_sale"]:
                await queries.plans.take_off_sale.run(self.conn, plan_id=plan_id, name=name)
            self.parts.append(Done(f"bundle {name}", "off sale" if old["on_sale"] else "same"))

    def _note(self, part: str, old: Any, after: dict[str, Any]) -> None:
        said = difference(old, after) if old is not None else ""
        self.parts.append(Done(part, "created" if old is None else "changed" if said else "same", said))


def _columns(one: BundlePart) -> dict[str, Any]:
    return {
        "price_micro": one.price_micro,
        "units": one.units,
        "fair_use_units": one.fair_use_units,
        "covers": one.covers,
        "zone": one.zone,
        "prefixes": list(one.prefixes),
        "days": one.days,
        "renews": one.renews,
        "renew_wait_days": one.renew_wait_days,
        "burn_order": one.burn_order,
    }


def _as_csv(rates: Sequence[CallRate]) -> io.BytesIO:
    """Rates as the file of a deck, which is how rates come into one."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for rate in rates:
        tiers = [(tier.from_s, tier.a_minute_micro, tier.next_s) for tier in rate.tiers]
        for prefix in rate.prefixes:
            writer.writerow((
                prefix, guarded(rate.destination), format_micro(rate.a_minute_micro), *rate.increment,
                format_micro(rate.connect_fee_micro), rate.minimum_s, rate.grace_s, tiers_text(tiers),
                "yes" if rate.blocked else "",
            ))  # fmt: skip
    return io.BytesIO(text.getvalue().encode())


def _notes(plan: PlanFile) -> list[str]:
    """What no deck, plan or bundle can hold: it is done for each subscriber."""
    notes = [
        f"bundle {one.name} is included: buy it for each new subscriber (callbridge bundle buy)"
        for one in plan.bundles
        if one.included
    ]
    if plan.referral_micro:
        amount = f"{format_micro(plan.referral_micro)} {plan.currency}"
        notes.append(
            f"a referral is worth {amount} to each of the two: book it with callbridge account refer"
        )
    return notes
