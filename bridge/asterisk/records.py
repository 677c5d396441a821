"""The lines a switch writes down: the journal of the dialplan and the CDR file. Pure; a bad line is None, not an error.

Journal   answered|<token>|<epoch>|<ring ms>|<progress ms>
          answered|<token>|<epoch>|||<channel>, of a leg made by order
          ended|<token>|<answer>|<end>|<now>|<DIALSTATUS>|<cause>|<hang-up source>|<channel>
               |<ring ms>|<progress ms>|<dialled ms>|<talk ms>
CDR       "<token>","<uniqueid>","<start>","<answer>","<end>","<disposition>","<channel>","<dst channel>"
          or, in place of the token, emergency|<number>|<caller>
Times are seconds since 1970 with six decimals; 0.000000 is "never".
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import Final

from bridge.calls.ended import EndRecord
from bridge.calls.token import Token, parse_token

NOT_ADMITTED: Final = "ended||"  # begins the line of a call without a token: refused, or to 110 or 112

_TIME: Final = re.compile(r"([0-9]{1,12})\.([0-9]{6})", re.ASCII)
_CAUSE_MAX: Final = 127
_EMERGENCY: Final = re.compile(r"emergency\|(?P<number>[0-9]{3})\|(?P<caller>[0-9+]{0,32})", re.ASCII)


@dataclass(frozen=True, slots=True)
class AnsweredLine:
    """channel: the callee's, where the cut of the call is set on it and not on the caller's."""

    token: Token
    answered_us: int
    pdd_ms: int | None
    channel: str = ""


@dataclass(frozen=True, slots=True)
class EndedLine:
    """`channel` is the caller's; its unique id is not in the journal, so an orphan takes the token's."""

    token: Token
    record: EndRecord


@dataclass(frozen=True, slots=True)
class CdrLine:
    """One leg by the switch's own account.

    token      None for calls that are none of ours
    emergency  (number, caller) of a call that never asked the bridge
    """

    token: Token | None
    uniqueid: str
    started_us: int
    answered_us: int
    ended_us: int
    emergency: tuple[str, str] | None = None


def parse_journal(line: str) -> AnsweredLine | EndedLine | None:
    """One line of the journal, or None when it is none."""
    fields = line.split("|")
    token = parse_token(fields[1]) if len(fields) > 1 else None
    if token is None:
        return None
    match fields:
        case ["answered", _, at, ring, progress, *channel] if len(channel) < 2:
            answered_us = _micros(at)
            pdd_ms = parse_pdd(ring, progress)
            return AnsweredLine(token, answered_us, pdd_ms, *channel) if answered_us else None
        case ["ended", *rest]:
            record = parse_end(token, rest, "journal")
            return EndedLine(token, record) if record else None
    return None


def parse_end(token: Token, rest: list[str], source: str) -> EndRecord | None:
    """The fields after `ended`: token, answer, end, now, DIALSTATUS, cause, hang-up source, channel, then milliseconds:
    ringing and early media since Dial() began, the whole of Dial(), talk.
    """
    if len(rest) != 12:
        return None
    _, answer, end, now, dialstatus, cause, released_by, channel, ring, progress, dialled, talk = rest
    answered_us, ended_us = _micros(answer), _micros(end) or _micros(now)
    if answered_us is None or not ended_us:
        return None
    if not answered_us and dialstatus == "ANSWER" and (talked := parse_pdd(talk)) is not None:
        # Several phones rang. The switch has a record of each, and tells of the last only, which may be another than
        # the one that was answered.
        ended_us = _micros(now) or ended_us
        answered_us = ended_us - talked * 1000
    return EndRecord(
        call_id=token.call_id,
        attempt_no=token.attempt_no if dialstatus or answered_us else None,
        answered_us=answered_us,
        ended_us=ended_us,
        source=source,
        dialstatus=dialstatus[:20],
        q850_cause=parse_cause(cause),
        release_party=_release_party(released_by, channel),
        pdd_ms=parse_pdd(ring, progress) if ring or progress else _until_answer(dialled, talk),
    )


def parse_cdr(line: str) -> CdrLine | None:
    """One line of the CDR file, or None when it is none."""
    try:
        fields = next(csv.reader([line], strict=True))
        mark, uniqueid, start, answer, end, _, _, _ = fields
    except (csv.Error, StopIteration, ValueError):
        return None
    started_us, answered_us, ended_us = _micros(start), _micros(answer), _micros(end)
    if started_us is None or answered_us is None or not ended_us:
        return None
    emergency = _EMERGENCY.fullmatch(mark)
    return CdrLine(
        parse_token(mark),
        uniqueid,
        started_us,
        answered_us,
        ended_us,
        (emergency["number"], emergency["caller"]) if emergency else None,
    )


def _micros(text: str) -> int | None:
    if not text:
        return 0
    found = _TIME.fullmatch(text)
    return int(found[1]) * 1_000_000 + int(found[2]) if found else None


def parse_cause(text: str) -> int | None:
    """A Q.850 cause as the switch writes it; 0 and "" are none."""
    cause = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
    return cause if 1 <= cause <= _CAUSE_MAX else None


def parse_pdd(*ms: str) -> int | None:
    """Ringing or early media, whichever came first."""
    found = [int(one) for one in ms if one.isascii() and one.isdigit() and len(one) < 9]
    return min(found, default=None)


def _until_answer(dialled: str, talk: str) -> int | None:
    """Where nothing rang first, the answer ends the caller's wait."""
    whole, talked = parse_pdd(dialled), parse_pdd(talk)
    return whole - talked if whole is not None and talked is not None and whole >= talked else None


def _release_party(source: str, channel: str) -> str:
    """CHANNEL(hangupsource) names the channel that hung up, or a part of the switch, or nothing when time ran out."""
    if source == channel:
        return "caller"
    return "callee" if source.startswith("PJSIP/") else "bridge"
