"""A plan as a TOML file: what its calls, messages and data cost, on which terms, and its bundles."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bridge.rating.rate import SPAN_S_MAX, TALK_S_MAX
from bridge.rating.terms_file import (
    DeckName,
    Micro,
    Name,
    Part,
    Price,
    TermsKeys,
    Window,
    parse_part,
    refuse_twice,
    text_schema,
)
from bridge.telephony.money import check_currency

_NOTHING: Final[dict[str, Any]] = {"default": "0.00"}  # as a file says it
_INCREMENT: Final = re.compile(r"([1-9][0-9]{0,4})/([1-9][0-9]{0,4})", re.ASCII)


class Increment(NamedTuple):
    """Seconds of the first block of a call, and of each further one."""

    initial_s: int
    next_s: int


def _increment(text: object) -> Increment:
    found = _INCREMENT.fullmatch(text) if isinstance(text, str) else None
    if found is None or max(int(found[1]), int(found[2])) > SPAN_S_MAX:
        raise ValueError(
            'is not an increment. Write the first block and the next ones in seconds, such as "60/1"'
        )
    return Increment(int(found[1]), int(found[2]))


def _service(name: str) -> str:
    if name == "voice":
        raise ValueError("what calls cost is said by [[home]] and [[roaming]]. Name a message or data")
    return name


Prefix = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}$")]
Prefixes = Annotated[tuple[Prefix, ...], Field(strict=False)]
Service = Annotated[str, Field(pattern=r"^[a-z]+(\.[a-z]+)?$", max_length=40)]
Count = Annotated[int, Field(gt=0, le=2**53)]
Span = Annotated[int, Field(ge=0, le=SPAN_S_MAX)]


class TierPart(Part):
    """From this second of talk on, another price, in blocks of `next_s`."""

    from_s: int = Field(ge=1, le=TALK_S_MAX)
    a_minute_micro: Price = Field(alias="a_minute")
    next_s: int = Field(ge=1, le=SPAN_S_MAX)


class CallRate(Part):
    """Calls to these prefixes. Blocked ones need no price."""

    destination: Name
    prefixes: Prefixes = Field(min_length=1)
    a_minute_micro: Price = Field(alias="a_minute")
    increment: Annotated[
        Increment, BeforeValidator(_increment), text_schema(r"^[1-9][0-9]{0,4}/[1-9][0-9]{0,4}$", "60/1")
    ]
    connect_fee_micro: Price = Field(0, alias="connect_fee", json_schema_extra=_NOTHING)
    minimum_s: Span = 0
    grace_s: Span = 0
    tiers: Annotated[tuple[TierPart, ...], Field(strict=False)] = ()
    blocked: bool = False

    @model_validator(mode="before")
    @classmethod
    def _blocked_costs_nothing(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("blocked") is True:
            return {"a_minute": "0.00", "increment": "60/60"} | given
        return given

    @model_validator(mode="after")
    def _tiers_ascend(self) -> Self:
        starts = [tier.from_s for tier in self.tiers]
        if starts != sorted(set(starts)):
            raise ValueError(f"tiers from {starts} do not ascend. Write each later tier once, in order")
        return self


Rates = Annotated[tuple[CallRate, ...], Field(strict=False)]


class PlanBand(Window):
    """Another price for a part of the week: of rates here, or of a deck that exists."""

    home: Rates = ()
    deck: DeckName | None = None

    @model_validator(mode="after")
    def _is_priced_once(self) -> Self:
        if bool(self.home) == bool(self.deck):
            raise ValueError("a band is priced by rates or by a deck. Write [[band.home]], or deck")
        _refuse_prefix_twice("band", self.home)
        return self


class ServiceRate(Part):
    """Messages or data without a bundle: a price for each begun `per`."""

    name: Annotated[Service, AfterValidator(_service)]
    zone: Literal["home", "roaming"] = "home"
    price_micro: Price = Field(alias="price")
    per: Count = 1


class BundlePart(Part):
    """A bundle for sale.

    included         every subscriber of the plan is to have it from the first day
    units            None: without limit
    fair_use_units   beyond it the service is throttled, not charged
    renew_wait_days  so long a renewal waits for money
    burn_order       lower first, then what ends first
    covers           what one unit pays for, by service: seconds, messages, bytes
    """

    name: Name
    included: bool = False
    price_micro: Price = Field(alias="price")
    units: Count | None = None
    fair_use_units: Count | None = None
    days: int = Field(ge=1, le=3660)
    renews: bool = False
    renew_wait_days: int = Field(30, ge=0, le=3660)
    burn_order: int = Field(100, ge=0, le=1_000_000)
    zone: Literal["home", "roaming", "any"] = "home"
    prefixes: Prefixes = ()
    covers: dict[Service, Count] = Field(min_length=1)

    @model_validator(mode="after")
    def _included_is_free(self) -> Self:
        if self.included and self.price_micro:
            raise ValueError('what is included has no price. Write price = "0.00", or included = false')
        return self


class PlanFile(TermsKeys):
    """A whole plan.

    margin_floor_micro  for one minute
    on_net_fallback     a user of the app whom no phone reaches is called over a carrier, at this plan's price
    referral_micro      for each of the two
    home, roaming       rates of decks that the plan makes; home_deck, roaming_deck: decks that exist in their place
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9 _-]{0,30}$")]
    currency: Annotated[
        str, Field(json_schema_extra={"pattern": "^[A-Z]{3}$"}), AfterValidator(check_currency)
    ]
    margin_floor_micro: Micro = Field(0, alias="margin_floor", json_schema_extra=_NOTHING)
    on_net_free: bool = False
    on_net_fallback: bool = False
    zero_rated: Prefixes = ()
    referral_micro: Price = Field(0, alias="referral", json_schema_extra=_NOTHING)
    home: Rates = ()
    home_deck: DeckName | None = None
    roaming: Rates = ()
    roaming_deck: DeckName | None = None
    bands: Annotated[tuple[PlanBand, ...], Field(strict=False)] = Field((), alias="band")
    services: Annotated[tuple[ServiceRate, ...], Field(strict=False)] = Field((), alias="service")
    bundles: Annotated[tuple[BundlePart, ...], Field(strict=False)] = Field((), alias="bundle")

    @model_validator(mode="after")
    def _each_zone_is_priced_once(self) -> Self:
        if bool(self.home) == bool(self.home_deck):
            raise ValueError("home is priced by rates or by a deck. Write [[home]], or home_deck")
        if self.roaming and self.roaming_deck:
            raise ValueError("roaming is priced twice. Keep [[roaming]] or roaming_deck")
        own_terms = self.model_fields_set & TermsKeys.model_fields.keys()
        if self.home_deck and (self.bands or (own_terms and not self.roaming)):
            raise ValueError(
                f"deck {self.home_deck} has terms and bands of its own. Set them with `callbridge deck terms`"
            )
        return self

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        _refuse_prefix_twice("home", self.home)
        _refuse_prefix_twice("roaming", self.roaming)
        refuse_twice("service", [f"{one.name} ({one.zone})" for one in self.services])
        refuse_twice("bundle", [one.name for one in self.bundles])
        # Bands and roaming have decks of their own, named after the plan and them.
        refuse_twice("band", [one.name for one in self.bands] + (["roaming"] if self.bands else []))
        return self


def parse_plan(text: str, file_name: str) -> PlanFile:
    """Read a plan. raises ConfigError naming file, key and fix"""
    return parse_part(PlanFile, text, file_name)


def _refuse_prefix_twice(where: str, rates: tuple[CallRate, ...]) -> None:
    refuse_twice(f"prefix of {where}", [prefix for rate in rates for prefix in rate.prefixes])
