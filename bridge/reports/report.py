"""The reports: whose, of when, ordered by what. A report is plain rows, which a terminal, a file or a page can show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from bridge.database import Connection
from bridge.errors import Invalid
from bridge.partners.deal import format_percent
from bridge.reports import store
from bridge.reports.measure import Money, Mover, Quality, costs_apart, fold, movers, total
from bridge.reports.period import Period, before
from bridge.telephony.money import Rounding, divide, format_micro

BY: Final[Mapping[str, tuple[str, ...]]] = {
    "traffic": ("day", "hour", "week_hour", "destination", "partner", "carrier", "purpose"),
    "quality": ("carrier", "day", "hour", "week_hour", "destination", "partner"),
    "margin": ("destination", "carrier", "partner", "day", "hour"),
    "movers": ("destination", "carrier", "partner"),
}
NOBODY: Final = {"partner": "(our own)", "carrier": "(no carrier)", "destination": "(none)"}
TOTAL: Final = "total"
BESIDE: Final = (
    "Partners' shares, what partners pay and bundles sold are not in the margin: statements have them."
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for.

    partner_id  of this partner only
    asking      a partner asks: it is shown nothing of our cost and margin, and no carrier but its own
    """

    period: Period
    by: str
    partner_id: UUID | None = None
    asking: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """columns: in the order they are shown. rows: what each says, by column; None is a rate of nothing.

    until   what ended later is not in it yet; None: it is complete
    """

    name: str
    ask: Ask
    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]
    totals: Sequence[Mapping[str, Any]]
    until: datetime | None = None
    notes: Sequence[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        period = self.ask.period
        return {
            "report": self.name,
            "by": self.ask.by,
            "period": period.label,
            "from": _instant(period.since),
            "to": _instant(period.until),
            "time_zone": period.zone,
            "complete_until": _instant(self.until),
            "data": list(self.rows),
            "totals": list(self.totals),
            "notes": list(self.notes),
        }


async def report(conn: Connection, name: str, ask: Ask) -> Report:
    """One of BY.

    raises   Invalid: there is no such report, or it has no such order, or it is not for partners
    """
    known = BY.get(name, ())
    if ask.by not in known:
        raise Invalid(f"a report of {name[:20]} is by {', '.join(known)}" if known else "no such report")
    if ask.asking and (name not in ("traffic", "quality") or ask.by == "partner"):
        raise Invalid("this report is for operators")
    key = "trunk" if ask.by == "carrier" else ask.by
    names = await store.names(conn, key)
    if name == "quality":
        found: Report = _quality(
            ask, (await store.quality(conn, ask.period, [key], ask.partner_id))[key], names
        )
    else:
        rows = fold((await store.money(conn, ask.period, [key], ask.partner_id))[key])
        if name == "movers":
            was = await store.money(conn, before(ask.period), [key], ask.partner_id)
            found = _movers(ask, movers(rows, fold(was[key])), names)
        else:
            found = (_traffic if name == "traffic" else _margin)(ask, rows, names)
    horizon = await store.horizon(conn)
    if horizon is None or horizon < ask.period.until:
        return replace(found, until=horizon or ask.period.since)
    return found


def _traffic(ask: Ask, rows: Sequence[Money], names: Mapping[str, str]) -> Report:
    sums = ("carried", "carried_minutes", "carried_amount") if ask.asking else ("cost", "margin", "percent")
    columns = (
        ask.by, "currency", "calls", "answered", "minutes", "billed_minutes", "bundle_minutes", "free_minutes",
        "usage", "revenue", *sums,
    )  # fmt: skip
    found = _report("traffic", ask, columns, rows, names, _money)
    return found if ask.asking else replace(found, notes=_apart(rows))


def _apart(rows: Sequence[Money]) -> list[str]:
    units = costs_apart(total(rows, ""))
    return [f"Cost in {', '.join(units)} stands in rows of its own: no other margin has it."] if units else []


def _margin(ask: Ask, rows: Sequence[Money], names: Mapping[str, str]) -> Report:
    columns = (
        ask.by, "currency", "calls", "billed_minutes", "gross", "tax", "revenue", "cost", "margin", "percent",
        "bundle_calls", "bundle_minutes", "free_calls", "free_minutes",
    )  # fmt: skip
    found = _report("margin", ask, columns, rows, names, _money)
    found = replace(found, notes=[*_apart(rows), BESIDE])
    # The best first; hours and days stay in their order
    if ask.by in NOBODY:
        order = {id(row): money for row, money in zip(found.rows, rows, strict=True)}
        rest = sorted(found.rows, key=lambda row: -order[id(row)].margin_micro)
        return replace(found, rows=rest)
    return found


def _quality(ask: Ask, rows: Sequence[Quality], names: Mapping[str, str]) -> Report:
    columns = (ask.by, "seizures", "answered", "asr", "ner", "acd_s", "pdd_s_p50", "pdd_s_p95", "minutes")
    found = _report("quality", ask, columns, rows, names, _calls)
    if any(row.measured < row.seizures for row in rows):
        said = "NER is empty where traffic data were gone before they were measured."
        return replace(found, notes=[said])
    return found


def _movers(ask: Ask, rows: Sequence[Mover], names: Mapping[str, str]) -> Report:
    columns = (
        ask.by,
        "currency",
        "revenue",
        "revenue_before",
        "change",
        "percent",
        "minutes",
        "minutes_before",
    )
    shown = [
        {
            ask.by: _name(ask.by, one.key, names),
            "currency": one.currency,
            "revenue": format_micro(one.now_micro),
            "revenue_before": format_micro(one.before_micro),
            "change": format_micro(one.change_micro),
            "percent": percent(one.change_permyriad),
            "minutes": minutes(one.now_s * 1000),
            "minutes_before": minutes(one.before_s * 1000),
        }
        for one in rows
    ]
    return Report("movers", ask, columns, shown, [], notes=[f"Compared with {before(ask.period).label}."])


def _report(
    name: str, ask: Ask, columns: tuple[str, ...], rows: Any, names: Mapping[str, str], show: Any
) -> Report:
    def shown(some: Iterable[Any], label: str | None) -> list[dict[str, Any]]:
        told = []
        for one in some:
            cells = {ask.by: _name(ask.by, one.key, names) if label is None else label} | show(one)
            told.append({column: cells[column] for column in columns})
        return told

    return Report(name, ask, columns, shown(rows, None), shown(total(rows, ""), TOTAL))


def _money(one: Money) -> dict[str, Any]:
    return {
        "currency": one.currency,
        "calls": one.calls,
        "answered": one.answered,
        "minutes": minutes(one.talk_ms),
        "billed_minutes": minutes(one.billed_s * 1000),
        "bundle_calls": one.bundle_calls,
        "bundle_minutes": minutes(one.covered_s * 1000),
        "free_calls": one.free_calls,
        "free_minutes": minutes(one.free_s * 1000),
        "usage": format_micro(one.usage_micro),
        "gross": format_micro(one.gross_micro),
        "tax": format_micro(one.tax_micro),
        "revenue": format_micro(one.net_micro),
        "cost": format_micro(one.cost_micro),
        "margin": format_micro(one.margin_micro),
        "percent": percent(one.margin_permyriad),
        "carried": one.carried,
        "carried_minutes": minutes(one.carried_s * 1000),
        "carried_amount": format_micro(one.cost_micro),
    }


def _calls(one: Quality) -> dict[str, Any]:
    return {
        "seizures": one.seizures,
        "answered": one.answered,
        "asr": percent(one.asr),
        "ner": percent(one.ner),
        "acd_s": seconds(one.acd_ms),
        "pdd_s_p50": seconds(one.pdd_ms_p50, 2),
        "pdd_s_p95": seconds(one.pdd_ms_p95, 2),
        "minutes": minutes(one.talk_ms),
    }


def percent(permyriad: int | None) -> str | None:
    """
    >>> percent(-305), percent(None)
    ('-3.05', None)
    """
    if permyriad is None:
        return None
    return ("-" if permyriad < 0 else "") + format_percent(abs(permyriad))


def minutes(talk_ms: int) -> str:
    """Two decimals, half-up.

    >>> minutes(90_500), minutes(-300)
    ('1.51', '-0.01')
    """
    return _decimal(divide(talk_ms, 600, Rounding.HALF_UP), 2)


def seconds(ms: int | None, places: int = 1) -> str | None:
    """
    >>> seconds(1_250), seconds(None)
    ('1.3', None)
    """
    return None if ms is None else _decimal(divide(ms, 10 ** (3 - places), Rounding.HALF_UP), places)


def _decimal(count: int, places: int) -> str:
    whole, rest = divmod(abs(count), 10**places)
    return f"{'-' if count < 0 else ''}{whole}.{rest:0{places}}"


def _name(by: str, key: str, names: Mapping[str, str]) -> str:
    return names.get(key, key) or NOBODY.get(by, "")


def _instant(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else None
