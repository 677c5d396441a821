from __future__ import annotations

from tests.asterisk.scene import BERLIN, Scene, assert_free, well
from tests.asterisk.sipp import Caller, answers, rings


def test_the_caller_gives_up_while_it_rings(scene: Scene) -> None:
    a_number = scene.subscriber()
    carrier, second = scene.alpha(rings()), scene.beta(answers())
    call = scene.calls(Caller(a_number, BERLIN).gives_up(after_s=0.5))
    well(call, carrier)
    told = scene.story(call)
    assert told["state"] == "unanswered"
    assert_free(told, ("alpha", "gave_up", "caller"))
    assert second.seen().received == ()
    assert told["cdr"]["release_party"] == "caller"
    assert scene.paid_nothing(a_number)
