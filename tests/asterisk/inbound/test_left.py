"""Messages: recorded where no phone takes the call, told, heard and deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.sandbox.process import Deadline
from tests.asterisk.inbound.network import (
    Carrier,
    call_of,
    caller,
    event_data,
    frames,
    message_of,
    voice,
)
from tests.asterisk.onnet.users import User, Users
from tests.asterisk.scene import ENDED_S, MESSAGE_S_MAX, Scene, well

LOUD = 2_000  # of 32 768: a voice, and no line noise


@pytest.fixture
def anna(users: Users, home: Carrier) -> User:
    made = users.user(balance_micro=0)
    home.has(made)
    return made


def greeting_ms(scene: Scene) -> int:
    """How long a caller is greeted, by the file of the switch's own sounds: GSM, 33 bytes for 20 ms."""
    sound = scene.stack.switch.install.data_dir / "sounds/en/vm-intro.gsm"
    return sound.stat().st_size // 33 * 20


def files(scene: Scene) -> list[Path]:
    return sorted(scene.stack.settings.messages.folder.rglob("*.wav"))


def test_nobody_answers_and_a_message_is_left(
    scene: Scene, users: Users, home: Carrier, anna: User, tmp_path: Path
) -> None:
    phone = users.phone(anna)
    talk_s = greeting_ms(scene) / 1000 + 3
    call = home.calls(caller(anna).says(voice(tmp_path / "voice", talk_s + 1), talk_s))
    phone.is_cancelled(phone.rings())
    well(call)
    row = call_of(scene, call)
    assert (row["state"], row["direction"], row["callee_id"]) == ("answered", "in", anna.subscriber_id)
    assert row["talk_ms"] > greeting_ms(scene), "the record of the phones that rang ended it"
    left = message_of(scene, row)
    assert left["duration_ms"] == pytest.approx(row["talk_ms"] - greeting_ms(scene), abs=600)
    assert left["duration_ms"] == pytest.approx(2_700, abs=600)
    assert (left["from_number"], left["partner_id"]) == ("+493023125000", home.partner_id)
    [told] = event_data(scene, "voice_message.left", home.partner_id)
    assert told["message_id"] == f"msg_{left['message_id'].hex}"
    assert (told["from"], told["duration_ms"]) == ("+493023125000", left["duration_ms"])
    heard = home.http.get(told["url"])
    assert (heard.status_code, heard.headers["content-type"]) == (200, "audio/wav")
    count, loudest = frames(heard.content)
    assert count // 8 == left["duration_ms"]
    assert loudest > LOUD
    assert scene.account(anna.a_number) == (0, 0)
    path = told["url"].removesuffix("/audio")
    assert home.http.get(path).json()["duration_ms"] == left["duration_ms"]
    assert home.http.delete(path).status_code == 204
    assert home.http.get(told["url"]).status_code == 404
    assert not [one for one in files(scene) if row["call_id"].hex in one.name]


def test_no_phone_is_there_and_who_is_not_shown_leaves_a_message(
    scene: Scene, home: Carrier, anna: User, tmp_path: Path
) -> None:
    talk_s = greeting_ms(scene) / 1000 + 2
    sound = voice(tmp_path / "voice", talk_s + 1)
    call = home.calls(caller(anna, more="Privacy: id\n").says(sound, talk_s))
    well(call)
    left = message_of(scene, call_of(scene, call))
    assert left["from_number"] is None
    [woken] = event_data(scene, "subscriber.wake", home.partner_id)
    [told] = event_data(scene, "voice_message.left", home.partner_id)
    assert (woken["from"], told["from"]) == (None, None)


def test_busy_and_rejected_are_no_end_either(scene: Scene, users: Users, home: Carrier, anna: User) -> None:
    phone = users.phone(anna)
    call = home.calls(caller(anna).talks(0.5))
    invite = phone.rings()
    phone.answer(invite, "486 Busy Here")
    phone.wait_for("ACK")
    well(call)
    row = call_of(scene, call)
    assert row["state"] == "answered"  # by the greeting, at which the caller hung up
    nothing_left(scene, row)


def nothing_left(scene: Scene, row: dict[str, Any]) -> None:
    """No message, and no file for long."""
    deadline = Deadline(ENDED_S)
    while any(row["call_id"].hex in one.name for one in files(scene)):
        assert deadline.pause(), "the file stays"
    assert scene.value("SELECT count(*) FROM voice_message WHERE call_id = $1", row["call_id"]) == 0


def test_what_is_longer_than_it_may_be_ends_there(
    scene: Scene, home: Carrier, anna: User, tmp_path: Path
) -> None:
    whole_s = greeting_ms(scene) / 1000 + MESSAGE_S_MAX + 10
    call = home.calls(caller(anna).says(voice(tmp_path / "voice", whole_s)))
    well(call)
    row = call_of(scene, call)
    left = message_of(scene, row)
    assert left["duration_ms"] == pytest.approx(MESSAGE_S_MAX * 1000, abs=500)
    assert row["release_party"] == "bridge"


def test_silence_ends_it_and_is_no_message(scene: Scene, home: Carrier, anna: User, tmp_path: Path) -> None:
    silence = tmp_path / "silence"
    silence.write_bytes(b"\xd5" * 8_000 * 30)
    call = home.calls(caller(anna).says(silence))
    well(call)
    row = call_of(scene, call)
    assert row["release_party"] == "bridge"
    assert row["talk_ms"] < greeting_ms(scene) + 7_500
    nothing_left(scene, row)


def test_a_caller_who_gives_up_while_it_rings_leaves_nothing(
    scene: Scene, users: Users, home: Carrier, anna: User
) -> None:
    phone = users.phone(anna)
    call = home.calls(caller(anna).gives_up(0.5))
    phone.is_cancelled(phone.rings())
    well(call)
    row = call_of(scene, call)
    assert row["state"] == "unanswered"
    nothing_left(scene, row)
