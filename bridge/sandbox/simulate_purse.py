"""What people buy and use in a simulated month beside calls: money, bundles, messages, data. By the product's rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final
from uuid import UUID

import asyncpg

from bridge.rating.allowance import Allowance, Burn
from bridge.rating.plan import HOME
from bridge.rating.usage import FairUse, ServicePrice, rate_usage
from bridge.sandbox.simulate_rows import Ids, Rows, at_of
from bridge.sandbox.simulate_world import BUNDLES, CURRENCY, SERVICES, TAXED, Person, Product, World

DAY_MS: Final = 86_400_000
AMOUNTS: Final = (10_000_000, 15_000_000, 25_000_000)  # of top-ups
LOW: Final = 3_000_000  # who has less may top up before calling
CAREFUL: Final = 0.93  # the part of them who do
PRICES: Final = {(plan, service): ServicePrice(price, per) for plan, service, price, per in SERVICES}
QUANTITIES: Final[Mapping[str, tuple[int, int]]] = {
    "sms": (1, 3), "data": (50_000, 40_000_000), "data.messenger": (20_000, 60_000_000),
}  # fmt: skip


@dataclass(slots=True)
class Held:
    """A bundle that somebody has. Instants in milliseconds since 1970."""

    allowance_id: UUID
    who: Person
    product: Product
    transfer_id: UUID | None
    from_ms: int
    until_ms: int
    used: int = 0
    renewed_by: UUID | None = None
    key: str = ""

    def left(self) -> int | None:
        return None if self.product.units is None else self.product.units - self.used


@dataclass(slots=True)
class Purses:
    """Moves the money of people who are not calling, and counts what it has moved."""

    rows: Rows
    ids: Ids
    dice: Random
    world: World
    held: dict[str, Held] = field(default_factory=dict)  # by allowance
    purchases: list[tuple[UUID, Person, int, int]] = field(default_factory=list)  # that cost something
    counts: dict[str, int] = field(default_factory=dict)
    _serial: int = 0

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def top_up(self, who: Person, amount: int, at_ms: int) -> None:
        self._serial += 1
        key = f"simulated top-up {self._serial}"
        self.move("top_up", who, amount, "cash", at_ms, key)
        self.count("top-ups")

    def before_calling(self, who: Person, at_ms: int) -> None:
        """Most people see to it that they have money."""
        if who.prepaid and who.balance < LOW and self.dice.random() < CAREFUL:
            self.top_up(who, self.dice.choice(AMOUNTS), at_ms - self.dice.randrange(30_000, 600_000))

    def buy(self, who: Person, product: Product, at_ms: int, renewal_of: Held | None = None) -> Held | None:
        """As bundle_buy_v1 does. None: there was no money for it."""
        if who.available < product.price:
            if self.dice.random() > CAREFUL:
                return None
            self.top_up(who, 2 * product.price, at_ms - self.dice.randrange(1_000, 60_000))
        if renewal_of is None:
            self._serial += 1
            key, author = f"simulated purchase {self._serial}", "simulation"
        else:
            key, author = f"renewal of {renewal_of.allowance_id}", "callbridge"
        paid = None
        if product.price:
            note = f'bundle "{product.name}"'
            paid = self.move(
                "purchase", who, -product.price, "bundles", at_ms, f"purchase {key}", author, note
            )
            self.purchases.append((paid, who, product.price, at_ms))
        made = Held(self.ids(at_ms), who, product, paid, at_ms, at_ms + product.days * DAY_MS, key=key)
        if renewal_of is not None:
            renewal_of.renewed_by = made.allowance_id
        self.held[str(made.allowance_id)] = made
        who.allowances = [one for one in who.allowances if one.until_ms > at_ms] + [made]
        who.bundled = True
        self.count("renewals" if renewal_of else "purchases")
        return made

    def refund(self, purchase: tuple[UUID, Person, int, int], part: int, at_ms: int) -> None:
        """A hundredth part of `part` of a purchase is given back."""
        paid, who, price, _ = purchase
        self._serial += 1
        self.move("refund", who, price * part // 100, "bundles", at_ms, f"simulated refund {self._serial}", "support",
                  "goodwill", paid)  # fmt: skip
        self.count("refunds")

    def use(self, who: Person, service: str, at_ms: int) -> None:
        """A message, or some data. What neither a bundle nor a price covers is not used."""
        low, high = QUANTITIES[service]
        quantity = self.dice.randint(low, high)
        price = PRICES.get((who.plan, service)) or PRICES.get((who.plan, service.partition(".")[0]))
        fair = [
            FairUse(Allowance(str(one.allowance_id), one.product.name, one.product.covers[service], one.left()),
                    None if one.product.fair_use is None else one.product.fair_use - one.used)
            for one in self.in_force(who, at_ms) if service in one.product.covers
        ]  # fmt: skip
        if price is None:
            return
        rated = rate_usage(quantity, fair, price)
        paid = min(rated.amount_micro, max(who.available, 0))
        usage_id = self.ids(at_ms)
        self._serial += 1
        key = f"simulated usage {self._serial}"
        self.burn(usage_id, rated.burns, [burn.units for burn in rated.burns])
        transfer_id = None
        if paid:
            transfer_id = self.move("usage", who, -paid, "revenue", at_ms, f"usage {key}", "usage", service)
        at = at_of(at_ms)
        self.rows.add(
            "usage_record", usage_id, who.account_id, key, service, HOME, quantity, rated.charged_quantity,
            price.price_micro, price.per, rated.amount_micro, rated.amount_micro - paid, CURRENCY, transfer_id,
            rated.throttled, at, at, who.partner_id, json.dumps(TAXED[who.plan]) if who.plan in TAXED else None,
        )  # fmt: skip
        self.count("usage")

    def in_force(self, who: Person, at_ms: int) -> list[Held]:
        """In burn order: what ends first, first."""
        found = [one for one in who.allowances if one.from_ms <= at_ms < one.until_ms and one.left() != 0]
        return sorted(found, key=lambda one: (one.until_ms, one.allowance_id))

    def for_calls(self, who: Person, at_ms: int) -> tuple[Allowance, ...]:
        """As allowances_v1 tells them."""
        if not who.allowances:
            return ()
        return tuple(
            Allowance(str(one.allowance_id), one.product.name, one.product.covers["voice"], one.left(),
            one.product.prefixes)
            for one in self.in_force(who, at_ms) if "voice" in one.product.covers
        )  # fmt: skip

    def burn(self, source_id: UUID, burns: tuple[Burn, ...], used: list[int]) -> None:
        for no, (burn, units) in enumerate(zip(burns, used, strict=True), 1):
            self.rows.add("burn", source_id, no, UUID(burn.allowance_id), burn.per, burn.units, units)
            self.held[burn.allowance_id].used += units

    def move(
        self,
        kind: str,
        who: Person,
        amount: int,
        against: str,
        at_ms: int,
        key: str,
        author: str = "",
        note: str = "",
        reverses: UUID | None = None,
    ) -> UUID:
        """Book what the account gains (or pays: negative) against one of ours."""
        transfer_id = self.ids(at_ms)
        self.rows.add("transfer", transfer_id, kind, key, note, at_of(at_ms), author, reverses, None)
        ours = self.world.accounts[f"{against} {CURRENCY}"]
        self.rows.add("entry", transfer_id, 1, who.account_id, amount, CURRENCY)
        self.rows.add("entry", transfer_id, 2, ours, -amount, CURRENCY)
        who.balance += amount
        return transfer_id

    def keep_allowances(self) -> None:
        """As they are in the end."""
        for one in self.held.values():
            who, product = one.who, one.product
            self.rows.add(
                "allowance", one.allowance_id, who.account_id, self.world.bundles[product.name], one.key,
                one.transfer_id,
                product.units, product.fair_use, json.dumps(product.covers), HOME, list(product.prefixes), 100,
                one.used,
                asyncpg.Range(at_of(one.from_ms), at_of(one.until_ms)), product.renews, one.renewed_by,
                at_of(one.from_ms),
            )  # fmt: skip


def buyers(world: World, dice: Random) -> list[tuple[Person, Product]]:
    """Who has bought what when the month begins."""
    return [
        (who, one)
        for who in world.people
        for one in BUNDLES
        if one.plan == who.plan and dice.random() < one.often
    ]
