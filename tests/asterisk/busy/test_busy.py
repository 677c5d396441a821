from __future__ import annotations

import pytest

from tests.asterisk.scene import BERLIN, Scene, assert_free, well
from tests.asterisk.sipp import Caller, answers, rejects


@pytest.mark.parametrize(
    ("said", "heard", "outcome"),
    [
        pytest.param("486 Busy Here", 486, "busy", id="busy"),
        pytest.param("600 Busy Everywhere", 486, "busy", id="busy everywhere"),
        pytest.param("603 Decline", 403, "rejected", id="declined"),
        pytest.param("480 Temporarily Unavailable", 480, "no_answer", id="away"),
    ],
)
def test_a_callee_who_will_not_is_not_rung_again(scene: Scene, said: str, heard: int, outcome: str) -> None:
    a_number = scene.subscriber()
    carrier, second = scene.alpha(rejects(said)), scene.beta(answers())
    call = scene.calls(Caller(a_number, BERLIN).hears(heard))
    well(call, carrier)
    told = scene.story(call)
    assert told["state"] == "unanswered"
    assert_free(told, ("alpha", outcome, "callee"))
    assert second.seen().received == ()
    assert scene.paid_nothing(a_number)
