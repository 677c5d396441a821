from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.rating.deck import Deck
from bridge.rating.rate import Rate
from bridge.rating.tariff import Band, Tariff, Tax, Terms
from bridge.routing.plan import Route, RoutePlan, plan
from bridge.routing.router import Router
from bridge.routing.trunk import EMERGENCY, VOIP_ONLY, Trunk
from bridge.telephony.number import Number

BERLIN = Number("+493023125000")
SELL = Tariff(Rate("sell", "retail", "49", "Germany", "EUR", 90_000))


def trunk(name: str, prices: dict[str, int | Rate], *, currency: str = "EUR", **fields: Any) -> Trunk:
    rates = [
        price
        if isinstance(price, Rate)
        else Rate(f"{name}-{prefix}", name, prefix, "Germany", currency, price)
        for prefix, price in prices.items()
    ]
    known = {
        "trunk_id": f"id-{name}",
        "carrier": name,
        "capacity": None,
        "deck": Deck(name, name, currency, 1, rates),
    }
    return Trunk(name=name, **(known | fields))


def names(made: RoutePlan) -> list[str]:
    return [route.name for route in made.routes]


def routed(number: Number, sell: Tariff, trunks: list[Trunk], live: dict[str, int], **more: Any) -> RoutePlan:
    return Router(trunks).plan(number, sell, live, **more)


def left_out(made: RoutePlan) -> dict[str, str]:
    return {left.name: left.why for left in made.left_out}


def test_the_cheapest_goes_first() -> None:
    made = plan(
        BERLIN, SELL, [trunk("b", {"49": 20_000}), trunk("c", {"49": 30_000}), trunk("a", {"49": 10_000})], {}
    )
    assert names(made) == ["a", "b", "c"]
    assert [(route.cost_micro, route.margin_micro) for route in made.routes] == [
        (30_000, 240_000),
        (60_000, 210_000),
        (90_000, 180_000),
    ]
    assert made.left_out == ()


def test_the_longest_prefix_counts_within_each_carrier_and_not_across() -> None:
    # The trap: sorting by prefix length across carriers would pick `exact`, which is dearer.
    exact, broad = trunk("exact", {"49": 1_000, "493023": 40_000}), trunk("broad", {"49": 20_000})
    made = plan(BERLIN, SELL, [exact, broad], {})
    assert [(route.name, route.buy.rate.prefix) for route in made.routes] == [
        ("broad", "49"),
        ("exact", "493023"),
    ]


def test_increments_and_connect_fees_count_in_the_comparison() -> None:
    fee = Rate("r", "fee", "49", "Germany", "EUR", 10_000, connect_fee_micro=100_000)
    coarse = Rate("r", "coarse", "49", "Germany", "EUR", 15_000, initial_s=600)
    made = plan(
        BERLIN,
        SELL,
        [trunk("fee", {"49": fee}), trunk("coarse", {"49": coarse}), trunk("plain", {"49": 20_000})],
        {},
    )
    assert [(route.name, route.cost_micro) for route in made.routes] == [
        ("plain", 60_000),
        ("fee", 130_000),
        ("coarse", 150_000),
    ]


def test_ties_go_by_priority_then_name_whatever_the_order_given() -> None:
    trunks = [
        trunk("z", {"49": 1_000}, priority=1),
        trunk("b", {"49": 1_000}, priority=2),
        trunk("a", {"49": 1_000}, priority=2),
    ]
    forward, backward = plan(BERLIN, SELL, trunks, {}), plan(BERLIN, SELL, trunks[::-1], {})
    assert names(forward) == names(backward) == ["z", "a", "b"]


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        (trunk("x", {"49": 1_000}, enabled=False), "disabled"),
        (trunk("x", {"33": 1_000}), "no prefix in its deck"),
        (trunk("x", {}), "no prefix in its deck"),
        (
            trunk("x", {"49": 1_000}, currency="USD"),
            "buys in USD, sold in EUR, and no exchange rate is known",
        ),
        (trunk("x", {"49": 1_000}, capacity=2), "full, 2 of 2 calls"),
        (trunk("x", {"49": 1_000}, capacity=0), "full, 2 of 0 calls"),
        (trunk("x", {"49": 1_000}, policy_class=VOIP_ONLY), "carries voip_only calls only"),
        (trunk("x", {"49": 1_000}, policy_class=EMERGENCY), "carries emergency calls only"),
        (trunk("x", {"49": 90_001}), "margin -0.000003 for 180 s is under the floor of 0.00 a minute"),
        (
            trunk("x", {"49": 1, "4930": Rate("r", "x", "4930", "Berlin", "EUR", 1, blocked=True)}),
            "prefix 4930 is blocked in its deck",
        ),
    ],
)
def test_what_is_left_out_and_why(spoilt: Trunk, why: str) -> None:
    made = plan(BERLIN, SELL, [spoilt, trunk("good", {"49": 80_000})], {"id-x": 2})
    assert names(made) == ["good"]
    assert left_out(made) == {"x": why}


def test_a_call_below_capacity_still_fits() -> None:
    assert names(plan(BERLIN, SELL, [trunk("x", {"49": 1_000}, capacity=2)], {"id-x": 1})) == ["x"]
    assert names(plan(BERLIN, SELL, [trunk("x", {"49": 1_000}, capacity=1)], {})) == ["x"]


@pytest.mark.parametrize(
    ("floor_micro", "carried"), [(0, True), (9_999, True), (10_000, True), (10_001, False), (-10_000, True)]
)
def test_the_margin_floor_is_per_minute_and_inclusive(floor_micro: int, carried: bool) -> None:
    made = plan(BERLIN, SELL, [trunk("x", {"49": 80_000})], {}, margin_floor_micro=floor_micro)
    assert bool(made.routes) is carried


def test_a_negative_floor_allows_a_loss() -> None:
    losing = [trunk("x", {"49": 100_000})]
    assert names(plan(BERLIN, SELL, losing, {}, margin_floor_micro=-10_000)) == ["x"]
    assert names(plan(BERLIN, SELL, losing, {}, margin_floor_micro=-9_999)) == []


def test_attempts_are_limited() -> None:
    made = plan(BERLIN, SELL, [trunk(name, {"49": 1_000}) for name in "dcba"], {}, limit=2)
    assert names(made) == ["a", "b"]
    assert left_out(made) == {"c": "not among the first 2", "d": "not among the first 2"}


def test_the_frozen_plan_only_counts_the_spare_ones() -> None:
    made = plan(BERLIN, SELL, [trunk(name, {"49": 1_000}) for name in "dcba"], {}, limit=2)
    assert made.to_json()["left_out"] == {}
    assert made.to_json()["spare"] == 2
    assert made.spare == ("c", "d")


def test_carriers_in_other_currencies_are_compared_by_their_worth() -> None:
    trunks = [
        trunk("euro", {"49": 20_000}),
        trunk("dollar", {"49": 21_000}, currency="USD"),
        trunk("pound", {"49": 1}, currency="GBP"),
    ]
    made = plan(BERLIN, SELL, trunks, {}, fx={("USD", "EUR"): 900_000_000, ("EUR", "GBP"): 1})
    assert [(route.name, route.cost_micro, route.margin_micro) for route in made.routes] == [
        ("dollar", 63_000, 270_000 - 56_700),
        ("euro", 60_000, 210_000),
    ]
    assert left_out(made) == {"pound": "buys in GBP, sold in EUR, and no exchange rate is known"}
    assert made.routes[0].why == "prefix 49: 0.063 USD for 180 s, converted at 0.9, margin 0.2133"
    frozen = json.loads(json.dumps(made.to_json()))["routes"]
    assert tuple(map(Route.from_json, frozen)) == made.routes
    assert "exchange_nano" not in frozen[1]  # as routes were frozen before there was any exchange


@pytest.mark.parametrize(("nano", "converted_micro"), [(166_666_666, 0), (166_666_667, 1), (500_000_000, 2)])
def test_a_converted_cost_is_rounded_half_up(nano: int, converted_micro: int) -> None:
    made = plan(BERLIN, SELL, [trunk("x", {"49": 1}, currency="USD")], {}, fx={("USD", "EUR"): nano})
    assert made.routes[0].cost_micro == 3
    assert made.routes[0].margin_micro == 270_000 - converted_micro


def test_somebody_else_pays_so_the_margin_floor_does_not_count() -> None:
    losing = [trunk("x", {"49": 100_000})]
    made = plan(BERLIN, SELL, losing, {}, zero_rated=True)
    assert names(made) == ["x"]
    assert made.to_json()["zero_rated"] is True
    assert names(plan(BERLIN, SELL, losing, {})) == []
    assert "zero_rated" not in plan(BERLIN, SELL, losing, {}).to_json()


def test_tax_is_not_margin() -> None:
    taxed = Tariff(SELL.rate, terms=Terms(tax=Tax.INCLUSIVE, tax_ppm=200_000))
    assert plan(BERLIN, taxed, [trunk("x", {"49": 0})], {}).routes[0].margin_micro == 225_000


def test_a_rate_for_other_callers_does_not_count() -> None:
    rates: dict[str, int | Rate] = {
        "49": 20_000,
        "4930": Rate("r", "x", "4930", "Berlin", "EUR", 1_000, origin_set="EU"),
    }
    trunks = [trunk("x", rates)]
    assert plan(BERLIN, SELL, trunks, {}).routes[0].buy.rate.prefix == "49"
    assert plan(BERLIN, SELL, trunks, {}, origins=("EU",)).routes[0].buy.rate.prefix == "4930"


NOON, EVENING = datetime(2026, 3, 2, 12, tzinfo=UTC), datetime(2026, 3, 2, 18, tzinfo=UTC)


def banded(name: str, day_micro: int, evening_micro: int | None) -> Trunk:
    """Another price from 18:00 UTC on; None: blocked then."""
    evening = Rate("r", "e", "49", "Germany", "EUR", evening_micro or 0, blocked=evening_micro is None)
    band = Band("evening", frozenset(range(7)), 1080, 1440)
    rates = [Rate("r", name, "49", "Germany", "EUR", day_micro)]
    deck = Deck(name, name, "EUR", 1, rates, bands=[(band, Deck("e", "e", "EUR", 1, [evening]))])
    return Trunk(f"id-{name}", name, name, deck, None)


def test_what_is_cheapest_depends_on_the_time() -> None:
    trunks = [trunk("flat", {"49": 20_000}), banded("owl", 30_000, 10_000), banded("lark", 25_000, None)]
    router = Router(trunks)
    for at, order in [
        (NOON, ["flat", "lark", "owl"]),
        (EVENING, ["owl", "flat"]),
        (NOON, ["flat", "lark", "owl"]),
        (EVENING - timedelta(seconds=1), ["lark", "owl", "flat"]),  # two of three minutes are cheap
        (EVENING - timedelta(seconds=180), ["flat", "lark", "owl"]),
    ]:
        made = plan(BERLIN, SELL, trunks, {}, at=at)
        assert names(made) == order, at
        assert router.plan(BERLIN, SELL, {}, at=at) == made
    with pytest.raises(ValueError, match="answered"):
        router.plan(BERLIN, SELL, {})


def test_a_router_keeps_nothing_of_calls_that_differ() -> None:
    trunks = [trunk("a", {"49": 10_000}, capacity=2), trunk("b", {"49": 20_000, "4930": 5_000})]
    router = Router(trunks)
    munich, dear = Number("+498912345678"), Tariff(replace(SELL.rate, rate_micro=15_000))
    assert names(router.plan(BERLIN, SELL, {})) == ["b", "a"]
    assert names(router.plan(munich, SELL, {})) == ["a", "b"]
    assert left_out(router.plan(munich, SELL, {"id-a": 2})) == {"a": "full, 2 of 2 calls"}
    assert left_out(router.plan(munich, SELL, {"id-a": 3})) == {"a": "full, 3 of 2 calls"}
    assert names(router.plan(munich, SELL, {"id-a": 1})) == ["a", "b"]
    assert names(router.plan(munich, dear, {})) == ["a"]
    assert names(router.plan(munich, SELL, {}, margin_floor_micro=80_000)) == ["a"]
    assert names(router.plan(munich, SELL, {}, limit=1)) == ["a"]
    assert names(router.plan(munich, SELL, {}, policy_class=VOIP_ONLY)) == []
    assert left_out(router.plan(Number("+33123456789"), SELL, {}))["b"] == "no prefix in its deck"


@pytest.mark.parametrize("made_by", [plan, routed])
def test_trunks_that_drain_or_are_paced_are_left_out(made_by: Any) -> None:
    trunks = [
        trunk("drained", {"49": 1_000}, draining=True),
        trunk("paced", {"49": 2_000}, cps=5),
        trunk("open", {"49": 3_000}),
    ]
    made = made_by(BERLIN, SELL, trunks, {}, paced={"id-paced"})
    assert names(made) == ["open"]
    assert left_out(made) == {"drained": "draining", "paced": "5 calls a second, and so many this second"}
    assert names(made_by(BERLIN, SELL, trunks, {})) == ["paced", "open"]


@pytest.mark.parametrize("made_by", [plan, routed])
def test_a_trunk_that_is_down_is_the_last_resort(made_by: Any) -> None:
    down = trunk("down", {"49": 1_000}, down=True)
    made = made_by(BERLIN, SELL, [down, trunk("dear", {"49": 30_000})], {}, limit=1)
    assert names(made) == ["dear"]
    assert left_out(made) == {"down": "down"}
    for others in (
        [],
        [trunk("full", {"49": 2_000}, capacity=0)],
        [trunk("abroad", {"33": 1_000})],
        [trunk("too_dear", {"49": 900_000})],
        [trunk("also", {"49": 2_000}, down=True)],
    ):
        assert names(made_by(BERLIN, SELL, [down, *others], {}))[0] == "down"


def test_another_policy_class_has_its_own_trunks() -> None:
    trunks = [trunk("pstn", {"49": 1_000}), trunk("voip", {"49": 1_000}, policy_class=VOIP_ONLY)]
    assert names(plan(BERLIN, SELL, trunks, {}, policy_class=VOIP_ONLY)) == ["voip"]


def test_no_trunk_no_route() -> None:
    assert plan(BERLIN, SELL, [], {}) == RoutePlan((), ())


def test_the_frozen_plan_is_small_and_enough_to_price_each_attempt() -> None:
    made = plan(BERLIN, SELL, [trunk("a", {"49": 10_000}, ring_s=20), trunk("b", {"33": 1})], {})
    written = json.dumps(made.to_json())
    told = json.loads(written)
    assert Tariff.from_json(told["routes"][0].pop("buy")) == made.routes[0].buy
    assert told == {
        "routes": [
            {
                "trunk_id": "id-a",
                "name": "a",
                "carrier": "a",
                "ring_s": 20,
                "cost_micro": 30_000,
                "margin_micro": 240_000,
            }
        ],
        "left_out": {"b": "no prefix in its deck"},
    }
    assert BERLIN.digits not in written
    assert made.routes[0].why == "prefix 49: 0.03 EUR for 180 s, margin 0.24"


@pytest.mark.parametrize("fields", [{"capacity": -1}, {"ring_s": 0}, {"policy_class": "any"}])
def test_a_wrong_trunk_names_its_field(fields: dict[str, Any]) -> None:
    (field,) = fields
    with pytest.raises(ValueError, match=f"trunk x: {field}"):
        trunk("x", {}, **fields)
