"""Whatever trunks there are, no plan joins WhatsApp and the phone network."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.rating.deck import Deck
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff
from bridge.routing.plan import plan
from bridge.routing.router import Router
from bridge.routing.trunk import APP, PSTN, VOIP_ONLY, Trunk
from bridge.telephony.number import Number

CLASSES = st.sampled_from(["pstn", "voip_only", "emergency"])
LEGS = st.sampled_from([APP, PSTN, VOIP_ONLY, "unheard of"])
BERLIN = Number("+493023125000")
SELL = Tariff(Rate("sell", "retail", "49", "Germany", "EUR", 90_000))


@st.composite
def trunks(draw: Any) -> list[Trunk]:
    found = []
    for serial in range(draw(st.integers(0, 8))):
        name = f"t{serial}"
        rate = Rate(f"r{serial}", name, "49", "Germany", "EUR", draw(st.integers(0, 80_000)))
        found.append(
            Trunk(
                trunk_id=name,
                name=name,
                carrier=name,
                deck=Deck(name, name, "EUR", 1, [rate]),
                capacity=draw(st.sampled_from([None, 0, 5])),
                priority=draw(st.integers(-2, 2)),
                enabled=draw(st.booleans()),
                policy_class=draw(CLASSES),
                draining=draw(st.booleans()),
                down=draw(st.booleans()),
            )
        )
    return found


@given(trunks(), LEGS, CLASSES, st.integers(1, 9), st.booleans())
def test_no_plan_joins_what_may_never_meet(
    found: list[Trunk], leg_class: str, wanted: str, limit: int, zero_rated: bool
) -> None:
    asked: dict[str, Any] = {
        "leg_class": leg_class, "policy_class": wanted, "limit": limit, "zero_rated": zero_rated,
    }  # fmt: skip
    router = Router(found)
    router.plan(
        BERLIN, SELL, {}, policy_class=wanted, limit=limit, zero_rated=zero_rated
    )  # kept for an app's leg
    made = plan(BERLIN, SELL, found, {}, **asked)
    assert router.plan(BERLIN, SELL, {}, **asked) == made
    class_of = {trunk.trunk_id: trunk.policy_class for trunk in found}
    met = {class_of[route.trunk_id] for route in made.routes}
    if leg_class == VOIP_ONLY:
        assert met <= {VOIP_ONLY}
    elif leg_class == PSTN:
        assert VOIP_ONLY not in met
    elif leg_class != APP:
        assert not met
    assert met <= {wanted}
    assert not any(
        trunk.name in made.spare for trunk in found if leg_class == VOIP_ONLY != trunk.policy_class
    )
