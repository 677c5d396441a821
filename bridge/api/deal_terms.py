"""The terms of a deal as requests and replies carry them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from bridge.api.fields import Body, BundleId, Name, Told, show_id, show_money
from bridge.database import Connection
from bridge.errors import Invalid
from bridge.partners import deal as rules
from bridge.partners.store import deal as store
from bridge.telephony.money import format_micro, parse_micro

_LIST_MAX: Final = 100
TERMS_EXAMPLE: Final[dict[str, Any]] = {
    "wholesale": {
        "steps": [{"from_minutes": 0, "rate": "0.0095"}, {"from_minutes": 1000000, "rate": "0.0080"}],
        "mode": "marginal",
    },
    "revenue_share": [{"percent": "12.50", "of": "retail_revenue"}],
    "commitment": {"amount": "2500.00", "minutes": 100000},
    "zero_rated": {"destinations": ["49800"], "services": ["on_net"]},
}


def _text(parse: Callable[[str], int]) -> BeforeValidator:
    def read(text: object) -> int:
        if not isinstance(text, str):
            raise ValueError("should be a decimal string, in quotes")
        return parse(text)

    return BeforeValidator(read)


def _schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


Percent = Annotated[
    int,
    Field(ge=0),
    _text(rules.parse_percent),
    PlainSerializer(rules.format_percent, return_type=str),
    _schema(r"^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)$", "12.50"),
]
Rate = Annotated[
    int,
    Field(ge=0, lt=rules.RATE_MICRO_MAX),
    _text(parse_micro),
    PlainSerializer(format_micro, return_type=str),
    _schema(r"^[0-9]{1,6}(\.[0-9]{1,6})?$", "0.0095"),
]
Amount = Annotated[
    int,
    Field(ge=0),
    _text(parse_micro),
    PlainSerializer(format_micro, return_type=str),
    _schema(r"^[0-9]{1,12}(\.[0-9]{1,6})?$", "2500.00"),
]
Prefix = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}$", examples=["49800"])]
Service = Annotated[
    str, Field(pattern=r"^[a-z][a-z_]{0,18}(\.[a-z]{1,20})?$", examples=["sms", rules.ON_NET])
]
Minutes = Annotated[int, Field(ge=0, le=rules.MINUTES_MAX)]


class DealStep(Body):
    """From this minute of a month on, a minute costs this."""

    from_minutes: Minutes = Field(examples=[0])
    rate: Rate = Field(description="For one minute")


class DealWholesale(Body):
    """What we pay the partner for the traffic it carries for us in a month."""

    steps: list[DealStep] = Field(
        min_length=1,
        max_length=rules.STEPS_MAX,
        description="Ascending, the first from minute 0",
        examples=[[{"from_minutes": 0, "rate": "0.0095"}, {"from_minutes": 1000000, "rate": "0.0080"}]],
    )
    mode: rules.Mode = Field(
        rules.Mode.MARGINAL,
        description="`marginal`: each minute by the step it falls into. `whole`: all minutes by the step reached",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        self.rule()
        return self

    def rule(self) -> rules.Wholesale:
        steps = tuple(rules.Step(step.from_minutes, step.rate) for step in self.steps)
        return rules.Wholesale(steps, self.mode)


class DealShare(Body):
    """The partner's part of what its subscribers pay."""

    percent: Percent
    of: rules.Basis


class DealCommitment(Body):
    """The least of a month; what is less is paid as if it were this. An amount, minutes, or both."""

    amount: Amount | None = None
    minutes: Minutes | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        rules.Commitment(self.amount, self.minutes)
        return self


class DealZeroRated(Body):
    """What subscribers do not pay and the partner does."""

    destinations: list[Prefix] = Field([], max_length=_LIST_MAX, description="Calls to these prefixes")
    services: list[Service] = Field(
        [], max_length=_LIST_MAX, description="`on_net`: calls between subscribers of one app"
    )


class DealFunding(Body):
    """The part of a bundle's price that the partner pays. The bundle by its id or its name."""

    bundle_id: BundleId | None = None
    bundle: Name | None = None
    percent: Percent

    @model_validator(mode="after")
    def _is_named(self) -> Self:
        if (self.bundle_id is None) == (self.bundle is None):
            raise ValueError("name the bundle by bundle_id or by bundle, not both")
        return self


class DealTerms(Body):
    """All that a version says. What is left out is not part of the deal."""

    wholesale: DealWholesale | None = None
    revenue_share: list[DealShare] = Field([], max_length=len(rules.Basis))
    commitment: DealCommitment | None = None
    zero_rated: DealZeroRated = DealZeroRated()
    bundle_funding: list[DealFunding] = Field([], max_length=_LIST_MAX)

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        if len({one.of for one in self.revenue_share}) != len(self.revenue_share):
            raise ValueError("revenue_share: name one share of each kind of revenue")
        return self


class DealFundingTold(Told):
    bundle_id: BundleId
    bundle: str
    percent: Percent


class DealTermsTold(Told):
    """The terms of a version."""

    wholesale: DealWholesale | None
    revenue_share: list[DealShare]
    commitment: DealCommitment | None
    zero_rated: DealZeroRated
    bundle_funding: list[DealFundingTold]


def show_terms(terms: rules.Terms) -> dict[str, Any]:
    wholesale, commitment = terms.wholesale, terms.commitment
    percent = rules.format_percent
    return {
        "wholesale": {
            "steps": [
                {"from_minutes": step.from_minutes, "rate": format_micro(step.rate_micro)}
                for step in wholesale.steps
            ],
            "mode": wholesale.mode.value,
        }
        if wholesale
        else None,
        "revenue_share": [
            {"percent": percent(one.permyriad), "of": one.of.value} for one in terms.revenue_share
        ],
        "commitment": {"amount": show_money(commitment.amount_micro), "minutes": commitment.minutes}
        if commitment
        else None,
        "zero_rated": {
            "destinations": list(terms.zero_rated.destinations),
            "services": list(terms.zero_rated.services),
        },
        "bundle_funding": [
            {
                "bundle_id": show_id("bdl", one.bundle_id),
                "bundle": one.bundle,
                "percent": percent(one.permyriad),
            }
            for one in terms.bundle_funding
        ],
    }


async def rules_of(conn: Connection, partner_id: UUID, given: DealTerms) -> rules.Terms:
    """raises   NotFound: a bundle that this partner's subscribers cannot buy · Invalid: one is named twice"""
    funding = []
    for one in given.bundle_funding:
        found = await store.bundle_of(conn, partner_id, bundle_id=one.bundle_id, name=one.bundle)
        funding.append(rules.Funding(*found, one.percent))
    commitment = given.commitment
    try:
        return rules.Terms(
            given.wholesale.rule() if given.wholesale else None,
            tuple(rules.Share(one.percent, one.of) for one in given.revenue_share),
            rules.Commitment(commitment.amount, commitment.minutes) if commitment else None,
            rules.ZeroRated(tuple(given.zero_rated.destinations), tuple(given.zero_rated.services)),
            tuple(funding),
        )
    except ValueError as error:
        raise Invalid(f"#/terms: {error}") from None
