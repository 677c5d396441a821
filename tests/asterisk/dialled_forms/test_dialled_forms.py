from __future__ import annotations

import pytest

from tests.asterisk.scene import BERLIN, Scene, well
from tests.asterisk.sipp import Caller, rejects


@pytest.mark.parametrize("dialled", ["+493023125000", "00493023125000", "03023125000", "030-231-25000"])
def test_a_number_is_the_same_however_it_is_dialled(scene: Scene, dialled: str) -> None:
    a_number = scene.subscriber()
    carrier = scene.alpha(rejects("486 Busy Here"))
    call = scene.calls(Caller(a_number, dialled).hears(486))
    _, carrier_saw = well(call, carrier)
    assert [line.split("@")[0] for line in carrier_saw.invites()] == [f"INVITE sip:{BERLIN}"]
    told = scene.story(call)
    assert (told["b_number"], told["cdr"]["dialled"]) == (BERLIN, dialled)
