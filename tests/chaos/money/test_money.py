from __future__ import annotations

from bridge.ledger.store import top_up
from tests.asterisk.scene import BERLIN, well
from tests.asterisk.sipp import Caller, answers
from tests.chaos.conftest import Build
from tests.chaos.house import SECOND_MICRO, House

SLICES = {"slice_s": 2, "slice_lead_s": 1.5}


def test_the_credit_ends_while_they_talk(build: Build) -> None:
    house: House = build(calls=SLICES)
    a_number = house.payer(5)
    talk = house.talk(a_number)
    talk.well()
    told = house.charged_once(talk)
    assert 4000 < told["talk_ms"] <= 5000
    assert 4.0 < talk.app_s() <= 5.0
    assert 4.0 < talk.carrier_s() <= 5.0
    assert told["cdr"]["release_party"] == "bridge"
    assert house.account(a_number) == (0, 0)


def test_a_long_call_is_held_slice_by_slice_and_charged_once(build: Build) -> None:
    house: House = build(calls=SLICES)
    a_number = house.payer(600)
    talk = house.talk(a_number, talk_s=7)
    talk.well()
    told = house.charged_once(talk)
    house.same_talk(told, talk)
    assert told["hold"]["extensions"] >= 3
    assert len(house.said("cut moved")) >= 3
    assert house.account(a_number) == ((600 - told["billed_s"]) * SECOND_MICRO, 0)


def test_money_that_comes_in_before_the_cut_lets_the_call_go_on(build: Build) -> None:
    house: House = build(calls={"slice_s": 2, "slice_lead_s": 6})
    a_number = house.payer(6)
    talk = house.talk(a_number, talk_s=8)
    # All is held; it has been asked for more in vain, and will be asked for again before the cut at 5.75 s.
    house.until(
        "SELECT held_micro = 6 * $2 AND extend_at > answered_at + interval '3 s' FROM hold JOIN lease USING (call_id)"
        " WHERE call_id = $1",
        talk.call_id,
        SECOND_MICRO,
    )
    account_id = house.value("SELECT account_id FROM call WHERE call_id = $1", talk.call_id)
    house.ask(lambda conn: top_up(conn, account_id, 6 * SECOND_MICRO, "EUR", key="in time"))
    talk.well()
    told = house.charged_once(talk)
    house.same_talk(told, talk)
    assert told["talk_ms"] > 8000
    assert house.account(a_number) == ((12 - told["billed_s"]) * SECOND_MICRO, 0)


def test_two_calls_at_once_on_credit_for_one(build: Build) -> None:
    house: House = build(calls={"slice_s": 4})
    a_number = house.payer(4)
    carrier = house.alpha(answers())
    calls = [house.calls(Caller(a_number, BERLIN).talks(3)) for _ in range(2)]
    seen = [call.ended() for call in calls]
    well(carrier)
    assert [each.code for each in seen].count(0) == 1
    refused = next(each for each in seen if each.code != 0)
    assert any(message.startswith("SIP/2.0 403 ") for message in refused.received)
    stories = [house.story(call) for call in calls]
    outcomes = {(told["state"], told["refuse_reason"]) for told in stories}
    assert outcomes == {("answered", None), ("refused", "no_credit")}
    assert house.account(a_number) == (0, 0)


def test_no_transaction_is_open_while_it_rings(build: Build) -> None:
    house: House = build()
    carrier = house.alpha(answers(ring_s=2))
    call = house.calls(Caller(house.payer(), BERLIN).talks(0.5))
    house.wait_live(call, answered=False)
    ringing_at = house.value("SELECT clock_timestamp()")
    house.wait_live(call, answered=True)
    assert house.transactions_since(ringing_at) == []
    well(call, carrier)
