from __future__ import annotations

from typing import Any

import pytest

from tests.asterisk.scene import BERLIN, GATEWAY_HOST, STRANGER_HOST, Scene, well
from tests.asterisk.sipp import Caller, answers


@pytest.mark.parametrize(
    ("who", "dialled", "heard", "reason"),
    [
        pytest.param({}, "0900123456", 403, "barred_destination", id="0900"),
        pytest.param({}, "+4990012345678", 403, "barred_destination", id="+49900"),
        pytest.param({}, "11833", 403, "barred_destination", id="118xy"),
        pytest.param({}, "23125000", 484, "invalid_number", id="no area code"),
        pytest.param({}, "0301", 484, "invalid_number", id="too short"),
        pytest.param({}, "+9991234567", 484, "invalid_number", id="no such country"),
        pytest.param({}, "+12125550123", 404, "no_rate", id="no rate"),
        pytest.param({"allowed": False}, BERLIN, 403, "not_invited", id="not on the list"),
        pytest.param({"balance_micro": 0}, BERLIN, 403, "no_credit", id="no credit"),
        pytest.param({"balance_micro": 89_999}, BERLIN, 403, "no_credit", id="a millionth short"),
        pytest.param({"account_state": "suspended"}, BERLIN, 403, "account_suspended", id="suspended"),
        pytest.param({"state": "closed"}, BERLIN, 403, "unknown_caller", id="closed"),
    ],
)
def test_a_call_that_may_not_be_made(
    scene: Scene, who: dict[str, Any], dialled: str, heard: int, reason: str
) -> None:
    a_number = scene.subscriber(**who)
    before = scene.account(a_number)
    refused(scene, a_number, dialled, heard, reason)
    assert scene.account(a_number) == before


def test_an_unknown_caller(scene: Scene) -> None:
    refused(scene, "+4915199999999", BERLIN, 403, "unknown_caller")


def test_more_calls_at_a_time_than_the_account_may_have(scene: Scene) -> None:
    a_number = scene.subscriber(call_cap=1)
    carrier = scene.alpha(answers())
    first = scene.calls(Caller(a_number, BERLIN).talks(1.5))
    scene.wait_live(first, answered=False)
    second = scene.calls(Caller(a_number, BERLIN).hears(480))
    well(second)
    assert scene.story(second)["refuse_reason"] == "too_many_calls"
    well(first, carrier)
    assert scene.story(first)["state"] == "answered"


@pytest.mark.parametrize(
    "host", [STRANGER_HOST, GATEWAY_HOST], ids=["unknown address", "known address, other port"]
)
def test_a_stranger_gets_no_further_than_the_switch(scene: Scene, host: str) -> None:
    a_number = scene.subscriber(app="gateway")
    call = scene.calls(Caller(a_number, BERLIN).hears(401), host=host)
    well(call)
    assert scene.value("SELECT count(*) FROM call WHERE sip_call_id = $1", call.call_id) == 0
    assert scene.paid_nothing(a_number)


def test_a_subscriber_of_one_app_is_nobody_in_another(scene: Scene) -> None:
    refused(scene, scene.subscriber(app="gateway"), BERLIN, 403, "unknown_caller")


def refused(scene: Scene, a_number: str, dialled: str, heard: int, reason: str) -> None:
    carriers = [carrier(answers()) for carrier in (scene.alpha, scene.beta)]
    call = scene.calls(Caller(a_number, dialled).hears(heard))
    well(call)
    told = scene.story(call)
    assert (told["state"], told["refuse_reason"]) == ("refused", reason)
    assert (told["attempts"], told["hold"], told["entries"]) == ([], {}, [])
    assert [carrier.seen().received for carrier in carriers] == [(), ()]
