"""What the switch writes down, line by line."""

from uuid import UUID

import pytest

from bridge.asterisk.records import AnsweredLine, EndedLine, parse_cdr, parse_journal
from bridge.calls.token import parse_token

CALL = "01a203c8-4c13-7987-9c96-f6a99d52ec62"
ORPHAN = f"{CALL}.1:{CALL}:+4915112345678:+493023125000:alpha"
ENDED = (
    "1795358452.062046|1795358453.067828|1795358453.068000|ANSWER|16|PJSIP/app-01|PJSIP/app-01|7||1009|1005"
)


def ended(**changed: str) -> EndedLine:
    names = (
        "answer",
        "end",
        "now",
        "dialstatus",
        "cause",
        "source",
        "channel",
        "ring",
        "progress",
        "dialled",
        "talk",
    )
    fields = dict(zip(names, ENDED.split("|"), strict=True)) | changed
    line = parse_journal("|".join(["ended", f"{CALL}.2", *fields.values()]))
    assert isinstance(line, EndedLine)
    return line


def test_an_answered_call():
    record = ended().record
    assert record.call_id == UUID(CALL)
    assert record.attempt_no == 2
    assert (record.answered_us, record.ended_us) == (1795358452062046, 1795358453067828)
    assert (record.dialstatus, record.q850_cause, record.release_party) == ("ANSWER", 16, "caller")


def test_of_several_phones_the_one_that_was_answered_may_not_be_the_last():
    """Then the switch knows no answer, but how long was talked."""
    record = ended(answer="0.000000", end="1795358452.062000").record
    assert (record.answered_us, record.ended_us) == (1795358453068000 - 1_005_000, 1795358453068000)
    assert ended(answer="0.000000", talk="").record.answered_us == 0
    assert ended(answer="0.000000", dialstatus="BUSY").record.answered_us == 0


@pytest.mark.parametrize(
    ("source", "party"),
    [
        ("PJSIP/app-01", "caller"),
        ("PJSIP/alpha-02", "callee"),
        ("dialplan/builtin", "bridge"),
        ("", "bridge"),
    ],
)
def test_who_hung_up(source, party):
    assert ended(source=source).record.release_party == party


@pytest.mark.parametrize(
    ("ring", "progress", "pdd_ms"),
    [("7", "", 7), ("", "5", 5), ("9", "5", 5), ("", "", 4), ("x", "", None), ("-1", "", None)],
)
def test_the_callers_wait_is_until_ringing_early_media_or_the_answer(ring, progress, pdd_ms):
    assert ended(ring=ring, progress=progress).record.pdd_ms == pdd_ms


def test_a_call_that_was_never_dialled_has_no_attempt():
    record = ended(answer="0.000000", end="0.000000", dialstatus="", cause="0").record
    assert (record.attempt_no, record.answered_us, record.q850_cause) == (None, 0, None)
    assert record.ended_us == 1795358453068000  # no end of its own: now


def test_an_answer():
    leg = parse_journal(f"answered|{CALL}.1|1795358452.060740|||PJSIP/alpha-02")
    assert isinstance(leg, AnsweredLine)
    assert (leg.pdd_ms, leg.channel) == (None, "PJSIP/alpha-02")
    line = parse_journal(f"answered|{CALL}.1|1795358452.060740|12|")
    assert isinstance(line, AnsweredLine)
    assert (line.answered_us, line.pdd_ms) == (1795358452060740, 12)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ended",
        "ended|x",
        f"ended|{CALL}.1",
        f"ended|{CALL}.1|{ENDED}|more",
        f"ended|{CALL}.1|1.5|{ENDED.split('|', 1)[1]}",
        f"answered|{CALL}.1||1|",
        f"answered|{CALL}.1|1795358452.060740|||PJSIP/alpha-02|",
        f"answered|{CALL}.1|0.000000|1|",
        f"began|{CALL}.1|1795358452.060740|1|",
        f"answered|{CALL.upper()}.1|1795358452.060740|1|",
        "answered|'; DROP TABLE call; --.1|1795358452.060740|1|",
    ],
)
def test_what_is_no_line_of_ours_is_none(line):
    assert parse_journal(line) is None


def test_a_token_survives_the_switch():
    for text in (f"{CALL}.1", ORPHAN):
        token = parse_token(text)
        assert token is not None
        assert str(token) == text


@pytest.mark.parametrize(
    "text", ["", CALL, f"{CALL}.", f"{CALL}.1:", ORPHAN + "x,y", ORPHAN.replace("+49", "49")]
)
def test_what_is_no_token_is_none(text):
    assert parse_token(text) is None


CDR = '"1795358452.0","1795358452.056105","1795358452.062046","1795358453.067828","ANSWERED","PJSIP/a","PJSIP/b"'


def test_a_cdr_line():
    line = parse_cdr(f'"{CALL}.1",{CDR}')
    assert line is not None
    assert line.token is not None
    assert (line.uniqueid, line.answered_us, line.emergency) == ("1795358452.0", 1795358452062046, None)


def test_an_emergency_call_has_no_token_but_says_who_and_whom():
    line = parse_cdr(f'"emergency|112|+4915112345678",{CDR}')
    assert line is not None
    assert (line.token, line.emergency) == (None, ("112", "+4915112345678"))


@pytest.mark.parametrize("mark", ["", "emergency", "emergency|112|x", "emergency|1123|", "other"])
def test_a_line_that_is_none_of_ours_has_neither(mark):
    line = parse_cdr(f'"{mark}",{CDR}')
    assert line is not None
    assert (line.token, line.emergency) == (None, None)


@pytest.mark.parametrize(
    "line",
    [
        "",
        '"',
        "a,b",
        '"x","1.0","bad","0.000000","1.000000","ANSWERED","c","d"',
        '"unclosed,1,2,3',
        f'"x",{CDR},"y"',
    ],
)
def test_what_is_no_cdr_line_is_none(line):
    assert parse_cdr(line) is None
