"""The pure side of the manager interface, on messages recorded from Asterisk 22.10."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.asterisk.ami_events import (
    AmiRefused,
    AmiReply,
    Framing,
    FullyBooted,
    Hangup,
    Headers,
    LiveChannel,
    Shutdown,
    check_action,
    event_from,
    headers,
    listed_channels,
    one_channel,
)
from bridge.errors import ChannelGone, LocalProtocolError, RemoteProtocolError

RECORDED = Path(__file__).parent.parent / "fixtures" / "ami"


def recorded(name: str) -> list[Headers]:
    blocks = (RECORDED / f"{name}.txt").read_text().strip().split("\n\n")
    return [
        headers(dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)) for block in blocks
    ]


def test_a_snapshot_is_read() -> None:
    reply = AmiReply.from_messages("CoreShowChannels", recorded("core_show_channels"))
    one, two = listed_channels(reply.events)
    assert one == LiveChannel("Local/s@ctx-00000000;1", "our-1", "our-1", "Up", "Wait", 0, "+493023125001")
    assert (two.uniqueid, two.linkedid, two.caller_number) == ("our-1;2", "our-1", "+493023125000")


def test_a_caller_number_does_not_show_in_a_repr() -> None:
    channel = LiveChannel.from_message(recorded("core_show_channels")[1])
    assert "23125" not in repr(channel)


@pytest.mark.parametrize(("text", "seconds"), [("00:00:00", 0), ("01:02:03", 3723), ("100:00:01", 360_001)])
def test_durations(text: str, seconds: int) -> None:
    message = {**recorded("core_show_channels")[1], "duration": text}
    assert LiveChannel.from_message(message).duration_s == seconds


@pytest.mark.parametrize("text", ["", "5", "-1:00:00", "00:60:00", "00:00:00\n00:00:01", "٠٠:٠٠:٠٠"])
def test_a_bad_duration_is_refused(text: str) -> None:
    message = {**recorded("core_show_channels")[1], "duration": text}
    with pytest.raises(RemoteProtocolError, match=r"(?i)duration"):
        LiveChannel.from_message(message)


@pytest.mark.parametrize("missing", ["channel", "uniqueid", "linkedid", "channelstatedesc", "duration"])
def test_a_channel_without_identity_is_refused(missing: str) -> None:
    message = {k: v for k, v in recorded("core_show_channels")[1].items() if k != missing}
    with pytest.raises(RemoteProtocolError, match=missing):
        LiveChannel.from_message(message)


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_half_a_snapshot_is_never_given_out(cut: int) -> None:
    events = tuple(recorded("core_show_channels")[1:])
    with pytest.raises(RemoteProtocolError, match="announced"):
        listed_channels(events[:cut] if cut < 3 else events[1:])


def test_events() -> None:
    assert [event_from(message) for message in recorded("hangup")] == [
        Hangup("Local/s@ctx-00000000;2", "our-1;2", 16),
        Hangup("Local/s@ctx-00000000;1", "our-1", 16),
    ]
    assert event_from(recorded("login")[1]) == FullyBooted()
    assert event_from(recorded("shutdown")[0]) == Shutdown(restart=False)
    assert event_from({"event": "Newchannel"}) is None
    assert event_from({}) is None


@pytest.mark.parametrize("cause", ["", "x", "-1", "16\n17", "1234", "²"])
def test_a_bad_cause_is_refused_without_quoting_it(cause: str) -> None:
    with pytest.raises(RemoteProtocolError, match=r"(?i)cause") as caught:
        event_from({"event": "Hangup", "channel": "a", "uniqueid": "b", "cause": cause})
    assert not cause or cause not in str(caught.value)


def test_answers_are_told_apart() -> None:
    reply = AmiReply.from_messages("Originate", recorded("originate_failure"))
    assert reply.events[-1]["response"] == "Failure"
    with pytest.raises(ChannelGone):
        AmiReply.from_messages("Setvar", recorded("no_such_channel"))
    with pytest.raises(AmiRefused, match="Authentication failed"):
        AmiReply.from_messages("Login", recorded("login_refused"))
    with pytest.raises(RemoteProtocolError):
        AmiReply.from_messages("Ping", [{"event": "Hangup"}])
    with pytest.raises(RemoteProtocolError):  # a variable's value smuggled a second Response in
        AmiReply.from_messages("Getvar", [headers({"Response": ["Error", "Success"]})])


@pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\r\nAction: Logoff", "a\0", "\x1b[2J", "\x7f", "\t"])
def test_control_characters_are_refused(bad: str) -> None:
    for name, fields in ((bad, {}), ("Setvar", {"Value": bad}), ("Setvar", {bad: "x"})):
        with pytest.raises(LocalProtocolError) as caught:
            check_action(name, fields)
        assert bad not in str(caught.value)


@pytest.mark.parametrize("field", ["", "A: b", "A b", ":", "Äction", "ActionID", "actionid", "Action", "-A"])
def test_bad_field_names_are_refused(field: str) -> None:
    with pytest.raises(LocalProtocolError):
        check_action("Setvar", {field: "x"})


def test_a_line_may_be_as_long_as_asterisk_reads() -> None:
    check_action("Setvar", {"Value": "v" * 1015})
    check_action("Setvar", {"Value": "à" * 507})
    for value in ("v" * 1016, "à" * 508):
        with pytest.raises(LocalProtocolError, match="bytes"):
            check_action("Setvar", {"Value": value})


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="not text"):
        check_action("Setvar", {"Value": "\udc80"})


def test_a_blocking_originate_is_refused() -> None:
    check_action("Originate", {"Channel": "Local/s@x", "Async": "true"})
    with pytest.raises(LocalProtocolError, match="Async"):
        check_action("Originate", {"Channel": "Local/s@x"})


@pytest.mark.parametrize("name", ["", "/.*/"])
def test_names_that_reach_beyond_one_channel_are_refused(name: str) -> None:
    with pytest.raises(LocalProtocolError):
        one_channel(name)
    assert one_channel("PJSIP/app-00000001") == "PJSIP/app-00000001"


STREAM = (
    "Asterisk Call Manager/11.0.0\r\nResponse: Success\r\n\r\nEvent: X\r\nName: Zoë Voilà 🎈\r\n\r\n".encode()
)


@given(st.sets(st.integers(1, len(STREAM) - 1)))
def test_messages_do_not_depend_on_the_reads(cuts: set[int]) -> None:
    framing, edges = Framing(), [0, *sorted(cuts), len(STREAM)]
    chunks = [framing.feed(STREAM[a:b]) for a, b in pairwise(edges)]
    assert "".join(chunks).encode() == STREAM.partition(b"\r\n")[2]
    assert all(chunk == "" or chunk.endswith("\r\n\r\n") for chunk in chunks)


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    framing = Framing()
    framing.feed(b"Asterisk Call Manager/11.0.0\r\n")
    out = framing.feed(data + b"\r\n\r\n")
    assert out == (data + b"\r\n\r\n").decode("utf-8", "replace")


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-x\r\n", b"HTTP/1.1 400\r\n", b"\r\n", b"Asterisk Call Manager/\r\n", b"a"]
)
def test_another_service_is_recognised(greeting: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="greeting"):
        Framing().feed(greeting)


def test_a_message_without_end_is_refused() -> None:
    framing = Framing()
    framing.feed(b"Asterisk Call Manager/11.0.0\r\n")
    for _ in range(63):
        framing.feed(b"x" * 4096)
    with pytest.raises(RemoteProtocolError, match="longer"):
        framing.feed(b"x" * 4096 * 2)
