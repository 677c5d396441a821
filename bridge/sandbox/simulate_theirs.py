"""What the other side would send at the month's end: each carrier's own file of calls,
with differences that are told.

No two write alike: other columns, other clocks, other marks. What is wrong in each is drawn from the seed and told in
expected.json, so that a test of reconciliation knows the truth.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

from bridge import queries
from bridge.database import Connection
from bridge.errors import ConfigError
from bridge.telephony.money import format_micro

EXPECTED: Final = "expected.json"
PART: Final = 0.004  # of the calls, for each sort of difference
AT_LEAST: Final = 2


@dataclass(frozen=True, slots=True)
class Call:
    """As one side has it. reference: theirs."""

    reference: str
    a_number: str
    b_number: str
    answered_at: datetime
    talk_ms: int
    cost_micro: int
    currency: str


@dataclass(frozen=True, slots=True)
class Layout:
    """How a carrier writes. mapping: by which reconciliation reads it."""

    header: tuple[str, ...]
    delimiter: str
    cells: Callable[[Call], tuple[str, ...]]
    mapping: Mapping[str, Any]


@dataclass(slots=True)
class Expected:
    """Ids of our calls by what is different; of those that are only theirs, their references."""

    calls: int = 0
    only_ours: list[str] = field(default_factory=list)
    only_theirs: list[str] = field(default_factory=list)
    duration: dict[str, int] = field(default_factory=dict)  # theirs less ours, ms
    rate: dict[str, str] = field(default_factory=dict)  # theirs less ours

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def _seconds(call: Call) -> int:
    return -(-call.talk_ms // 1000)


def _in_germany(call: Call) -> tuple[str, ...]:
    local = call.answered_at.astimezone(ZoneInfo("Etc/GMT-1"))
    return (
        call.reference, "0" + call.a_number[3:], call.b_number.replace("+", "00"), f"{local:%d.%m.%Y}",
        f"{local:%H:%M:%S}",
        str(_seconds(call)), format_micro(call.cost_micro).replace(".", ","), call.currency,
    )  # fmt: skip


def _in_epochs(call: Call) -> tuple[str, ...]:
    epoch = (call.answered_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return (
        call.b_number[1:], call.a_number[1:], str(epoch), str(call.talk_ms), call.currency,
        format_micro(call.cost_micro),
        call.reference,
    )  # fmt: skip


def _in_london(call: Call) -> tuple[str, ...]:
    local = call.answered_at.astimezone(ZoneInfo("Europe/London"))
    minutes, seconds = divmod(_seconds(call), 60)
    return (
        local.isoformat(timespec="seconds"), f"{minutes}:{seconds:02}", call.a_number, call.b_number,
        format_micro(call.cost_micro), call.currency, call.reference,
    )  # fmt: skip


LAYOUTS: Final[Mapping[str, Layout]] = {
    "rheinfunk": Layout(
        ("Vorgang", "Anrufer", "Ziel", "Datum", "Uhrzeit", "Dauer", "Betrag", "Währung"), ";", _in_germany,
        {"columns": {"id": "Vorgang", "a_number": "Anrufer", "b_number": "Ziel", "answer_at": ["Datum", "Uhrzeit"],
                     "duration": "Dauer", "amount": "Betrag", "currency": "Währung"},
         "zone": "Etc/GMT-1", "time_format": "%d.%m.%Y %H:%M:%S", "duration_unit": "s", "decimal": ",",
         "country": "49"},
    ),
    "nordlicht": Layout(
        ("to", "from", "connected", "ms", "ccy", "price", "session_id"), ",", _in_epochs,
        {"columns": {"answer_at": "connected", "duration": "ms"}, "time_format": "epoch_ms", "duration_unit": "ms"},
    ),
    "transit": Layout(
        ("Answer Time", "Call Duration", "CLI", "CLD", "Charge", "Currency", "CDR ID"), ",", _in_london,
        {"duration_unit": "m:s"},
    ),
}  # fmt: skip


async def write_theirs(
    conn: Connection, folder: Path, from_at: datetime, to_at: datetime, seed: int
) -> dict[str, Any]:
    """Write each carrier's file and what is wrong in it. Returns the latter, as in expected.json.

    raises   ConfigError: nothing can be written there
    """
    random = Random(seed)  # noqa: S311 - no secret, and the same each time
    rows = await queries.simulate.carried.all(conn, from_at=from_at, to_at=to_at)
    told: dict[str, Any] = {}
    files: dict[str, list[Call]] = {}
    for trunk, of_trunk in groupby(rows, key=lambda row: row["trunk"]):
        files[trunk], expected = _altered(list(of_trunk), trunk, random)
        told[trunk] = {"file": f"{trunk}.csv", "mapping": LAYOUTS[trunk].mapping, **expected.to_json()}
    _write_all(folder, files, told)
    return told


def _write_all(folder: Path, files: Mapping[str, Sequence[Call]], told: Mapping[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for trunk, theirs in files.items():
            _write(folder / f"{trunk}.csv", LAYOUTS[trunk], theirs)
        expected = json.dumps(told, indent=1, ensure_ascii=False)
        (folder / EXPECTED).write_text(expected + "\n", encoding="utf-8")
    except OSError as error:
        problem = f"nothing can be written there ({error.strerror})"
        raise ConfigError(str(folder), problem, "Name another folder: --their-files") from error


def _altered(rows: Sequence[Any], trunk: str, random: Random) -> tuple[list[Call], Expected]:
    """What they have of these calls."""
    expected, calls = Expected(), dict[str, Call]()
    for no, row in enumerate(rows, 1):
        calls[row["call_id"].hex] = Call(
            f"{trunk[:2].upper()}{no:08}", row["a_number"], row["b_number"], row["answered_at"], row["talk_ms"],
            row["cost_micro"], row["currency"],
        )  # fmt: skip
    each = max(round(len(calls) * PART), AT_LEAST)
    # Not where another call to the same number is near: that would be taken for it.
    lonely = _lonely(calls)
    drawn = random.sample(lonely, min(4 * each, len(lonely)))
    for call_id in drawn[:each]:
        expected.only_ours.append(call_id)
        calls.pop(call_id)
    for call_id in drawn[each : 2 * each]:
        more_ms = random.choice((-1, 1)) * random.randrange(4_000, 60_000)
        before = calls[call_id]
        more_ms = max(more_ms, 1_000 - before.talk_ms) if before.talk_ms > 10_000 else abs(more_ms)
        calls[call_id] = _with(before, talk_ms=before.talk_ms + more_ms)
        expected.duration[call_id] = more_ms
    for call_id in drawn[2 * each : 3 * each]:
        before = calls[call_id]
        more = max(before.cost_micro * 15 // 100, 1_000)
        calls[call_id] = _with(before, cost_micro=before.cost_micro + more)
        expected.rate[call_id] = format_micro(more)
    theirs = list(calls.values())
    for no, call_id in enumerate(
        drawn[3 * each :], 1
    ):  # a call that we know nothing of: an hour after one that we have
        like, reference = calls[call_id], f"{trunk[:2].upper()}X{no:07}"
        theirs.append(
            _with(
                like,
                reference=reference,
                answered_at=like.answered_at + timedelta(minutes=61),
                b_number="+493023125999",
            )
        )
        expected.only_theirs.append(reference)
    expected.calls = len(theirs)
    random.shuffle(theirs)
    return theirs, expected


def _lonely(calls: Mapping[str, Call]) -> list[str]:
    """Calls with no other to their number within two minutes, long enough to be told from it."""
    by_number: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    for call_id, call in calls.items():
        by_number[call.b_number].append((call.answered_at, call_id))
    apart = timedelta(minutes=2)
    found = []
    for of_number in by_number.values():
        of_number.sort()
        for place, (at, call_id) in enumerate(of_number):
            before = place == 0 or at - of_number[place - 1][0] > apart
            after = place + 1 == len(of_number) or of_number[place + 1][0] - at > apart
            if before and after and calls[call_id].talk_ms >= 5_000:
                found.append(call_id)
    return sorted(found)


def _with(call: Call, **other: Any) -> Call:
    kept = {name: getattr(call, name) for name in Call.__slots__}
    return Call(**(kept | other))


def _write(path: Path, layout: Layout, calls: Iterable[Call]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=layout.delimiter)
        writer.writerow(layout.header)
        writer.writerows(map(layout.cells, calls))
