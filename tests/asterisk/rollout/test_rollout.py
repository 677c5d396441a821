from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from bridge.rollout.invite import Invited, NotInvited
from tests.asterisk.rollout.rolling import Rolling
from tests.asterisk.scene import BERLIN, Scene, well
from tests.asterisk.sipp import Caller, answers

CALLERS: Final = 10
WAITING: Final = 200
QUOTA: Final = 50


def calls_to_berlin(rolling: Rolling, a_number: str) -> None:
    """It is put through, and charged."""
    scene = rolling.scene
    carrier = scene.alpha(answers())
    call = scene.calls(Caller(a_number, BERLIN).talks(0.1), host=rolling.host)
    well(call, carrier)
    assert scene.story(call)["state"] == "answered"


def hears(rolling: Rolling, a_number: str, b_number: str, status: int) -> dict[str, object]:
    """The call ends with this status: how, and why it was refused."""
    scene = rolling.scene
    call = scene.calls(Caller(a_number, b_number).hears(status), host=rolling.host)
    well(call)
    told = scene.story(call)
    return {"state": told["state"], "reason": told["refuse_reason"], "detail": told["refuse_detail"]}


def kept_out(why: str) -> dict[str, object]:
    return {"state": "refused", "reason": "not_enabled", "detail": why}


NOT_INVITED: Final = {"state": "refused", "reason": "not_invited", "detail": None}
UNREACHED: Final = {"state": "unanswered", "reason": None, "detail": None}


def test_of_two_hundred_called_within_a_second_fifty_are_enabled(scene: Scene) -> None:
    rolling = Rolling(scene, "flood")
    callers, people = rolling.callers(CALLERS), rolling.waiting(WAITING)
    window = rolling.window(quota=QUOTA)
    allowed = scene.value("SELECT count(*) FROM rollout_allow")
    rows = [(callers[place % CALLERS], number) for place, number in enumerate(people)]
    flood = scene.many_call(
        Caller("[field0]", "[field1]").hears(480), calls=WAITING, cps=WAITING, host=rolling.host, rows=rows
    )
    well(flood)
    scene.wait_quiet()

    assert rolling.window_state(window) == ("closed", "quota", QUOTA)
    states = "SELECT count(*) FROM rollout_member WHERE rollout_id = $1 AND state = $2"
    assert scene.value(states, rolling.rollout_id, "activated") == QUOTA
    assert scene.value(states, rolling.rollout_id, "waiting") == WAITING - QUOTA
    assert scene.value("SELECT count(*) FROM rollout_allow") == allowed + QUOTA
    events = "SELECT count(*) FROM event WHERE partner_id = $1 AND kind = $2"
    assert scene.value(events, rolling.partner_id, "member.activated") == QUOTA
    assert scene.value(events, rolling.partner_id, "subscriber.wake") == QUOTA
    # Each activation is by the call that was made to whom it let in, and no call rang anybody else.
    own = """
        SELECT count(*) FROM rollout_member m JOIN call c USING (call_id)
         WHERE m.rollout_id = $1 AND m.state = 'activated' AND c.callee_id = m.subscriber_id
           AND c.subscriber_id = m.inviter_id AND c.direction = 'on_net' AND c.state = 'unanswered'"""
    assert scene.value(own, rolling.rollout_id) == QUOTA
    ended = "SELECT count(*) FROM call WHERE a_number = ANY ($1) AND state = $2"
    assert scene.value(ended, callers, "unanswered") == QUOTA
    full = "SELECT count(*) FROM call WHERE a_number = ANY ($1) AND refuse_reason = $2 AND refuse_detail = $3"
    assert scene.value(full, callers, "not_enabled", "quota") == WAITING - QUOTA
    replayed = rolling.command("replay")
    assert replayed["problems"] == []

    # Who was let in calls; who was not does not, and is not let in any more.
    (inside,) = [one for one in people if rolling.member_state(one) == "activated"][:1]
    (outside,) = [one for one in people if rolling.member_state(one) == "waiting"][:1]
    calls_to_berlin(rolling, inside)
    assert hears(rolling, outside, BERLIN, 403) == NOT_INVITED
    assert hears(rolling, inside, outside, 480) == kept_out("quota")
    assert rolling.member_state(outside) == "waiting"


def test_a_kill_ends_activation_and_nobodys_calls(scene: Scene) -> None:
    rolling = Rolling(scene, "killed")
    [anna], [ben, eve, tom] = rolling.callers(1), rolling.waiting(3)
    window = rolling.window(quota=10)
    assert (
        hears(rolling, anna, ben, 480) == UNREACHED
    )  # no phone of Ben's is there; he is let in all the same
    assert rolling.member_state(ben) == "activated"
    made = rolling.invite(anna, tom)
    assert isinstance(made, Invited)

    rolling.command("kill")
    assert rolling.window_state(window) == ("closed", "kill", 1)
    for a_number in (anna, ben):
        calls_to_berlin(rolling, a_number)
    for a_number in (anna, ben):
        assert hears(rolling, a_number, eve, 480) == kept_out("no_window")
    assert rolling.invite(anna, eve) == NotInvited("no_window")
    assert rolling.accept(tom, made.code) == "no_window"
    assert [rolling.member_state(one) for one in (ben, eve, tom)] == ["activated", "waiting", "waiting"]
    assert hears(rolling, ben, anna, 480) == UNREACHED  # she may be rung
    assert rolling.command("replay")["problems"] == []


def test_a_launch_lets_everybody_call_at_once(scene: Scene) -> None:
    rolling = Rolling(scene, "launched")
    [ben, eve] = rolling.waiting(2)
    assert hears(rolling, ben, BERLIN, 403) == NOT_INVITED
    rolling.command("launch")
    calls_to_berlin(rolling, ben)
    assert hears(rolling, ben, eve, 480) == UNREACHED
    assert rolling.command("replay")["problems"] == []


def test_a_window_opens_and_closes_when_its_time_has_come(scene: Scene) -> None:
    rolling = Rolling(scene, "timed")
    [anna], [ben, eve] = rolling.callers(1), rolling.waiting(2)
    begin = datetime.now(UTC)
    opens_at, closes_at = begin + timedelta(seconds=2), begin + timedelta(seconds=8)
    window = rolling.window(opens_at=opens_at, closes_at=closes_at)
    assert hears(rolling, anna, ben, 480) == kept_out("no_window")
    assert rolling.member_state(ben) == "waiting"
    rolling.wait_window(window, "open")
    hears(rolling, anna, ben, 480)
    assert rolling.member_state(ben) == "activated"
    rolling.wait_window(window, "closed")
    assert hears(rolling, anna, eve, 480) == kept_out("no_window")
    assert rolling.member_state(eve) == "waiting"

    assert rolling.window_state(window) == ("closed", "time", 1)
    at = "SELECT at FROM rollout_event WHERE window_id = $1 AND kind = $2 AND cause = 'time'"
    for kind, due in (("window.open", opens_at), ("window.closed", closes_at)):
        late = scene.value(at, window, kind) - due
        assert timedelta(0) <= late < timedelta(seconds=5)
    assert rolling.command("replay")["problems"] == []
