"""The number of somebody who calls from the network: shown, withheld, or a reason to end the call (TKG §120).

It is never changed on its way: it is shown as it came, in E.164, or not at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bridge.telephony.cause import Refuse, RefuseReason, refuse
from bridge.telephony.number import EMERGENCY, Number, barred, parse_caller
from bridge.telephony.writing import E164

DOMESTIC: Final = "domestic"
FOREIGN: Final = "foreign"

# §120 (3): numbers of directory, mass-traffic, premium and short-code services, 110 and 112 may not call. 010xy is
# dialled before another number, +979 is premium the world over.
_NEVER: Final = frozenset({"118xy", "0137", "0900", "010xy", "+979"})
_SHORT_DIGITS_MAX: Final = 6  # 110, 11833, 116117, 124124: what has no area code has no more
_DIGITS: Final = re.compile(r"(\+|00|0)?([0-9]{1,20})", re.ASCII)
_GERMANY: Final = "49"
# §120 (4) lets roamers show theirs. Mobile telephony is 015, 0160, 0162, 0163 and 017; the other 016 are pagers.
_GERMAN_MOBILE: Final = re.compile(r"49(15|16[023]|17)", re.ASCII)


@dataclass(frozen=True, slots=True)
class CallerId:
    """number    who calls, in E.164; None: nobody knows
    shown     the callee may see it
    withheld  why not: asked, foreign, or none where there is no number
    """

    number: Number | None
    withheld: str = ""

    @property
    def shown(self) -> Number | None:
        return None if self.withheld else self.number


def from_network(
    text: str, *, origin: str, private: bool = False, form: str = "", home: str = "DE"
) -> CallerId | Refuse:
    """What becomes of a caller's number that a carrier brings.

    text     as the carrier wrote it; from a stranger, so anything
    origin   domestic or foreign: where the carrier is
    private  the caller asked not to be shown
    form     how the carrier writes numbers, one of `writing.FORMATS`: bare digits are E.164 with `e164` only
    home     ISO 3166 region whose dialling habits apply
    returns  Refuse caller_id where the call must end, hidden or not
    """
    found = _DIGITS.fullmatch(text)
    if found is None:
        return CallerId(None, "none")
    prefix, digits = found[1] or "", found[2]
    if (prefix != "0" and len(digits) <= _SHORT_DIGITS_MAX) or digits in EMERGENCY:
        return refuse(RefuseReason.caller_id, "a short number")
    if (name := _forbidden(prefix, digits, form, home)) is not None:
        return refuse(RefuseReason.caller_id, name)
    number = parse_caller(f"+{text}" if not prefix and form == E164 else text, home=home)
    # +49 030…: the 0 was never to be sent, and to leave it out is to change the number.
    if not isinstance(number, Number) or not number.digits.endswith(digits):
        return CallerId(None, "none")
    if private:
        return CallerId(number, "asked")
    if origin != DOMESTIC and _german(number) and not _GERMAN_MOBILE.match(number.digits):
        return CallerId(number, "foreign")
    return CallerId(number)


def wants_privacy(header: str) -> bool:
    """Whether a Privacy header (RFC 3323, RFC 3325) asks that the caller be not shown.

    >>> wants_privacy("id;critical"), wants_privacy("none"), wants_privacy("")
    (True, False, False)
    """
    asked = {part.strip().lower() for part in header[:100].split(";")}
    return not asked.isdisjoint(("id", "user", "header"))


def _german(number: Number) -> bool:
    return number.digits.startswith(_GERMANY)


def _forbidden(prefix: str, digits: str, form: str, home: str) -> str | None:
    """The kind of service whose number this begins like, however long it is and however it is written."""
    international = digits if prefix in ("+", "00") or (not prefix and form == E164) else None
    if international is None and home == "DE":
        # As dialled at home, with its 0 or, from a carrier that lost it, without; and E.164 that lost its plus.
        national = digits.lstrip("0")
        name = _service(_GERMANY + national) if prefix else None
        return name or _service(digits)
    if international is None:
        return None
    name = _service(international)
    if name is None and international.startswith(_GERMANY):
        # +49 0900…: who strips the 0 shows a premium number.
        return _service(_GERMANY + international.removeprefix(_GERMANY).lstrip("0"))
    return name


def _service(digits: str) -> str | None:
    """digits: in E.164 without plus, of any length up to twenty."""
    cut = digits[:15]
    if len(cut) < 5 or cut[0] == "0":
        return None
    name = barred(Number(f"+{cut}"))
    return name if name in _NEVER else None
