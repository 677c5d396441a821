from __future__ import annotations

import pytest

from tests.asterisk.scene import BERLIN, Scene, well
from tests.asterisk.sipp import Caller, answers


def test_early_media_is_heard_and_not_billed(scene: Scene) -> None:
    a_number = scene.subscriber()
    carrier = scene.alpha(answers(ring_s=1.5, early_media=True))
    call = scene.calls(Caller(a_number, BERLIN).talks_after_early_media(0.5))
    well(call, carrier)
    told = scene.story(call)
    assert (told["state"], told["charge"]) == ("answered", "0.09")
    assert told["talk_ms"] == pytest.approx(500, abs=150)
    assert told["attempts"][0]["pdd_ms"] < 1000
