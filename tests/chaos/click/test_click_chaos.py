from __future__ import annotations

import os
import signal

from tests.asterisk.click.clicks import clicks
from tests.asterisk.sipp import answers, hangs_up
from tests.chaos.conftest import Build
from tests.chaos.house import House, ended
from tests.chaos.wire import Wire

RULES = {"order_s": 2}


def test_a_word_that_was_heard_is_not_said_again(build: Build) -> None:
    with Wire() as wire:
        house: House = build(ami={"port": wire.port}, manager_port=wire.far_port, calls=RULES)
        click, a_number = clicks(house), house.payer()
        a, b = house.beta(answers(ring_s=2.0)), house.alpha(answers())
        wire.mute()
        made = click.order(a_number)
        click.wait(made, "calling_a")
        wire.cut()
        house.wait_said("what became of an order is not known")
        house.wait_said("ami_up", 2)
        click.wait(made, "connected")
        assert house.value("SELECT state FROM switch_order") == "sent"
        wire.silence()  # but to hang up may be said as often as one likes
        assert click.ask("DELETE", f"/v1/originations/{made}")[0] == 202
        house.until("SELECT state = 'sent' FROM switch_order WHERE kind = 'hangup'")
        wire.cut()
        told = click.wait(made, "ended")
        assert [each.code for each in ended(a, b)] == [0, 0]
        assert (told["reason"], click.calls_of(a_number)) == ("cancelled", 2)
        assert [len(peer.seen().invites()) for peer in (a, b)] == [1, 1]
        house.until("SELECT state = 'done' FROM switch_order WHERE kind = 'hangup'")


def test_a_word_that_was_lost_is_void_in_time(build: Build) -> None:
    with Wire() as wire:
        house: House = build(ami={"port": wire.port}, manager_port=wire.far_port, calls=RULES)
        click, a_number = clicks(house), house.payer()
        a = house.beta(answers())
        wire.silence()
        made = click.order(a_number)
        house.until("SELECT state = 'sent' FROM switch_order")
        wire.cut()
        told = click.wait(made, "failed")
        house.wait_said("ami_up", 2)
        assert (told["reason"], click.calls_of(a_number)) == ("not_placed", 0)
        assert a.seen().received == ()


def test_the_worker_that_gave_the_order_dies(build: Build) -> None:
    house: House = build(workers=2)
    click, a_number = clicks(house), house.payer()
    owner = house.wait_said("switch owned")["pid"]
    house.wait_said("worker ready", 2)
    a, b = house.beta(answers(ring_s=3.0)), house.alpha(hangs_up(0.5))
    click.order(a_number)
    house.wait_for(lambda: bool(a.seen().invites()), "A is rung")
    os.kill(owner, signal.SIGKILL)
    house.wait_said("switch owned", 2)
    house.until("SELECT ended_at IS NOT NULL FROM origination")
    assert [each.code for each in ended(a, b)] == [0, 0]
    assert house.value("SELECT reason FROM origination") == "hang_up"
    assert [len(peer.seen().invites()) for peer in (a, b)] == [1, 1]
    assert house.value("SELECT count(*) FROM charge") == 2
