from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bridge.asterisk.conf import CDR_FILE, JOURNAL
from tests.asterisk.scene import BALANCE_MICRO, BERLIN, PRICE_MICRO, Scene, assert_booked, well
from tests.asterisk.sipp import Caller, answers


def talk(scene: Scene, a_number: str) -> dict[str, Any]:
    carrier = scene.alpha(answers())
    call = scene.calls(Caller(a_number, BERLIN).talks(0.5))
    well(call, carrier)
    return scene.story(call)


@contextmanager
def no_journal(scene: Scene) -> Iterator[None]:
    """A directory stands where the journal belongs."""
    path = scene.stack.settings.switch.record_dir / JOURNAL
    aside = path.with_name("aside")
    path.rename(aside)
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        aside.rename(path)


def test_what_the_journal_misses_the_cdr_file_bills_once(scene: Scene) -> None:
    a_number = scene.subscriber()
    talk(scene, scene.subscriber())  # so that there is a journal
    with no_journal(scene):
        told = talk(scene, a_number)
        assert_booked(told, a_number, by="cdr")
        assert told["talk_ms"] == pytest.approx(500, abs=150)
    again = talk(scene, a_number)
    assert_booked(again, a_number)
    assert scene.account(a_number) == (BALANCE_MICRO - 2 * PRICE_MICRO, 0)


def test_the_same_records_again_change_nothing(scene: Scene) -> None:
    a_number = scene.subscriber()
    told = talk(scene, a_number)
    scene.wait_files_read()
    for name in (JOURNAL, CDR_FILE):
        path = scene.stack.settings.switch.record_dir / name
        said = [line for line in path.read_text().splitlines(keepends=True) if told["call_id"] in line]
        assert said
        with path.open("a") as file:
            file.writelines(said)
    scene.wait_files_read()
    assert scene.story_of(told["call_id"]) == told
    assert scene.account(a_number) == (BALANCE_MICRO - PRICE_MICRO, 0)
    assert scene.value("SELECT count(*) FROM discrepancy") == 0
