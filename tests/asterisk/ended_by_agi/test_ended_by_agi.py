from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.stack import Stack
from tests.asterisk.click.clicks import clicks
from tests.asterisk.scene import (
    BALANCE_MICRO,
    BERLIN,
    PRICE_MICRO,
    Scene,
    World,
    assert_booked,
    assert_free,
    well,
)
from tests.asterisk.sipp import Caller, answers, hangs_up, rings


@pytest.fixture(scope="module")
def world() -> World:
    return World(call_ended="agi")


@pytest.fixture(scope="module")
def stack(
    install: AsteriskInstall,
    postgres: EmbeddedPostgres,
    world: World,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    root = tmp_path_factory.mktemp("agi")
    with Stack(root, install, postgres, database="ended_by_agi", overrides=world.overrides) as made:
        made.prepare(world.seed)
        made.start()
        yield made


def test_a_call_ends_over_agi_with_the_same_figures(scene: Scene) -> None:
    a_number = scene.subscriber()
    carrier = scene.alpha(answers())
    call = scene.calls(Caller(a_number, BERLIN).talks(1.2))
    well(call, carrier)
    told = scene.story(call)
    assert_booked(told, a_number, by="agi")
    assert told["talk_ms"] == pytest.approx(1200, abs=150)
    assert told["cdr"]["release_party"] == "caller"
    scene.wait_files_read()
    assert scene.value("SELECT count(*) FROM discrepancy") == 0


def test_a_caller_who_gives_up_pays_nothing(scene: Scene) -> None:
    a_number = scene.subscriber()
    carrier = scene.alpha(rings())
    call = scene.calls(Caller(a_number, BERLIN).gives_up(after_s=0.3))
    well(call, carrier)
    told = scene.story(call)
    assert_free(told, ("alpha", "gave_up", "caller"))
    assert told["cdr"]["ended_by"] == "agi"
    assert scene.paid_nothing(a_number)


def test_both_legs_of_an_order_end_over_agi(scene: Scene) -> None:
    click, a_number = clicks(scene), scene.subscriber()
    a, b = scene.beta(answers()), scene.alpha(hangs_up(0.5))
    told = click.wait(click.order(a_number), "ended")
    well(a, b)
    assert_booked(click.leg(told, "b"), a_number, by="agi")
    assert click.leg(told, "a")["cdr"]["ended_by"] == "agi"
    assert scene.account(a_number) == (BALANCE_MICRO - 2 * PRICE_MICRO, 0)
