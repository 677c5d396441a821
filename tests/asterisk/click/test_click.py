from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge.api.fields import read_id
from bridge.asterisk import orders
from bridge.asterisk.orders_run import originate
from bridge.sandbox.process import Deadline
from tests.asterisk.click.clicks import Clicks
from tests.asterisk.scene import BALANCE_MICRO, BERLIN, ENDED_S, PRICE_MICRO, Scene, assert_free, well
from tests.asterisk.sipp import Peer, answers, hangs_up, rejects, rings


def assert_paid(told: dict[str, Any], a_number: str, b_number: str, trunk: str) -> None:
    """One answered leg: a record, a charge, a hold, an attempt, and both sides of the ledger, each once."""
    assert (told["state"], told["a_number"], told["b_number"]) == ("answered", a_number, b_number)
    assert (told["billed_s"], told["charge"], told["written_off"]) == (60, "0.09", "0.00")
    assert [(each["trunk"], each["outcome"]) for each in told["attempts"]] == [(trunk, "answered")]
    assert (told["hold"]["state"], told["hold"]["settled"]) == ("settled", "0.09")
    assert [entry["account"] for entry in told["entries"]] == [
        f"subscriber {a_number}",
        "revenue EUR",
        "cost EUR",
        f"carrier {trunk}",
    ]
    assert told["cdr"]["ended_by"] == "journal"


def rang_once(*peers: Peer) -> bool:
    return all(len(peer.seen().invites()) == 1 for peer in peers)


def test_both_answer_and_both_legs_are_paid_once(scene: Scene, click: Clicks) -> None:
    a_number = scene.subscriber()
    a, b = scene.beta(answers()), scene.alpha(hangs_up(1.0))
    made = click.order(a_number)
    told = click.wait(made, "connected")
    assert scene.value("SELECT count(*) FROM lease WHERE channel LIKE 'PJSIP/%'") == 2
    told = click.wait(made, "ended")
    saw_a, saw_b = well(a, b)
    assert (told["reason"], told["refuse_reason"]) == ("hang_up", None)
    assert told["talk_ms"] == pytest.approx(1000, abs=150)
    assert_paid(click.leg(told, "a"), a_number, a_number, "beta")
    leg_b = click.leg(told, "b")
    assert_paid(leg_b, a_number, BERLIN, "alpha")
    assert leg_b["cdr"]["release_party"] == "callee"
    assert scene.account(a_number) == (BALANCE_MICRO - 2 * PRICE_MICRO, 0)
    assert [line.split("@")[0] for line in saw_a.invites()] == [f"INVITE sip:{a_number}"]
    assert [line.split("@")[0] for line in saw_b.invites()] == [f"INVITE sip:{BERLIN}"]
    assert f"<sip:{a_number}@" in saw_b.header("From")
    scene.wait_files_read()
    assert scene.value("SELECT count(*) FROM discrepancy") == 0


def test_b_is_busy_and_a_is_let_go(scene: Scene, click: Clicks) -> None:
    a_number = scene.subscriber()
    a, b = scene.beta(answers()), scene.alpha(rejects("486 Busy Here"))
    told = click.wait(click.order(a_number), "failed")
    well(a, b)
    assert told["reason"] == "b_busy"
    assert_paid(click.leg(told, "a"), a_number, a_number, "beta")
    assert_free(click.leg(told, "b"), ("alpha", "busy", "callee"))
    assert scene.account(a_number) == (BALANCE_MICRO - PRICE_MICRO, 0)


def test_a_leaves_while_b_rings(scene: Scene, click: Clicks) -> None:
    a_number = scene.subscriber()
    a, b = scene.beta(hangs_up(0.5)), scene.alpha(rings())
    told = click.wait(click.order(a_number), "failed")
    well(a, b)
    assert told["reason"] == "a_abandoned"
    assert_paid(click.leg(told, "a"), a_number, a_number, "beta")
    assert_free(click.leg(told, "b"), ("alpha", "gave_up", "caller"))
    assert scene.account(a_number) == (BALANCE_MICRO - PRICE_MICRO, 0)


def test_a_does_not_answer_and_b_is_never_rung(scene: Scene, click: Clicks) -> None:
    a_number = "+494066969123"
    known = scene.subscriber()
    scene.ask(
        lambda conn: conn.execute("UPDATE subscriber SET a_number = $2 WHERE a_number = $1", known, a_number)
    )
    a, b = scene.alpha(rings()), scene.beta(answers())
    told = click.wait(click.order(a_number), "failed")
    well(a)
    assert (told["reason"], told["b_call_id"]) == ("a_no_answer", None)
    assert_free(click.leg(told, "a"), ("hasty", "no_answer", "callee"))
    assert b.seen().received == ()
    assert scene.paid_nothing(a_number)


def test_a_long_call_is_extended_on_both_legs(scene: Scene, click: Clicks) -> None:
    a_number = scene.subscriber(plan="by the second")
    a, b = scene.beta(answers()), scene.alpha(hangs_up(5.5))
    told = click.wait(click.order(a_number), "ended")
    well(a, b)
    for leg in ("a", "b"):
        story = click.leg(told, leg)
        assert (story["hold"]["extensions"], story["charge"]) == (1, "0.006")
        assert story["talk_ms"] == pytest.approx(5600, abs=200)


def test_the_first_leg_without_money_ends_both(scene: Scene, click: Clicks) -> None:
    a_number = scene.subscriber(plan="by the second", balance_micro=8_000)
    a, b = scene.beta(answers()), scene.alpha(answers())
    told = click.wait(click.order(a_number), "ended")
    well(a, b)
    for leg in ("a", "b"):
        story = click.leg(told, leg)
        assert 3_300 < story["talk_ms"] <= 4_000
        assert (story["written_off"], story["hold"]["held"]) == ("0.00", "0.004")
    assert scene.account(a_number) == (0, 0)


def test_a_hangs_up_and_b_is_let_go(scene: Scene, click: Clicks) -> None:
    a_number = scene.subscriber()
    a, b = scene.beta(hangs_up(1.0)), scene.alpha(answers())
    told = click.wait(click.order(a_number), "ended")
    well(a, b)
    assert told["reason"] == "hang_up"
    assert_paid(click.leg(told, "a"), a_number, a_number, "beta")
    assert_paid(click.leg(told, "b"), a_number, BERLIN, "alpha")
    parties = [click.leg(told, leg)["cdr"]["release_party"] for leg in ("a", "b")]
    assert parties == ["callee", "bridge"]  # who left on that leg; the other leg we let go


def test_taken_back_while_a_rings(scene: Scene, click: Clicks) -> None:
    a_number = scene.subscriber()
    a, b = scene.beta(rings()), scene.alpha(answers())
    made = click.order(a_number)
    deadline = Deadline(ENDED_S)
    while not a.seen().invites():
        assert deadline.pause(), "A is not rung"
    assert click.ask("DELETE", f"/v1/originations/{made}")[0] == 202
    told = click.wait(made, "failed")
    well(a)
    assert (told["reason"], told["b_call_id"]) == ("cancelled", None)
    assert b.seen().received == ()
    assert_free(click.leg(told, "a"), ("beta", "gave_up", "caller"))
    assert scene.paid_nothing(a_number)


@pytest.mark.parametrize("by", ["the whole", "a leg"])
def test_the_partner_hangs_up(scene: Scene, click: Clicks, by: str) -> None:
    a_number = scene.subscriber()
    a, b = scene.beta(answers()), scene.alpha(answers())
    made = click.order(a_number)
    told = click.wait(made, "connected")
    path = f"/v1/originations/{made}" if by == "the whole" else f"/v1/calls/{told['b_call_id']}"
    assert [click.ask("DELETE", path)[0] for _ in range(3)] == [202] * 3
    told = click.wait(made, "ended")
    well(a, b)
    assert told["reason"] == ("cancelled" if by == "the whole" else "hang_up")
    assert_paid(click.leg(told, "a"), a_number, a_number, "beta")
    assert_paid(click.leg(told, "b"), a_number, BERLIN, "alpha")
    assert click.leg(told, "b")["cdr"]["release_party"] == "bridge"
    assert scene.account(a_number) == (BALANCE_MICRO - 2 * PRICE_MICRO, 0)


def test_nobody_is_rung_when_b_could_not_be(scene: Scene, click: Clicks) -> None:
    a_number = scene.subscriber(balance_micro=PRICE_MICRO)  # enough for one leg
    a, b = scene.beta(answers()), scene.alpha(answers())
    told = click.wait(click.order(a_number), "failed")
    assert (told["reason"], told["refuse_reason"], told["a_call_id"]) == ("b_refused", "no_credit", None)
    scene.wait_files_read()
    assert (a.seen().received, b.seen().received) == ((), ())
    assert scene.account(a_number) == (PRICE_MICRO, 0)


def test_ten_requests_with_one_key_ring_once(scene: Scene, click: Clicks) -> None:
    a_number, once = scene.subscriber(), str(uuid4())
    a, b = scene.beta(answers()), scene.alpha(hangs_up(0.3))
    body = {"a_number": a_number, "b_number": BERLIN}
    with ThreadPoolExecutor(10) as pool:
        said = list(pool.map(lambda _: click.ask("POST", "/v1/originations", body, once=once), range(10)))
    made = {told["origination_id"] for status, told in said if status == 201}
    assert {status for status, _ in said} <= {201, 409}
    assert len(made) == 1
    click.wait(made.pop(), "ended")
    well(a, b)
    assert rang_once(a, b)
    assert click.calls_of(a_number) == 2
    assert scene.account(a_number) == (BALANCE_MICRO - 2 * PRICE_MICRO, 0)


def test_the_switch_told_again_rings_nobody_again(scene: Scene, click: Clicks) -> None:
    a_number = scene.subscriber()
    a, b = scene.beta(answers(ring_s=1.0)), scene.alpha(hangs_up(1.0))
    made = click.order(a_number)
    origination_id = read_id("org", made)

    for state in ("calling_a", "connected", "ended"):
        click.wait(made, state)
        asyncio.run(tell_again(scene, origination_id, over=state == "ended"))
    well(a, b)
    assert rang_once(a, b)
    assert click.calls_of(a_number) == 2
    assert scene.account(a_number) == (BALANCE_MICRO - 2 * PRICE_MICRO, 0)


async def tell_again(scene: Scene, origination_id: UUID, *, over: bool) -> None:
    """The keeper's own word, and by hand, on channels of another name; and a leg of nothing."""
    async with orders.link(scene.stack.settings) as ami:
        if over:  # before, the switch itself refuses a second channel of that name, and then cannot be stopped in order
            await originate(ami, origination_id)
        await ami.originate(
            Channel=f"Local/a{origination_id.hex}@click/n",
            Context="click-joined",
            Exten=f"b{origination_id.hex}",
            Priority=1,
            Timeout=2000,
        )
        await ami.originate(
            Channel=f"Local/a{uuid4().hex}@click/n", Application="Wait", Data="1", Timeout=2000
        )
