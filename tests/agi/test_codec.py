"""AGI framing: what Asterisk says, what a caller can make it say, and what we may say."""

from __future__ import annotations

import time

import pytest

from bridge.asterisk.agi_codec import (
    COMMAND_BYTES_MAX,
    COMMAND_WORDS_MAX,
    HEADER_BYTES_MAX,
    REPLY_BYTES_MAX,
    AgiCodec,
    Closed,
    Hangup,
    Reply,
    State,
)
from bridge.asterisk.agi_header import HEADER_LINES_MAX, Request
from bridge.errors import LocalProtocolError, RemoteProtocolError

NAME = b"agi_calleridname: Erika Mustermann\n"
USAGE = (
    b"520-Invalid command syntax.  Proper usage follows:\n"
    b" Usage: SET VARIABLE <variablename> <value>\n"
    b"\n"
    b"520 End of proper usage.\n"
)


def ready(header: bytes) -> AgiCodec:
    codec = AgiCodec()
    codec.receive_data(header)
    assert isinstance(codec.next_event(), Request)
    return codec


def waiting(header: bytes) -> AgiCodec:
    codec = ready(header)
    codec.set_variable("BRIDGE", "x")
    return codec


def refused(data: bytes) -> str:
    """The fault the codec finds in a header."""
    codec = AgiCodec()
    codec.receive_data(data)
    with pytest.raises(RemoteProtocolError) as fault:
        list(codec)
    return str(fault.value)


def test_a_header_becomes_a_request(header: bytes) -> None:
    codec = AgiCodec()
    codec.receive_data(header)
    request = codec.next_event()
    assert isinstance(request, Request)
    assert (request.route, request.query, request.args) == ("authorise", "a=1", ("one", "two words"))
    assert request.env["agi_channel"] == "PJSIP/app-0000002a"
    assert request.env["agi_calleridname"] == "Erika Mustermann"
    assert request.env["agi_accountcode"] == ""
    assert "agi_arg_1" not in request.env
    assert codec.next_event() is None
    assert codec.state is State.READY


def test_an_url_without_a_path_has_the_empty_route(header: bytes) -> None:
    codec = AgiCodec()
    codec.receive_data(header.replace(b"agi_network_script: authorise?a=1\n", b""))
    request = codec.next_event()
    assert isinstance(request, Request)
    assert (request.route, request.query, request.env["agi_network_script"]) == ("", "", "")


def test_values_may_hold_what_looks_like_structure(header: bytes) -> None:
    codec = AgiCodec()
    codec.receive_data(header.replace(NAME, b'agi_calleridname: a: "b" \r\t agi_dnid: 1 \xc3\xa9\xff\n'))
    request = codec.next_event()
    assert isinstance(request, Request)
    assert request.env["agi_calleridname"] == 'a: "b" \r\t agi_dnid: 1 é\ufffd'
    assert request.env["agi_dnid"] == "496990009001"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("an unknown key", b"agi_calleridname: x\nagi_admin: 1\n"),
        ("a line without a key", b"agi_calleridname: x\nfoo\n"),
        ("a key twice", b"agi_calleridname: x\nagi_calleridname: y\n"),
        ("a key said again out of order", b"agi_calleridname: x\nagi_channel: PJSIP/other-1\n"),
        ("a later key too early", b"agi_calleridname: x\nagi_dnid: 112\n"),
        ("a missing key", b""),
        ("the end of a header", b"agi_calleridname: x\n\n"),
        ("a hangup", b"agi_calleridname: x\nHANGUP\n"),
        ("an argument too early", b"agi_calleridname: x\nagi_arg_1: y\n"),
        ("no space after the colon", b"agi_calleridname:x\n"),
        ("NUL", b"agi_calleridname: x\0y\n"),
    ],
)
def test_a_caller_cannot_add_to_the_header(header: bytes, name: str, line: bytes) -> None:
    fault = refused(header.replace(NAME, line))
    assert "x" not in fault.replace("expected", ""), name
    assert "493023125001" not in fault


@pytest.mark.parametrize(
    "arguments",
    [
        b"agi_arg_2: one\n",
        b"agi_arg_0: one\n",
        b"agi_arg_01: one\n",
        b"agi_arg_1: one\nagi_arg_1: two\n",
        b"agi_arg_1: one\nagi_arg_3: two\n",
        b"agi_arg_1: one\nagi_dnid: 112\n",
        b"agi_arg_one: one\n",
    ],
)
def test_arguments_are_numbered_without_gaps(header: bytes, arguments: bytes) -> None:
    refused(header.replace(b"agi_arg_1: one\nagi_arg_2: two words\n", arguments))


@pytest.mark.parametrize(
    "noise", [b"\n\n", b"GET / HTTP/1.1\r\nHost: x\n\n", b"\xff\n\n", b"agi_network: yes\n\n"]
)
def test_noise_is_no_header(noise: bytes) -> None:
    refused(noise)


def test_a_caller_who_completes_the_header_himself_is_found_out_by_the_rest(header: bytes) -> None:
    rest = header.partition(NAME)[2]
    forged = rest.replace(b"agi_context: call", b"agi_context: admin")[:-1]
    codec = AgiCodec()
    codec.receive_data(header.replace(NAME, NAME + forged + b"\n"))
    request = codec.next_event()
    assert isinstance(request, Request)
    assert request.env["agi_context"] == "admin"
    with pytest.raises(RemoteProtocolError, match="a line that is no reply"):
        codec.next_event()


def test_header_limits(header: bytes) -> None:
    def long(size: int) -> bytes:
        return header.replace(b"Mustermann", b"M" * (size - len(header) + len(b"Mustermann")))

    assert len(long(HEADER_BYTES_MAX)) == HEADER_BYTES_MAX
    ready(long(HEADER_BYTES_MAX))
    assert "longer" in refused(long(HEADER_BYTES_MAX + 1))
    assert "longer" in refused(b"a" * (HEADER_BYTES_MAX + 1))

    def many(count: int) -> bytes:
        return (
            header.partition(b"agi_arg_1")[0]
            + b"".join(b"agi_arg_%d: \n" % n for n in range(1, count + 1))
            + b"\n"
        )

    most = HEADER_LINES_MAX - 22
    codec = AgiCodec()
    codec.receive_data(many(most))
    request = codec.next_event()
    assert isinstance(request, Request)
    assert request.args == ("",) * most
    assert "more than 64 lines" in refused(many(most + 1))


@pytest.mark.parametrize(
    ("wire", "event"),
    [
        (b"200 result=1\n", Reply(200, "1", "")),
        (b"200 result=-1\n", Reply(200, "-1", "")),
        (b"200 result=\n", Reply(200, "", "")),
        (b"200 result=1 (a (b) c)\n", Reply(200, "1", "(a (b) c)")),
        (b"200 result=0 (timeout) endpos=480\n", Reply(200, "0", "(timeout) endpos=480")),
        (b"510 Invalid or unknown command\n", Reply(510, None, "Invalid or unknown command")),
        (
            b"511 Command Not Permitted on a dead channel\n",
            Reply(511, None, "Command Not Permitted on a dead channel"),
        ),
        (b"520 Invalid command syntax.\n", Reply(520, None, "Invalid command syntax.")),
        (USAGE, Reply(520, None, " Usage: SET VARIABLE <variablename> <value>\n")),
    ],
)
def test_replies(header: bytes, wire: bytes, event: Reply) -> None:
    codec = waiting(header)
    codec.receive_data(wire + b"HANGUP\n")
    codec.receive_data(b"")
    assert list(codec) == [event, Hangup(), Closed()]


def test_a_provisional_reply_announces_another(header: bytes) -> None:
    codec = waiting(header)
    codec.receive_data(b"100 result=0 Trying...\nHANGUP\n200 result=0\n")
    assert list(codec) == [Reply(100, "0", "Trying..."), Hangup(), Reply(200, "0", "")]
    assert codec.state is State.READY


def test_a_hangup_inside_a_usage_text_is_no_part_of_it(header: bytes) -> None:
    codec = waiting(header)
    first, rest = USAGE.split(b"\n", 1)
    codec.receive_data(first + b"\nHANGUP\n" + rest)
    assert list(codec) == [Hangup(), Reply(520, None, " Usage: SET VARIABLE <variablename> <value>\n")]


@pytest.mark.parametrize(
    "line",
    [b"200\n", b"200 result\n", b"404 what\n", b"hangup\n", b"\n", b"510\n", b"2000 result=1\n"],
)
def test_what_is_no_reply_is_the_peers_fault(header: bytes, line: bytes) -> None:
    codec = waiting(header)
    codec.receive_data(line)
    with pytest.raises(RemoteProtocolError):
        codec.next_event()


@pytest.mark.parametrize("unasked", [b"200 result=1\n", USAGE, b"2", b"HANGUPS"])
def test_a_reply_nobody_asked_for_is_the_peers_fault(header: bytes, unasked: bytes) -> None:
    codec = ready(header)
    codec.receive_data(unasked)
    with pytest.raises(RemoteProtocolError):
        codec.next_event()


def test_the_first_fault_stays(header: bytes) -> None:
    codec = ready(header)
    codec.receive_data(b"nonsense\n")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="a line that is no reply"):
            codec.next_event()
        codec.receive_data(b"HANGUP\n")
    with pytest.raises(LocalProtocolError, match="BROKEN"):
        codec.set_variable("BRIDGE", "x")


def test_reply_limits(header: bytes) -> None:
    codec = waiting(header)
    codec.receive_data(b"200 result=1 " + b"x" * (REPLY_BYTES_MAX - 13) + b"\n")
    assert isinstance(codec.next_event(), Reply)
    for flood in (b"x" * (REPLY_BYTES_MAX + 1), b"520-\n" + b"\n" * (REPLY_BYTES_MAX + 1)):
        codec = waiting(header)
        codec.receive_data(flood)
        with pytest.raises(RemoteProtocolError, match="longer"):
            codec.next_event()


def test_end_of_stream(header: bytes) -> None:
    for codec in (AgiCodec(), ready(header), waiting(header)):
        codec.receive_data(b"")
        assert list(codec) == [Closed()]
        assert codec.next_event() is None
        with pytest.raises(LocalProtocolError, match="after end of stream"):
            codec.receive_data(b"x")


@pytest.mark.parametrize("cut", [b"HANG", b"200 result=1", b"520-Invalid\n Usage"])
def test_end_of_stream_in_the_middle(header: bytes, cut: bytes) -> None:
    codec = waiting(header)
    codec.receive_data(cut)
    codec.receive_data(b"")
    with pytest.raises(RemoteProtocolError):
        list(codec)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        ("dial;PJSIP/4930@a;30", b'SET VARIABLE BRIDGE "dial;PJSIP/4930@a;30"\n'),
        ("", b'SET VARIABLE BRIDGE ""\n'),
        ('a"b\\c', b'SET VARIABLE BRIDGE "a\\"b\\\\c"\n'),
        ("é", b'SET VARIABLE BRIDGE "\xc3\xa9"\n'),
    ],
)
def test_set_variable(header: bytes, value: str, wire: bytes) -> None:
    codec = ready(header)
    assert codec.set_variable("BRIDGE", value) == wire
    assert codec.state is State.WAITING


def test_any_command(header: bytes) -> None:
    assert ready(header).command("EXEC", "Dial", "a b", "") == b'EXEC Dial "a b" ""\n'
    assert ready(header).set_variable("CDR(bridge)", "x") == b'SET VARIABLE CDR(bridge) "x"\n'


def test_what_we_must_not_say_changes_nothing(header: bytes) -> None:
    codec = ready(header)
    for value in ("a\nb", "a\rb", "a\0b", "a\tb", "\x7f", "\ud800"):
        with pytest.raises(LocalProtocolError):
            codec.set_variable("BRIDGE", value)
    for name in ("", "A B", 'A"', "A\n", "A(b)c", "${A}"):
        with pytest.raises(LocalProtocolError, match="variable name"):
            codec.set_variable(name, "x")
    for words in ((), ("NOOP",) * (COMMAND_WORDS_MAX + 1), ("NOOP", "\n")):
        with pytest.raises(LocalProtocolError):
            codec.command(*words)
    room = COMMAND_BYTES_MAX - len(b'SET VARIABLE BRIDGE ""\n')
    with pytest.raises(LocalProtocolError, match="2048 bytes"):
        codec.set_variable("BRIDGE", "x" * (room + 1))
    assert codec.state is State.READY
    assert len(codec.set_variable("BRIDGE", "x" * room)) == COMMAND_BYTES_MAX


def test_one_command_at_a_time(header: bytes) -> None:
    for codec, state in ((AgiCodec(), "HEADER"), (waiting(header), "WAITING")):
        with pytest.raises(LocalProtocolError, match=state):
            codec.command("NOOP")


def test_a_flood_is_read_in_linear_time(header: bytes) -> None:
    """Quadratic work on these two megabytes would take minutes."""
    lines = 300_000
    codec = ready(header)
    started_s = time.process_time()
    codec.receive_data(b"HANGUP\n" * lines)
    assert sum(1 for _ in codec) == lines
    assert time.process_time() - started_s < 20
