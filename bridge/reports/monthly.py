"""A month's report on paper: a partner's own traffic, or all of it with the margin. Figures in, data out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from bridge.reports import writing
from bridge.reports.gathering import Gathered
from bridge.reports.measure import Money, Quality, costs_apart, share, total
from bridge.reports.monthly_words import PURPOSES, WORDS
from bridge.reports.writing import NOTHING, Language

TEMPLATE: Final = "monthly"
ROWS_MAX: Final = 25  # of a table; what is beyond is one row
_RIGHT: Final = {"align": "right"}
_UNIT: Final = {"title": "", "width": "auto"}  # the column of currencies

Pictures = Mapping[str, str]  # SVG texts by name: minutes, hours, quality, money, margin
Section = dict[str, Any]


def paper(gathered: Gathered, pictures: Pictures, language: Language, company: str) -> dict[str, Any]:
    """The data of the template."""
    words = WORDS[language]
    house = gathered.partner is None
    sections = [
        *_traffic(gathered, pictures, language),
        *(_margins(gathered, pictures, language) if house else []),
        *_quality(gathered, pictures, language),
        _purposes(gathered, language),
        *_statements(gathered, language),
        {"title": words["notes"], "notes": words["definitions"].split("\n")},
    ]
    period = gathered.period
    return {
        "language": language,
        "date": period.until.date().isoformat(),
        "title": gathered.partner or words["house"],
        "subtitle": words["report of"].format(
            writing.month(period.month, language) if period.month else period.label
        ),
        "author": company,
        "lead": words["lead"].format(zone=period.zone),
        "figures": _figures(gathered, language),
        "sections": sections,
    }


def _figures(gathered: Gathered, language: Language) -> list[dict[str, str]]:
    words, house = WORDS[language], gathered.partner is None
    now = next(iter(gathered.totals()), Money("", "EUR"))
    was = next((one for one in gathered.earlier if one.currency == now.currency), Money("", now.currency))
    new, old = gathered.measured(), next(iter(gathered.quality_earlier), Quality("", 0, 0, 0, 0, 0, {}))

    def count(label: str, one: int, other: int, write: Callable[[int], str]) -> dict[str, str]:
        change = writing.percent(share(one - other, other), language, signed=True)
        return {"label": words[label], "value": write(one), "change": words["before"].format(change)}

    def points(label: str, one: int | None, other: int | None) -> dict[str, str]:
        change = NOTHING
        if one is not None and other is not None:
            change = writing.percent(one - other, language, signed=True).replace(" %", f" {words['points']}")
        return {
            "label": label,
            "value": writing.percent(one, language),
            "change": words["before"].format(change),
        }

    def money(one: int) -> str:
        return f"{writing.amount(one, language)} {now.currency}"

    def plain(one: int) -> str:
        return writing.number(one, 0, language)

    apart = costs_apart(gathered.totals())
    margin = count("margin", now.margin_micro, was.margin_micro, money)
    if apart:
        margin["label"] += words["apart"].format(", ".join(apart))
    last = [margin] if house else [count("carried", now.cost_micro, was.cost_micro, money)]
    return [
        count("calls", now.calls, was.calls, plain),
        count("talk", now.talk_ms, was.talk_ms, lambda one: f"{writing.minutes(one, language)} min"),
        count("revenue", now.net_micro, was.net_micro, money),
        *last,
        points("ASR", new.asr, old.asr),
        points("NER", new.ner, old.ner),
        {"label": "ACD", "value": writing.seconds(new.acd_ms, language), "change": words["before"].format(
            _seconds_more(new.acd_ms, old.acd_ms, language))},
        {"label": "PDD p50", "value": writing.seconds(new.pdd_ms_p50, language), "change": words["before"].format(
            _seconds_more(new.pdd_ms_p50, old.pdd_ms_p50, language))},
    ]  # fmt: skip


def _seconds_more(now_ms: int | None, was_ms: int | None, language: Language) -> str:
    if now_ms is None or was_ms is None:
        return NOTHING
    return ("+" if now_ms > was_ms else "") + writing.seconds(now_ms - was_ms, language)


def _traffic(gathered: Gathered, pictures: Pictures, language: Language) -> list[Section]:
    words = WORDS[language]
    places = _ranked(gathered.money["destination"], lambda one: one.billed_s + one.carried_s, words)
    rows = [_traffic_row(one, one.key or NOTHING, language) for one in places]
    sums = total(gathered.money["destination"], "")
    rows += [_traffic_row(one, words["sum"], language) for one in sums]
    columns = [{"title": words["destination"]}]
    columns += [
        {"title": words[name], **_RIGHT}
        for name in ("calls", "answered", "talk min", "billed min", "revenue")
    ]
    columns += [{"title": words["cost" if gathered.partner is None else "carried"], **_RIGHT}, _UNIT]
    return [
        {"title": words["traffic"], "picture": pictures["minutes"]},
        {"picture": pictures["hours"]},
        {"title": words["by destination"], "columns": columns, "rows": rows, "strong": len(sums)},
    ]


def _traffic_row(one: Money, name: str, language: Language) -> list[str]:
    return [
        name,
        writing.number(one.calls, 0, language),
        writing.number(one.answered, 0, language),
        writing.minutes(one.talk_ms, language),
        writing.minutes(one.billed_s * 1000, language),
        writing.amount(one.net_micro, language),
        writing.amount(one.cost_micro, language),
        one.currency,
    ]


def _margins(gathered: Gathered, pictures: Pictures, language: Language) -> list[Section]:
    words = WORDS[language]
    columns = [{"title": ""}]
    columns += [{"title": words[name], **_RIGHT} for name in ("revenue", "cost", "margin")]
    columns += [{"title": "%", **_RIGHT}, _UNIT]

    def table(title: str, key: str, nobody: str) -> Section:
        found = sorted(gathered.money[key], key=lambda one: (-one.margin_micro, one.key))
        rows = [
            _margin_row(one, gathered.names.get(one.key, one.key) or words[nobody], language) for one in found
        ]
        sums = total(found, "")
        rows += [_margin_row(one, words["sum"], language) for one in sums]
        return {"title": words[title], "columns": columns, "rows": rows, "strong": len(sums)}

    moved = [
        [
            one.key or NOTHING,
            writing.amount(one.before_micro, language),
            writing.amount(one.now_micro, language),
            writing.amount(one.change_micro, language),
            writing.percent(one.change_permyriad, language, signed=True),
            one.currency,
        ]
        for one in gathered.moved
    ]
    heads = [{"title": words["destination"]}]
    heads += [{"title": words[name], **_RIGHT} for name in ("month before", "this month", "change")]
    heads += [{"title": "%", **_RIGHT}, _UNIT]
    return [
        {"title": words["money"], "text": words["money text"], "picture": pictures["money"]},
        {"picture": pictures["margin"]},
        table("margin by carrier", "trunk", "no carrier"),
        table("margin by partner", "partner", "our own"),
        {"title": words["movers"], "text": words["movers text"], "columns": heads, "rows": moved},
    ]


def _margin_row(one: Money, name: str, language: Language) -> list[str]:
    return [
        name,
        writing.amount(one.net_micro, language),
        writing.amount(one.cost_micro, language),
        writing.amount(one.margin_micro, language),
        writing.percent(one.margin_permyriad, language),
        one.currency,
    ]


def _quality(gathered: Gathered, pictures: Pictures, language: Language) -> list[Section]:
    words = WORDS[language]
    columns = [{"title": ""}, {"title": words["seizures"], **_RIGHT}, {"title": words["answered"], **_RIGHT}]
    columns += [{"title": name, **_RIGHT} for name in ("ASR", "NER", "ACD", "PDD p50", "PDD p95")]

    def table(title: str, key: str) -> Section:
        found = sorted(gathered.quality[key], key=lambda one: (-one.seizures, one.key))[:ROWS_MAX]
        rows = [_quality_row(one, gathered.names.get(one.key, one.key) or NOTHING, language) for one in found]
        sums = total(gathered.quality[key], "")
        rows += [_quality_row(one, words["sum"], language) for one in sums]
        return {"title": words[title], "columns": columns, "rows": rows, "strong": len(sums)}

    found = [{"title": words["quality"], "picture": pictures["quality"]}]
    if gathered.quality["destination"]:
        found.append(table("quality by destination", "destination"))
    if gathered.quality["trunk"]:
        found.append(table("quality by trunk", "trunk"))
    return found


def _quality_row(one: Quality, name: str, language: Language) -> list[str]:
    return [
        name,
        writing.number(one.seizures, 0, language),
        writing.number(one.answered, 0, language),
        writing.percent(one.asr, language),
        writing.percent(one.ner, language),
        writing.seconds(one.acd_ms, language),
        writing.seconds(one.pdd_ms_p50, language),
        writing.seconds(one.pdd_ms_p95, language),
    ]


def _purposes(gathered: Gathered, language: Language) -> Section:
    """What cost its caller nothing, and what units paid for, apart from what was charged."""
    words, named = WORDS[language], PURPOSES[language]
    columns = [{"title": words["purpose"]}]
    columns += [{"title": words[name], **_RIGHT} for name in ("calls", "talk min", "billed min", "revenue")]
    rows = [
        [
            named[one.key],
            writing.number(one.calls, 0, language),
            writing.minutes(one.talk_ms, language),
            writing.minutes(one.billed_s * 1000, language),
            f"{writing.amount(one.net_micro, language)} {one.currency}",
        ]
        for one in sorted(
            gathered.money["purpose"], key=lambda one: (list(named).index(one.key), one.currency)
        )
        if one.calls or one.net_micro or one.corrections
    ]
    return {"title": words["purposes"], "text": words["purposes text"], "columns": columns, "rows": rows}


def _statements(gathered: Gathered, language: Language) -> list[Section]:
    words = WORDS[language]
    found: list[Section] = []
    for head, lines in gathered.statements:
        rows = [
            [one["title"], _quantity(one, language), f"{writing.amount(one['amount_micro'], language)}"]
            for one in lines
        ]
        rows.append([words["sum"], "", writing.amount(head["total_micro"], language)])
        columns = [
            {"title": words["line"]},
            {"title": words["quantity"], **_RIGHT},
            {"title": head["currency"], **_RIGHT},
        ]
        title = words["statement"].format(head["deal"])
        section = {
            "title": title,
            "text": words["statement text"],
            "columns": columns,
            "rows": rows,
            "strong": 1,
        }
        found.append(section)
    return found


def _quantity(line: Mapping[str, Any], language: Language) -> str:
    if line["unit"] == "second":
        return f"{writing.minutes(line['quantity'] * 1000, language)} min"
    return writing.number(line["quantity"], 0, language) if line["unit"] else ""


def _ranked(rows: Sequence[Money], weight: Callable[[Money], int], words: Mapping[str, str]) -> list[Money]:
    ranked = sorted(rows, key=lambda one: (-weight(one), one.key, one.currency))
    rest = ranked[ROWS_MAX:]
    return ranked[:ROWS_MAX] + total(rest, words["others"].format(len(rest)))
