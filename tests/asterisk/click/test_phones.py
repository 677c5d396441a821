"""Calls by order in an app whose users have phones. See story.md."""

from __future__ import annotations

import re
from time import monotonic, time
from typing import Any

import pytest

from bridge.config import Calls
from bridge.sandbox.process import Deadline
from tests.asterisk.click.clicks import Clicks
from tests.asterisk.onnet.users import User, UserPhone, Users, calls_of
from tests.asterisk.scene import BALANCE_MICRO, ENDED_S, PRICE_MICRO, RULES, Scene, well
from tests.asterisk.sipp import answers, hangs_up

TALK_S_MAX = Calls().talk_s_max
AWAITED_S = int(str(RULES["wake_s"]))
LATE_S = 4.0  # how much longer it may take until the origination says so


def assert_free_leg(told: dict[str, Any]) -> None:
    """A leg that rang phones and was answered: a record, and nothing on any account."""
    assert (told["state"], told["charge"], told["cost"]) == ("answered", "0.00", "0.00")
    assert (told["attempts"], told["entries"], told["hold"]["opened"]) == ([], [], "0.00")
    assert told["cdr"]["ended_by"] == "journal"


def until_awaited(click: Clicks, user: User) -> None:
    """Return when a call for a phone of theirs is waiting."""
    deadline = Deadline(ENDED_S)
    live = "SELECT count(*) FROM lease JOIN call USING (call_id) WHERE callee_id = $1 AND trunk_id IS NULL"
    while not click.scene.value(live, user.subscriber_id):
        assert deadline.pause(), "no phone is awaited"


def taken(phone: UserPhone) -> Any:
    invite = phone.rings()
    phone.takes(invite)
    return invite


def test_both_phones_ring_and_nobody_pays(scene: Scene, click: Clicks, users: Users) -> None:
    anna, ben = users.user(balance_micro=0), users.user(balance_micro=0)
    mine, theirs = users.phone(anna), users.phone(ben)
    made = click.order(anna.a_number, ben.a_number)
    invite = mine.rings()
    assert click.status(made) == "callingCaller"
    mine.takes(invite)
    invite = theirs.rings()
    assert f"<sip:{anna.a_number}@" in invite.header("From")
    assert click.status(made) == "callingCallee"
    theirs.takes(invite)
    told = click.wait(made, "connected")
    assert click.status(made) == "connected"
    legs = scene.value(
        "SELECT array_agg(channel || ' ' || limit_ms ORDER BY call_id) FROM lease JOIN call USING (call_id)"
        " WHERE a_number = $1",
        anna.a_number,
    )
    assert len(legs) == 2
    for leg, user in zip(legs, (anna, ben), strict=True):
        channel, limit_ms = leg.split()
        assert channel.startswith(f"PJSIP/{user.credential.username}-")
        assert int(limit_ms) == TALK_S_MAX * 1000
        shown = scene.stack.switch.cli(f"core show channel {channel}")
        left = re.search(r"Time to Hangup: (\d+)", shown)
        assert left is not None, shown
        assert TALK_S_MAX - 60 < int(left[1]) - time() <= TALK_S_MAX  # the switch shows the instant
    theirs.leaves(invite)
    mine.is_hung_up()
    told = click.wait(made, "ended")
    assert (told["reason"], told["refuse_reason"], click.status(made)) == ("hang_up", None, "disconnected")
    for name, user in (("a", anna), ("b", ben)):
        leg = click.leg(told, name)
        assert_free_leg(leg)
        assert leg["b_number"] == user.a_number
    assert [(row["direction"], row["callee_id"]) for row in calls_of(scene, anna.a_number, 2)] == [
        ("on_net", anna.subscriber_id),
        ("on_net", ben.subscriber_id),
    ]
    assert scene.account(anna.a_number) == (0, 0)
    scene.wait_files_read()
    assert scene.value("SELECT count(*) FROM discrepancy") == 0


def test_a_has_a_phone_and_pays_for_b_alone(scene: Scene, click: Clicks, users: Users) -> None:
    anna = users.user(balance_micro=PRICE_MICRO)  # enough for one leg
    mine, b = users.phone(anna), scene.alpha(hangs_up(0.5))
    made = click.order(anna.a_number)
    taken(mine)
    mine.is_hung_up()
    told = click.wait(made, "ended")
    well(b)
    assert_free_leg(click.leg(told, "a"))
    assert click.leg(told, "b")["charge"] == "0.09"
    assert scene.account(anna.a_number) == (0, 0)


def test_without_money_for_b_no_phone_rings(scene: Scene, click: Clicks, users: Users) -> None:
    anna = users.user(balance_micro=0)
    users.phone(anna)
    told = click.wait(click.order(anna.a_number), "failed")
    assert (told["reason"], told["refuse_reason"], told["a_call_id"]) == ("b_refused", "no_credit", None)


def test_nobody_is_connected_with_themselves(scene: Scene, click: Clicks, users: Users) -> None:
    anna, other = users.user(), "+493023125778"
    users.phone(anna)
    scene.value(
        "INSERT INTO number (e164, country, kind, state, subscriber_id, assigned_at)"
        " VALUES ($1, 'DE', 'geographic', 'assigned', $2, now()) RETURNING number_id",
        other,
        anna.subscriber_id,
    )
    told = click.wait(click.order(anna.a_number, other), "failed")
    assert (told["reason"], told["refuse_reason"], told["a_call_id"]) == ("b_refused", "own_number", None)
    (row,) = calls_of(scene, anna.a_number)
    assert (row["direction"], row["callee_id"], row["b_number"]) == ("on_net", anna.subscriber_id, other)


def test_a_phone_that_is_woken_in_time_is_connected(scene: Scene, click: Clicks, users: Users) -> None:
    anna, ben = users.user(balance_micro=0), users.user(balance_micro=0)
    mine, theirs = users.phone(anna, on=False), users.phone(ben, on=False)
    made = click.order(anna.a_number, ben.a_number)
    until_awaited(click, anna)
    mine.on()
    taken(mine)
    until_awaited(click, ben)
    theirs.on()
    invite = taken(theirs)
    click.wait(made, "connected")
    theirs.leaves(invite)
    mine.is_hung_up()
    told = click.wait(made, "ended")
    for name in ("a", "b"):
        assert_free_leg(click.leg(told, name))


def test_whose_phone_does_not_come_is_not_connected(scene: Scene, click: Clicks, users: Users) -> None:
    anna, ben = users.user(), users.user()
    users.phone(ben)
    began_s = monotonic()
    made = click.order(anna.a_number, ben.a_number)
    told = click.wait(made, "failed")
    assert monotonic() - began_s < AWAITED_S + LATE_S
    assert (told["reason"], told["b_call_id"], click.status(made)) == ("a_no_answer", None, "disconnected")
    (row,) = calls_of(scene, anna.a_number)
    assert (row["state"], row["direction"], row["q850_cause"]) == ("unanswered", "on_net", 20)
    assert scene.paid_nothing(anna.a_number)


def test_whose_phone_does_not_come_is_rung_over_a_carrier(scene: Scene, click: Clicks, users: Users) -> None:
    anna, ben = users.user(plan="fallback"), users.user()
    theirs, carrier = users.phone(ben), scene.beta(answers())
    made = click.order(anna.a_number, ben.a_number)
    invite = taken(theirs)
    told = click.wait(made, "connected")
    theirs.leaves(invite)
    told = click.wait(made, "ended")
    (carrier_saw,) = well(carrier)
    assert [line.split("@")[0] for line in carrier_saw.invites()] == [f"INVITE sip:{anna.a_number}"]
    leg_a = click.leg(told, "a")
    assert (leg_a["charge"], leg_a["state"]) == ("0.09", "answered")
    assert [(each["trunk"], each["outcome"]) for each in leg_a["attempts"]] == [("beta", "answered")]
    assert_free_leg(click.leg(told, "b"))
    first, second, _ = calls_of(scene, anna.a_number, 3)
    assert (first["state"], first["release_party"]) == ("unanswered", "bridge")
    assert (second["after_call_id"], second["dialled"]) == (first["call_id"], anna.a_number)
    assert scene.account(anna.a_number) == (BALANCE_MICRO - PRICE_MICRO, 0)


def test_b_whose_phone_does_not_come_is_rung_over_a_carrier(
    scene: Scene, click: Clicks, users: Users
) -> None:
    anna, ben = users.user(plan="fallback"), users.user()
    mine, carrier = users.phone(anna), scene.beta(hangs_up(0.5))
    made = click.order(anna.a_number, ben.a_number)
    taken(mine)
    mine.is_hung_up()
    told = click.wait(made, "ended")
    well(carrier)
    assert_free_leg(click.leg(told, "a"))
    assert (click.leg(told, "b")["b_number"], click.leg(told, "b")["charge"]) == (ben.a_number, "0.09")
    assert scene.account(anna.a_number) == (BALANCE_MICRO - PRICE_MICRO, 0)


@pytest.mark.parametrize("leg", ["a", "b"])
def test_without_money_it_does_not_go_on(scene: Scene, click: Clicks, users: Users, leg: str) -> None:
    anna, ben = users.user(plan="fallback", balance_micro=0), users.user()
    there = users.phone(ben if leg == "a" else anna)
    made = click.order(anna.a_number, ben.a_number)
    if leg == "b":
        taken(there)
        there.is_hung_up()
    told = click.wait(made, "failed")
    assert (told["reason"], told["refuse_reason"]) == (f"{leg}_refused", "no_credit")
    assert click.status(made) == "failed"


def test_taken_back_while_a_phone_is_awaited(scene: Scene, click: Clicks, users: Users) -> None:
    anna, ben = users.user(plan="fallback"), users.user()
    users.phone(ben)
    made = click.order(anna.a_number, ben.a_number)
    until_awaited(click, anna)
    began_s = monotonic()
    assert click.ask("DELETE", f"/v1/originations/{made}")[0] == 202
    told = click.wait(made, "failed")
    assert monotonic() - began_s < AWAITED_S - 1
    assert (told["reason"], told["b_call_id"], click.status(made)) == ("cancelled", None, "disconnected")
    (row,) = calls_of(scene, anna.a_number)
    assert (row["state"], row["direction"]) == ("unanswered", "on_net")
    assert scene.paid_nothing(anna.a_number)


@pytest.mark.parametrize(("said", "reason"), [("486 Busy Here", "b_busy"), ("603 Decline", "b_busy")])
def test_b_does_not_want_to(scene: Scene, click: Clicks, users: Users, said: str, reason: str) -> None:
    anna, ben = users.user(plan="fallback"), users.user()
    mine, theirs = users.phone(anna), users.phone(ben)
    made = click.order(anna.a_number, ben.a_number)
    taken(mine)
    theirs.answer(theirs.rings(), said)
    mine.is_hung_up()
    told = click.wait(made, "failed")
    assert (told["reason"], click.status(made)) == (reason, "disconnected")
    assert scene.paid_nothing(anna.a_number)


@pytest.mark.parametrize("leg", ["a", "b"])
def test_a_phone_rings_out(scene: Scene, click: Clicks, users: Users, leg: str) -> None:
    anna, ben = users.user(plan="fallback"), users.user()
    mine, theirs = users.phone(anna), users.phone(ben)
    made = click.order(anna.a_number, ben.a_number)
    if leg == "a":
        mine.is_cancelled(mine.rings())
    else:
        taken(mine)
        theirs.is_cancelled(theirs.rings())
        mine.is_hung_up()
    assert click.wait(made, "failed")["reason"] == f"{leg}_no_answer"
    assert scene.paid_nothing(anna.a_number)


@pytest.mark.parametrize("there", [True, False])
def test_a_leaves_before_b_answers(scene: Scene, click: Clicks, users: Users, there: bool) -> None:
    anna, ben = users.user(plan="fallback"), users.user()
    mine, theirs = users.phone(anna), users.phone(ben, on=there)
    made = click.order(anna.a_number, ben.a_number)
    invite = taken(mine)
    if there:
        rings = theirs.rings()
        mine.leaves(invite)
        theirs.is_cancelled(rings)
    else:
        until_awaited(click, ben)
        mine.leaves(invite)
    told = click.wait(made, "failed")
    _, second = calls_of(scene, anna.a_number, 2)
    assert told["reason"] == "a_abandoned", (second["q850_cause"], second["release_party"], second["state"])
    assert scene.paid_nothing(anna.a_number)


def test_somebody_without_a_phone_is_connected_with_a_phone(
    scene: Scene, click: Clicks, users: Users
) -> None:
    """Of a gateway's user A is rung over a carrier, as ever; B on a phone."""
    a_number, ben = scene.subscriber(app="phones"), users.user()
    theirs, carrier = users.phone(ben), scene.beta(answers())
    made = click.order(a_number, ben.a_number)
    invite = taken(theirs)
    click.wait(made, "connected")
    theirs.leaves(invite)
    told = click.wait(made, "ended")
    well(carrier)
    assert click.leg(told, "a")["charge"] == "0.09"
    assert_free_leg(click.leg(told, "b"))
    assert scene.account(a_number) == (BALANCE_MICRO - PRICE_MICRO, 0)
