"""What a reconciliation says: how far two records of one call may lie apart, the classes, and what they point to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from bridge.errors import Invalid
from bridge.telephony.money import format_micro

# A matched call is of the first that applies: its durations differ, its amounts differ, nothing does.
CLASSES: Final = ("matched", "rate", "duration", "only_ours", "only_theirs")
OPEN: Final = CLASSES[1:]  # what somebody has to look at
SUMS: Final = ("calls", "our_ms", "their_ms", "our_micro", "their_micro", "unpriced")
BUCKET_MS: Final = 30_000
CLOCK_CALLS_MIN: Final = 3
_SWAPPED_ROWS_MIN: Final = 10
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Terms:
    """By contract. amount_micro of one call, or amount_permyriad of our amount: the larger of both is tolerated.

    raises   Invalid: out of range
    """

    answer_s: int = 5
    duration_s: int = 2
    amount_micro: int = 100
    amount_permyriad: int = 0
    dispute_days: int = 30

    def __post_init__(self) -> None:
        most = {
            "answer_s": 600,
            "duration_s": 600,
            "amount_micro": 10**12,
            "amount_permyriad": 10_000,
            "dispute_days": 365,
        }
        for name, value in asdict(self).items():
            if not (1 if name == "dispute_days" else 0) <= value <= most[name]:
                raise Invalid(f"{name} is at most {most[name]}, and not negative")

    @property
    def bucket_ms(self) -> int:
        """Calls of one number are compared within such a span and its neighbours."""
        return max(BUCKET_MS, 4_000 * self.answer_s)

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def summed(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Counts and sums by class; every class is there."""
    found = {one: dict.fromkeys(SUMS, 0) for one in CLASSES}
    for row in rows:
        for name in SUMS:
            found[row["class"]][name] += row[name]
    return found


def told(sums: Mapping[str, int]) -> dict[str, Any]:
    """One class as people read it: minutes and amounts as decimal strings. difference: theirs less ours."""
    return {
        "calls": sums["calls"],
        "our_minutes": minutes(sums["our_ms"]),
        "their_minutes": minutes(sums["their_ms"]),
        "our_amount": format_micro(sums["our_micro"]),
        "their_amount": format_micro(sums["their_micro"]),
        "difference": format_micro(sums["their_micro"] - sums["our_micro"]),
    }


def minutes(ms: int) -> str:
    """
    >>> minutes(90_000), minutes(59_999)
    ('1.50', '1.00')
    """
    hundredths = (ms + 300) // 600
    return f"{hundredths // 100}.{hundredths % 100:02}"


def clock_hint(ms: int | None, calls: int, looked_at: int, terms: Terms) -> str | None:
    """What a lag that most calls share says; None: their clock is ours.

    ms   what has to be added to their times
    """
    if ms is None or calls < CLOCK_CALLS_MIN or 2 * calls < looked_at or abs(ms) <= terms.answer_s * 1000:
        return None
    zone = (
        " That is a time zone: import it again with the right --zone, or match it"
        if ms % (_HOUR_MS // 4) == 0
        else " Match it"
    )
    back = "behind" if ms > 0 else "ahead of"
    where = f"their clock is {abs(ms) / 1000:g} s {back} ours in {calls} of {looked_at} calls"
    return f"{where}.{zone} with --clock {ms / 1000:g}"


def hints(
    classes: Mapping[str, Mapping[str, int]], clock: str | None, other_currency: int, currency: str
) -> list[str]:
    """What a person should know before they read the classes."""
    found = [clock] if clock else []
    theirs = sum(classes[one]["calls"] for one in CLASSES if one != "only_ours")
    if other_currency:
        found.append(f"{other_currency} of our records are not in {currency}, and in no class")
    if unpriced := sum(one["unpriced"] for one in classes.values()):
        found.append(f"{unpriced} of {theirs} rows of theirs have no amount: their prices are not compared")
    if not theirs:
        found.append("their file has no answered call")
    elif classes["only_theirs"]["calls"] * 2 > theirs and not clock:
        found.append(
            "most of their rows are in none of our records: are period, leg and counterparty the right ones?"
        )
    return found


def crossed(rows: int, straight: int, cross: int) -> bool:
    """Whether A- and B-numbers of theirs stand in each other's column, as our own calls show."""
    return rows >= _SWAPPED_ROWS_MIN and cross * 2 > rows and straight * 4 < cross


def claim_micro(leg: str, class_: str, our_micro: int, their_micro: int) -> int:
    """What a class is worth to us: positive is in our favour.

    What they carried for us (termination) they bill, and more than ours is too much; what came from them they owe.
    """
    more = their_micro - our_micro
    if class_ == "only_ours" and leg == "termination":
        return 0  # what they do not bill, nobody claims
    return more if leg == "termination" else -more
