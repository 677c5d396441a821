from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.asterisk.scene import (
    BALANCE_MICRO,
    BERLIN,
    BETA_MICRO_PER_6_S,
    FRANKFURT,
    PRICE_MICRO,
    Scene,
    assert_free,
    well,
)
from tests.asterisk.sipp import Caller, Peer, answers, rejects


def path(told: dict[str, Any]) -> list[tuple[str, str, int | None]]:
    return [(each["trunk"], each["outcome"], each["sip_code"]) for each in told["attempts"]]


def answered_on_beta(scene: Scene, call: Peer, a_number: str) -> dict[str, Any]:
    """What is the same after every failover: one charge, and a cost only where it was answered."""
    told = scene.story(call)
    assert told["state"] == "answered"
    assert (told["charge"], told["cost"]) == ("0.09", f"{BETA_MICRO_PER_6_S / 1e6:.4f}")
    assert [each["cost"] for each in told["attempts"][:-1]] == ["0.00"] * (len(told["attempts"]) - 1)
    assert [entry["account"] for entry in told["entries"]] == [
        f"subscriber {a_number}",
        "revenue EUR",
        "cost EUR",
        "carrier beta",
    ]
    assert scene.account(a_number) == (BALANCE_MICRO - PRICE_MICRO, 0)
    return told


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        pytest.param("503 Service Unavailable", "congested", id="503"),
        pytest.param("404 Not Found", "number_not_found", id="404"),
        pytest.param("500 Server Internal Error", "failed", id="500"),
        pytest.param("488 Not Acceptable Here", "no_common_codec", id="488"),
    ],
)
def test_a_carrier_that_cannot_is_followed_by_the_next(scene: Scene, said: str, outcome: str) -> None:
    a_number = scene.subscriber()
    first, second = scene.alpha(rejects(said)), scene.beta(answers())
    call = scene.calls(Caller(a_number, BERLIN).talks(0.3))
    _, _, second_saw = well(call, first, second)
    assert path(answered_on_beta(scene, call, a_number)) == [
        ("alpha", outcome, int(said[:3])),
        ("beta", "answered", 200),
    ]
    assert [line.split("@")[0] for line in second_saw.invites()] == [f"INVITE sip:{BERLIN}"]


@pytest.mark.parametrize("dead", [Scene.alpha_closed, Scene.alpha_silent], ids=["closed port", "silent"])
def test_a_carrier_that_is_not_there_is_followed_by_the_next(
    scene: Scene, dead: Callable[[Scene], None]
) -> None:
    a_number = scene.subscriber()
    dead(scene)
    second = scene.beta(answers())
    call = scene.calls(Caller(a_number, BERLIN).talks(0.3))
    well(call, second)
    told = answered_on_beta(scene, call, a_number)
    assert path(told) == [("alpha", "unreachable", None), ("beta", "answered", 200)]
    assert told["attempts"][0]["took_ms"] == pytest.approx(8000, abs=500)  # timer_b of pjsip.conf


def test_the_caller_hears_503_when_no_carrier_can(scene: Scene) -> None:
    a_number = scene.subscriber()
    both = [carrier(rejects("503 Service Unavailable")) for carrier in (scene.alpha, scene.beta)]
    call = scene.calls(Caller(a_number, BERLIN).hears(503))
    well(call, *both)
    told = scene.story(call)
    assert told["state"] == "failed"
    assert_free(told, ("alpha", "congested", "carrier"), ("beta", "congested", "carrier"))
    assert scene.paid_nothing(a_number)


def test_a_full_trunk_is_left_out(scene: Scene) -> None:
    talker, second_caller = scene.subscriber(), scene.subscriber()
    narrow = scene.alpha(answers())
    first = scene.calls(Caller(talker, FRANKFURT).talks(2))
    scene.wait_live(first, answered=True)
    beta = scene.beta(answers())
    second = scene.calls(Caller(second_caller, FRANKFURT).talks(0.3))
    well(second, beta)
    told = answered_on_beta(scene, second, second_caller)
    assert path(told) == [("beta", "answered", 200)]
    assert told["left_out"]["narrow"] == "full, 1 of 1 calls"
    well(first, narrow)
    assert path(scene.story(first)) == [("narrow", "answered", 200)]
