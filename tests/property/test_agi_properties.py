"""AGI framing under every cut, every noise and every value."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.asterisk.agi_codec import AgiCodec, Closed, Event, Hangup, Reply, State
from bridge.asterisk.agi_header import Request
from bridge.errors import LocalProtocolError, RemoteProtocolError

# fmt: off
KEYS = (
    "network", "network_script", "request", "channel", "language", "type", "uniqueid", "version", "callerid",
    "calleridname", "callingpres", "callingani2", "callington", "callingtns", "dnid", "rdnis", "context", "extension",
    "priority", "enhanced", "accountcode", "threadid",
)
# fmt: on
TAILS = [
    b"200 result=1\n",
    b"100 result=0 Trying...\n",
    b"510 Invalid\n",
    b"520-Usage:\n",
    b"520 End.\n",
    b"HANGUP\n",
]

value = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=12)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    keys = KEYS if draw(st.booleans()) else tuple(key for key in KEYS if key != "network_script")
    lines = [f"agi_{key}: {draw(value)}\n" for key in keys]
    lines += [f"agi_arg_{n}: {text}\n" for n, text in enumerate(draw(st.lists(value, max_size=4)), 1)]
    return "".join([*lines, "\n"]).encode()


# A conversation, perhaps with noise somewhere, perhaps cut off early.
tails = st.lists(st.sampled_from(TAILS) | st.binary(max_size=8), max_size=5).map(b"".join)


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    whole = draw(headers()) + draw(tails)
    at = draw(st.integers(0, len(whole)))
    noise = draw(st.sampled_from([b"", b"", b"\n", b"\n\n", b"\nHANGUP\n", b"\0", b"\xff"]))
    whole = whole[:at] + noise + whole[at:]
    return whole[: draw(st.integers(0, len(whole)) | st.just(len(whole)))]


@st.composite
def cuts(draw: st.DrawFn, size: int) -> list[int]:
    if draw(st.booleans()):
        return list(range(1, size))
    return sorted(draw(st.lists(st.integers(0, size), max_size=8)))


def hear(pieces: list[bytes]) -> list[Event | str]:
    """What a side that answers every request at once hears, up to the end of stream or the first fault."""
    codec = AgiCodec()
    heard: list[Event | str] = []
    for piece in [*filter(None, pieces), b""]:
        codec.receive_data(piece)
        try:
            for event in codec:
                heard.append(event)
                if isinstance(event, Request):
                    codec.set_variable("BRIDGE", "x")
        except RemoteProtocolError:
            assert codec.state is State.BROKEN
            return [*heard, "fault"]
    assert heard[-1] == Closed()
    return heard


@given(st.data(), conversations())
def test_how_the_bytes_are_cut_changes_nothing(data: st.DataObject, whole: bytes) -> None:
    at = data.draw(cuts(len(whole)))
    pieces = [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True)]
    assert hear(pieces) == hear([whole])


@given(st.binary(max_size=400))
def test_noise_ends_in_closed_or_in_a_fault(noise: bytes) -> None:
    assert hear([noise]) in ([Closed()], ["fault"])


@given(headers(), st.integers(1, 3))
def test_a_hangup_on_any_later_line_is_heard_as_one(header: bytes, hangups: int) -> None:
    heard = hear([header + b"HANGUP\n" * hangups + b"200 result=1\n" + b"HANGUP\n"])
    assert isinstance(heard[0], Request)
    assert heard[1:] == [*[Hangup()] * hangups, Reply(200, "1", ""), Hangup(), Closed()]


@given(headers())
def test_values_come_through_unchanged(header: bytes) -> None:
    request = hear([header])[0]
    assert isinstance(request, Request)
    said = dict(line.split(": ", 1) for line in header.decode()[:-2].split("\n"))
    args = [text for key, text in said.items() if key.startswith("agi_arg_")]
    assert list(request.args) == args
    assert {key: text for key, text in request.env.items() if key in said} == {
        key: text for key, text in said.items() if not key.startswith("agi_arg_")
    }


def asterisk_words(line: str) -> list[str]:
    """How Asterisk takes a command apart: quotes group, a backslash takes the next character as it is."""
    words: list[str] = []
    quoted = escaped = False
    between = True
    for char in line:
        if char == '"' and not escaped:
            quoted = not quoted
            if quoted and between:
                words.append("")
                between = False
        elif char in " \t" and not quoted and not escaped:
            between = True
        elif char == "\\" and not escaped:
            escaped = True
            continue
        else:
            if between:
                words.append("")
                between = False
            words[-1] += char
        escaped = False
    return words


@given(headers(), st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_what_asterisk_reads_is_what_we_said(header: bytes, words: list[str]) -> None:
    codec = AgiCodec()
    codec.receive_data(header)
    list(codec)
    try:
        wire = codec.command(*words)
    except LocalProtocolError:
        assert any(ord(char) < 32 or ord(char) == 127 for word in words for char in word)
        return
    assert wire.count(b"\n") == 1
    assert asterisk_words(wire.decode()[:-1]) == words
