"""The cast of a simulated month: two partners, three carriers, three plans, their people, and what was agreed.

Every telephone number is of a range that regulators reserve for fiction, so that nobody real is ever in the books:
Germany (Bundesnetzagentur), the United Kingdom (Ofcom), France (Arcep) and North America (NANPA, 555-01xx).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

import asyncpg

from bridge import queries
from bridge.database import Connection
from bridge.partners.deal import (
    ON_NET,
    Basis,
    Commitment,
    Funding,
    Mode,
    Share,
    Step,
    Terms,
    Wholesale,
    ZeroRated,
)  # fmt: skip
from bridge.sandbox.simulate_rows import Ids, Rows, ms_of

CURRENCY: Final = "EUR"
TRANSIT_CURRENCY: Final = "USD"  # of the carrier that is nobody's partner
APP: Final = "plauder"
ZONE: Final = "Europe/Berlin"
FREE_PREFIX: Final = "4940669690"  # help lines: the partner pays for calls to them
CORRECTED: Final = "buy nordlicht as agreed"  # what is put right within the month
CORRECTED_LATER: Final = "buy transit as agreed"  # and after it
DAY: Final = timedelta(days=1)
# A name with all that XML, CSV and file names trip over: whoever writes one must write this one.
PARTNERS: Final = ("Rheinfunk & Söhne <Mobil>", "Nordlicht Telekom AG")
PEOPLE_MAX: Final = 3_000

# Where subscribers have their numbers, and where else people call; three or two more digits complete them.
HOME_RANGES: Final = ("+498999998", "+492214710", "+496990009")


@dataclass(frozen=True, slots=True)
class Price:
    """Of one prefix: micro-units a minute, increments in seconds."""

    prefix: str
    destination: str
    minute: int
    initial_s: int = 60
    next_s: int = 60
    connect_fee: int = 0
    minimum_s: int = 0


SELL: Final[Mapping[str, Sequence[Price]]] = {
    "Rheinfunk Flex": (
        Price("49", "Germany", 90_000),
        Price("491", "Germany mobile", 90_000),
        Price("44", "United Kingdom", 190_000, 60, 1, 50_000),
        Price("33", "France", 190_000, 30, 1),
        Price("1", "North America", 290_000, 60, 60),
    ),
    "Nordlicht Office": (
        Price("49", "Germany", 19_900, 1, 1),
        Price("491", "Germany mobile", 89_000, 1, 1),
        Price("44", "United Kingdom", 49_000, 1, 1),
        Price("33", "France", 49_000, 1, 1, minimum_s=30),
        Price("1", "North America", 39_000, 6, 6),
    ),
    "Nordlicht Office at night": (
        Price("49", "Germany", 9_900, 1, 1),
        Price("491", "Germany mobile", 79_000, 1, 1),
        Price("44", "United Kingdom", 39_000, 1, 1),
        Price("33", "France", 39_000, 1, 1, minimum_s=30),
        Price("1", "North America", 29_000, 6, 6),
    ),
    "House": (
        Price("49", "Germany", 60_000),
        Price("491", "Germany mobile", 120_000, 60, 30),
        Price("44", "United Kingdom", 110_000, 60, 6),
        Price("33", "France", 110_000, 60, 6),
    ),
}
BUY: Final[Mapping[str, Sequence[Price]]] = {
    "rheinfunk": (
        Price("49", "Germany", 8_000, 1, 1),
        Price("4930", "Berlin", 6_500, 1, 1),
        Price("491", "Germany mobile", 21_000, 1, 1),
        Price("44", "United Kingdom", 16_000, 30, 6),
    ),
    "nordlicht": (
        Price("49", "Germany", 8_400, 1, 1),
        Price("4940", "Hamburg", 6_100, 1, 1),
        Price("4930", "Berlin", 6_900, 1, 1),
        Price("491", "Germany mobile", 19_500, 6, 6),
        Price("33", "France", 14_000, 30, 6),
    ),
    "transit": (
        Price("49", "Germany", 11_500, 60, 1),
        Price("491", "Germany mobile", 31_000, 60, 1),
        Price("44", "United Kingdom", 12_500, 1, 1, 2_000),
        Price("33", "France", 12_000, 1, 1),
        Price("1", "North America", 7_700, 6, 6),
    ),
}


@dataclass(frozen=True, slots=True)
class Product:
    """A bundle for sale. often: the part of the plan's subscribers who buy it."""

    name: str
    plan: str
    price: int
    units: int | None
    covers: Mapping[str, int]
    days: int
    often: float
    fair_use: int | None = None
    renews: bool = True
    prefixes: tuple[str, ...] = ()


BUNDLES: Final = (
    Product("Flex 200", "Rheinfunk Flex", 7_990_000, 200, {"voice": 60, "sms": 1, "data": 1_000_000}, 30, 0.35,
            prefixes=("49",)),
    Product("Messenger", "Rheinfunk Flex", 0, None, {"data.messenger": 1}, 30, 0.5, fair_use=500_000_000),
    Product("Europe 60", "Nordlicht Office", 4_990_000, 60, {"voice": 60}, 7, 0.25, prefixes=("33", "44", "49")),
)  # fmt: skip
SERVICES: Final = (
    ("Rheinfunk Flex", "sms", 90_000, 1), ("Rheinfunk Flex", "data", 240_000, 1_000_000),
    ("Nordlicht Office", "sms", 70_000, 1), ("Nordlicht Office", "data", 190_000, 1_000_000),
    ("House", "sms", 90_000, 1),
)  # fmt: skip
TAXED: Final = {"Rheinfunk Flex": {"tax": "inclusive", "tax_ppm": 190_000},
                "Nordlicht Office": {"tax": "exclusive", "tax_ppm": 190_000}}  # fmt: skip


@dataclass(slots=True)
class Person:
    """A subscriber and what they have. Money in micro-units, instants in milliseconds since 1970."""

    subscriber_id: UUID
    account_id: UUID
    a_number: str
    plan: str
    partner_id: UUID | None
    prepaid: bool
    credit_limit: int
    balance: int = 0
    bundled: bool = False
    busy_until: int = 0
    allowances: list[Any] = field(default_factory=list)

    @property
    def available(self) -> int:
        return self.balance + (0 if self.prepaid else self.credit_limit)


@dataclass(slots=True)
class World:
    """Ids by name, and the people."""

    app_id: UUID
    switch_id: UUID
    people: list[Person]
    plans: dict[str, UUID]
    bundles: dict[str, UUID]
    partners: dict[str, UUID]
    trunks: dict[str, UUID]
    accounts: dict[str, UUID]  # our own, and the carriers'
    corrected_id: UUID  # the deck CORRECTED


async def settle_world(
    conn: Connection, rows: Rows, ids: Ids, dice: Random, since: datetime, people: int, calls: int
) -> World:
    """Everything that is there before the month begins.

    since   the month's begin
    """
    begun = since - 40 * DAY
    new = _Maker(rows, ids, begun)
    partners = {name: new.id() for name in PARTNERS}
    for name, partner_id in partners.items():
        await queries.simulate.add_partner.run(
            conn, partner_id=partner_id, account_id=new.id(), name=name, currency=CURRENCY, at=begun
        )
    owner = {"rheinfunk": partners[PARTNERS[0]], "nordlicht": partners[PARTNERS[1]]}
    accounts = {
        f"{role} {unit}": new.account("system", f"{role} {unit}", unit)
        for unit in (CURRENCY, TRANSIT_CURRENCY)
        for role in ("revenue", "cost", "cash", "bundles")
    }
    trunks = {name: new.trunk(name, owner.get(name), accounts) for name in BUY}
    agreed = [*BUY["nordlicht"][:3], Price("491", "Germany mobile", 17_000, 6, 6), BUY["nordlicht"][4]]
    corrected_id = new.deck(CORRECTED, "buy", CURRENCY, None, agreed)
    new.deck(CORRECTED_LATER, "buy", TRANSIT_CURRENCY, None,
             [Price("44", "United Kingdom", 11_000, 1, 1, 2_000), *BUY["transit"][:2],
             *BUY["transit"][3:]])  # fmt: skip
    plans = {
        "Rheinfunk Flex": new.plan("Rheinfunk Flex", partners[PARTNERS[0]], TAXED["Rheinfunk Flex"]),
        "Nordlicht Office": new.plan(
            "Nordlicht Office", partners[PARTNERS[1]],
            {**TAXED["Nordlicht Office"], "time_zone": ZONE, "quantum_micro": 100}, "Nordlicht Office at night",
        ),
        "House": new.plan("House", None, {}),
    }  # fmt: skip
    for plan, service, price, per in SERVICES:
        rows.add("service_price", plans[plan], service, "home", price, per)
    bundles = {one.name: new.bundle(one, plans, partners) for one in BUNDLES}
    app_id, switch_id = new.id(), new.id()
    rows.add("app", app_id, APP, "192.0.2.10", True, True)
    rows.add("switch", switch_id, "simulated")
    for day in range(-14, 46):
        nano = 920_000_000 + dice.randrange(-15_000_000, 15_000_000)
        on = (since + day * DAY).date()
        rows.add("fx_rate", TRANSIT_CURRENCY, CURRENCY, on, nano, "simulated", begun)
    new.deal(partners[PARTNERS[0]], "Carriage and sales", since, _first_terms(calls, bundles))
    new.deal(partners[PARTNERS[1]], "Office lines", since, _second_terms(calls))
    new.billing(
        partners[PARTNERS[0]], "Rheinfunk & Söhne <Mobil> GmbH", "Am Strom 1", "40213", "Düsseldorf", "DE",
        "DE987654328",
        "Leitweg & Söhne", "DE89370400440532013000", "COBADEFFXXX", True,
    )  # fmt: skip
    new.billing(
        partners[PARTNERS[1]], "Nordlicht Telekom AG", "Ringstraße 7", "1010", "Wien", "AT", "ATU12345675",
        "NL-4711", "AT611904300234573201", "BKAUATWW", True,
    )  # fmt: skip
    new.recipient("finance", None, "csv", "monthly", since)
    new.recipient("rheinfunk", partners[PARTNERS[0]], "csv", "daily", since)
    new.recipient("nordlicht", partners[PARTNERS[1]], "jsonl", "monthly", since)
    cast = [new.person(place, dice, app_id, plans, partners) for place in range(people)]
    return World(app_id, switch_id, cast, plans, bundles, partners, trunks, accounts, corrected_id)


def _first_terms(calls: int, bundles: Mapping[str, UUID]) -> Terms:
    """All minutes by the step that is reached; a share of what its subscribers pay; half a bundle; help lines."""
    steps = (Step(0, 9_000), Step(calls // 20, 8_200), Step(calls // 4, 7_400))
    return Terms(
        wholesale=Wholesale(steps, Mode.WHOLE),
        revenue_share=(Share(2_500, Basis.RETAIL_REVENUE), Share(1_000, Basis.BUNDLE_SALES)),
        zero_rated=ZeroRated((FREE_PREFIX,), (ON_NET,)),
        bundle_funding=(Funding(bundles["Flex 200"], "Flex 200", 4_000),),
    )


def _second_terms(calls: int) -> Terms:
    """Step by step, and more minutes promised than there will be."""
    steps = (Step(0, 8_100), Step(calls // 25, 7_000), Step(calls // 5, 6_200))
    return Terms(
        wholesale=Wholesale(steps, Mode.MARGINAL),
        revenue_share=(Share(1_250, Basis.RETAIL_REVENUE),),
        commitment=Commitment(amount_micro=None, minutes=3 * calls),
    )


class _Maker:
    """Adds the rows of one thing, and tells its id."""

    def __init__(self, rows: Rows, ids: Ids, at: datetime) -> None:
        self._rows, self._ids, self._at = rows, ids, at

    def id(self) -> UUID:
        return self._ids(ms_of(self._at))

    def account(
        self,
        kind: str,
        name: str,
        currency: str,
        partner_id: UUID | None = None,
        funding: str = "prepaid",
        credit_limit: int = 0,
    ) -> UUID:
        account_id = self.id()
        self._rows.add(
            "account", account_id, kind, name, currency, funding, credit_limit, self._at, False, partner_id
        )
        return account_id

    def deck(
        self,
        name: str,
        side: str,
        currency: str,
        partner_id: UUID | None,
        prices: Sequence[Price],
        terms: Mapping[str, Any] | None = None,
    ) -> UUID:
        deck_id = self.id()
        self._rows.add("deck", deck_id, name, side, currency, self._at, json.dumps(terms or {}), partner_id)
        valid = asyncpg.Range(self._at, None)
        for one in prices:
            self._rows.add(
                "rate", self.id(), deck_id, one.prefix, one.destination, one.minute, one.connect_fee, one.initial_s,
                one.next_s, one.minimum_s, valid,
            )  # fmt: skip
        return deck_id

    def trunk(self, name: str, partner_id: UUID | None, accounts: dict[str, UUID]) -> UUID:
        currency = CURRENCY if partner_id else TRANSIT_CURRENCY
        carrier = self.account("carrier", f"carrier {name}", currency, partner_id, "postpaid")
        accounts[f"carrier {name}"] = carrier
        deck_id = self.deck(f"buy {name}", "buy", currency, partner_id, BUY[name])
        trunk_id = self.id()
        self._rows.add(
            "trunk", trunk_id, name, carrier, deck_id, f"{name}.example.net", 0, 40, partner_id, []
        )
        return trunk_id

    def plan(
        self, name: str, partner_id: UUID | None, terms: Mapping[str, Any], night: str | None = None
    ) -> UUID:
        deck_id = self.deck(f"sell {name}", "sell", CURRENCY, partner_id, SELL[name], terms)
        if night is not None:
            night_id = self.deck(f"sell {night}", "sell", CURRENCY, partner_id, SELL[night])
            whole_week, weekend = list(range(8)), [5, 6]
            self._rows.add("deck_band", deck_id, 0, "weekend", weekend, 0, 1440, night_id, CURRENCY)
            self._rows.add("deck_band", deck_id, 1, "night", whole_week, 20 * 60, 7 * 60, night_id, CURRENCY)
        plan_id = self.id()
        first = partner_id is not None and night is None
        free = [FREE_PREFIX] if first else []
        self._rows.add("plan", plan_id, name, deck_id, -500_000, free, first, partner_id)
        return plan_id

    def bundle(self, one: Product, plans: Mapping[str, UUID], partners: Mapping[str, UUID]) -> UUID:
        bundle_id = self.id()
        partner_id = partners[PARTNERS[0] if one.plan.startswith("Rhein") else PARTNERS[1]]
        self._rows.add(
            "bundle", bundle_id, one.name, CURRENCY, one.price, one.units, one.fair_use, json.dumps(one.covers),
            list(one.prefixes), one.days, one.renews, plans[one.plan], partner_id,
        )  # fmt: skip
        return bundle_id

    def deal(self, partner_id: UUID, name: str, since: datetime, terms: Terms) -> None:
        deal_id = self.id()
        self._rows.add("deal", deal_id, partner_id, name, CURRENCY, "signed", 1, self._at, self._at)
        agreed = asyncpg.Range(since, None)
        kept = json.dumps(terms.to_json())
        self._rows.add(
            "deal_version", self.id(), deal_id, 1, agreed, agreed, kept, "", "simulation", self._at
        )

    def billing(self, partner_id: UUID, legal_name: str, *told: Any) -> None:
        """Street, postcode, city, country, VAT id, buyer reference, IBAN, BIC, and whether it sells on."""
        street, postcode, city, country, vat_id, reference, iban, bic, reseller = told
        self._rows.add(
            "partner_billing", partner_id, legal_name, street, postcode, city, country, vat_id, "Rechnungsprüfung",
            "+49 30 23125000", "rechnung@example.net", reference, iban, bic, reseller, True, 30, "de", self._at,
        )  # fmt: skip

    def recipient(self, code: str, partner_id: UUID | None, form: str, period: str, since: datetime) -> None:
        """Of all sorts of files, which are fetched over the API."""
        types, target = ["cdr", "quality", "correction"], json.dumps({"kind": "api"})
        self._rows.add(
            "cdr_recipient", self.id(), code, partner_id, types, form, period, ZONE, target, since, self._at
        )

    def person(
        self,
        place: int,
        dice: Random,
        app_id: UUID,
        plans: Mapping[str, UUID],
        partners: Mapping[str, UUID],
    ) -> Person:
        """Nine of twenty are the first partner's, prepaid; eight the second's, most of them with an invoice."""
        plan = ("Rheinfunk Flex", "Nordlicht Office", "House")[(place % 20 >= 9) + (place % 20 >= 17)]
        partner_id = {"R": partners[PARTNERS[0]], "N": partners[PARTNERS[1]]}.get(plan[0])
        prepaid = plan != "Nordlicht Office" or dice.random() < 0.2
        a_number = f"{HOME_RANGES[place // 1000]}{place % 1000:03}"
        credit_limit = 0 if prepaid else 200_000_000
        funding = "prepaid" if prepaid else "postpaid"
        account_id = self.account(
            "subscriber", f"subscriber {a_number}", CURRENCY, partner_id, funding, credit_limit
        )
        subscriber_id = self.id()
        self._rows.add(
            "subscriber",
            subscriber_id,
            app_id,
            a_number,
            account_id,
            plans[plan],
            "active",
            self._at,
            partner_id,
        )
        return Person(subscriber_id, account_id, a_number, plan, partner_id, prepaid, credit_limit)
