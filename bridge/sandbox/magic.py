"""What the simulated carriers do, by the last three digits dialled: their dialplan and the printed table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Numbers reserved for fiction in Germany: nobody is ever reached by mistake. Three more digits complete them.
DRAMA_RANGES: Final = ("+493023125", "+496990009", "+494066969", "+492214710", "+498999998")


@dataclass(frozen=True, slots=True)
class Magic:
    """One ending.

    ending  three digits, or an Asterisk pattern
    steps   dialplan applications, in order
    first   what the first carrier does instead, when it differs
    """

    ending: str
    meaning: str
    steps: tuple[str, ...]
    first: tuple[str, ...] = ()


_TALK: Final = ("Answer()", "Echo()")
_FOR_EVER: Final = "Wait(86400)"

MAGIC: Final = (
    Magic("000", "answers at once; the caller hangs up", _TALK),
    Magic("001", "busy (486)", ("Hangup(17)",)),
    Magic("002", "rings, nobody answers", ("Ringing()", _FOR_EVER)),
    Magic("003", "the carrier fails (503)", ("Hangup(34)",)),
    Magic("004", "no such number (404)", ("Hangup(1)",)),
    Magic("005", "rings 3 s, then answers", ("Ringing()", "Wait(3)", *_TALK)),
    Magic(
        "006",
        "early media for 2 s (183), then answers",
        ("Progress()", "Playtones(ring)", "Wait(2)", "StopPlaytones()", *_TALK),
    ),
    Magic("007", "answers, hangs up after 5 s", ("Set(TIMEOUT(absolute)=5)", *_TALK)),
    Magic("010", "the first carrier fails (503), any other answers", _TALK, first=("Hangup(34)",)),
    Magic("011", "not available (480)", ("Hangup(19)",)),
    Magic("012", "declined (603)", ("PJSIPHangup(603)",)),
    Magic("013", "tried, then silence: neither rings nor fails", (_FOR_EVER,)),
    Magic("_1XX", "a phone of an app user: answers at once, and stays", _TALK),
    Magic(
        "_02[1-9]",
        "answers, hangs up after as many seconds as the last digit",
        ("Set(TIMEOUT(absolute)=${EXTEN:2})", *_TALK),
    ),
)


def dialplan(carriers: Sequence[tuple[str, int]]) -> str:
    """extensions.conf of the carriers, given as (name, port), the first one first.

    A carrier is told by the port its call came in on. A number with another ending does not exist: 404.
    """
    lines = ["[globals]", *(f"CARRIER_{port}={name}" for name, port in carriers), ""]
    lines += _extension(
        "[carriers]",
        "_[+0-9]!",
        (
            "Set(PORT=${CUT(CHANNEL(pjsip,local_addr),:,2)})",
            "Set(CDR(userfield)=${CARRIER_${PORT}})",
            "Set(CDR(number)=${EXTEN})",
            "Set(CDR(sip_call_id)=${CHANNEL(pjsip,call-id)})",
            f"GotoIf($[${{PORT}} = {carriers[0][1]}]?first,${{EXTEN:-3}},1)",
            "Goto(any,${EXTEN:-3},1)",
        ),
    )
    lines += ["[first]"]
    for magic in MAGIC:
        if magic.first:
            lines += _extension("", magic.ending, magic.first)
    lines += ["include => any", "", "[any]"]
    for magic in MAGIC:
        lines += _extension("", magic.ending, magic.steps)
    lines += _extension("", "_X!", ("Hangup(1)",))
    lines += _extension(
        "[talk]", "s", ("Set(CDR_PROP(disable)=1)", "Set(TIMEOUT(absolute)=${TALK_S})", "Milliwatt()")
    )
    return "\n".join(lines)


def _extension(context: str, pattern: str, steps: Sequence[str]) -> list[str]:
    first, *rest = steps
    head = [context] if context else []
    return [
        *head,
        f"exten => {pattern},1,{first}",
        *(f" same => n,{step}" for step in rest),
        " same => n,Hangup()",
        "",
    ]
