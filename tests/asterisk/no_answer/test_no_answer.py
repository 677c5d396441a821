from __future__ import annotations

from tests.asterisk.scene import HAMBURG, Scene, assert_free, well
from tests.asterisk.sipp import Caller, answers, rings


def test_it_rings_and_nobody_answers(scene: Scene) -> None:
    a_number = scene.subscriber()
    carrier, second = scene.alpha(rings()), scene.beta(answers())
    call = scene.calls(Caller(a_number, HAMBURG).hears(480))
    well(call, carrier)
    told = scene.story(call)
    assert told["state"] == "unanswered"
    assert_free(told, ("hasty", "no_answer", "callee"))
    assert 2000 <= told["attempts"][0]["took_ms"] < 3000
    assert second.seen().received == ()
    assert scene.paid_nothing(a_number)
