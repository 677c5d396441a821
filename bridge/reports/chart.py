"""Charts: SVG and PNG, the same bytes for the same figures. Told apart without colour, by lightness, dash and hatch.

matplotlib takes a second and 60 MB to load: only a command or a process of its own imports this.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

Kind = Literal["svg", "png"]

# Okabe and Ito's, dark to light: they differ in grey, too
INK: Final = "#1d2733"
QUIET: Final = "#5d6b7a"
LINE: Final = "#c9d1d9"
DARK: Final = "#0f4c81"
LIGHT: Final = "#e69f00"
LOSS: Final = "#d55e00"
WIDTH_IN: Final = 6.5
ROWS_MAX: Final = 15  # of a bar chart; what is beyond is summed
NAME_CHARS_MAX: Final = 28
_DPI: Final = 150
_STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans", "font.size": 8, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": LINE,
    "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#e6eaee", "grid.linewidth": 0.6, "xtick.color": QUIET, "ytick.color": QUIET, "legend.frameon": False,
    "hatch.linewidth": 0.5, "svg.fonttype": "path", "svg.hashsalt": "callbridge", "text.parse_math": False,
    "path.simplify": False,
}  # fmt: skip

_BLUES: Final = LinearSegmentedColormap.from_list("callbridge", ["#f3f6f9", "#8fb4d6", DARK, "#06223d"])

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "minutes": "Minutes by day", "min": "minutes", "quality": "ASR and NER by day", "percent": "%",
        "hours": "Minutes by hour of the week", "hour": "hour of day", "margin": "Margin by destination",
        "money": "Revenue and cost by day", "revenue": "revenue, net", "cost": "cost", "others": "{} others",
        "nothing": "nothing to show", "days": "Mon Tue Wed Thu Fri Sat Sun", "day": "day of the month",
        "talk": "talk time", "per hour": "minutes, mean of the hour",
    },
    "de": {
        "minutes": "Minuten je Tag", "min": "Minuten", "quality": "ASR und NER je Tag", "percent": "%",
        "hours": "Minuten je Stunde der Woche", "hour": "Uhrzeit", "margin": "Marge je Ziel",
        "money": "Erlöse und Kosten je Tag", "revenue": "Erlöse, netto", "cost": "Kosten", "others": "{} weitere",
        "nothing": "keine Daten", "days": "Mo Di Mi Do Fr Sa So", "day": "Tag",
        "talk": "Gesprächszeit", "per hour": "Minuten, Mittel der Stunde",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Day:
    """A day's figures. asr, ner: percent, None where there were no calls. Money: of the currency of the chart."""

    day: date
    minutes: float = 0
    asr: float | None = None
    ner: float | None = None
    revenue: float = 0
    cost: float = 0


@dataclass(frozen=True, slots=True)
class Chart:
    """draw: puts it on a figure of so many inches' height."""

    height_in: float
    draw: Callable[[Any], None]


def render(chart: Chart, kind: Kind) -> bytes:
    """The bytes of a file: no date, no random ids."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        figure = Figure(figsize=(WIDTH_IN, chart.height_in), dpi=_DPI, layout="constrained")
        chart.draw(figure.add_subplot())
        out = io.BytesIO()
        if kind == "svg":
            canvas: Any = FigureCanvasSVG(figure)
            canvas.print_svg(out, metadata={"Date": None, "Creator": None})
        else:
            canvas = FigureCanvasAgg(figure)
            canvas.print_png(out, metadata={"Software": None})
        return out.getvalue()


def kind_of(path: Path) -> Kind:
    """raises   ValueError: neither .svg nor .png"""
    match path.suffix.lower():
        case ".svg":
            return "svg"
        case ".png":
            return "png"
    raise ValueError("name a file that ends in .svg or .png")


def minutes_by_day(days: Sequence[Day], language: str = "en") -> Chart:
    """Bars of talk minutes."""
    words = WORDS[language]

    def draw(axes: Any) -> None:
        _by_day(axes, days, words["minutes"], words["min"], language)
        axes.bar(range(len(days)), [one.minutes for one in days], color=DARK, width=0.72)
        axes.set_ylim(bottom=0)

    return Chart(2.2, draw)


def quality_by_day(days: Sequence[Day], language: str = "en") -> Chart:
    """Two lines, of 0 to 100 %; a day without calls is a gap, not a zero."""
    words = WORDS[language]

    def draw(axes: Any) -> None:
        _by_day(axes, days, words["quality"], words["percent"], language)
        places = range(len(days))
        for name, colour, dash, mark in (("NER", DARK, "-", "o"), ("ASR", LIGHT, "--", "s")):
            values = [one.ner if name == "NER" else one.asr for one in days]
            line = [float("nan") if value is None else value for value in values]
            axes.plot(places, line, dash, color=colour, marker=mark, markersize=3, linewidth=1.4, label=name)
        axes.set_ylim(0, 102)
        _legend(axes)

    return Chart(2.2, draw)


def money_by_day(days: Sequence[Day], currency: str, language: str = "en") -> Chart:
    """Revenue and cost beside each other."""
    words = WORDS[language]

    def draw(axes: Any) -> None:
        _by_day(axes, days, words["money"], currency, language)
        places = range(len(days))
        axes.bar(
            [at - 0.2 for at in places],
            [one.revenue for one in days],
            0.4,
            color=DARK,
            label=words["revenue"],
        )
        axes.bar(
            [at + 0.2 for at in places], [one.cost for one in days], 0.4, color=LIGHT, hatch="////", edgecolor="white",
            linewidth=0, label=words["cost"],
        )  # fmt: skip
        axes.axhline(0, color=QUIET, linewidth=0.6)
        _legend(axes)

    return Chart(2.2, draw)


def hours_of_week(minutes: Mapping[str, float], language: str = "en") -> Chart:
    """A map of 7 × 24 hours, darker where more was talked. minutes: by "1 09" (Monday, nine), mean of such an hour."""
    words = WORDS[language]

    def draw(axes: Any) -> None:
        rows = [[minutes.get(f"{day} {hour:02}", 0.0) for hour in range(24)] for day in range(1, 8)]
        top = max(max(row) for row in rows) or 1.0
        image = axes.imshow(rows, cmap=_BLUES, aspect="auto", vmin=0, vmax=top, interpolation="nearest")
        axes.set_title(words["hours"])
        axes.set_yticks(range(7), words["days"].split())
        axes.set_xticks(range(0, 24, 3), [f"{hour:02}" for hour in range(0, 24, 3)])
        axes.set_xlabel(words["hour"])
        axes.grid(visible=False)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        bar = axes.figure.colorbar(image, ax=axes, pad=0.02, fraction=0.04)
        bar.set_label(words["per hour"])
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_formatter(_plain(language))
        bar.ax.yaxis.set_major_locator(MaxNLocator(4))

    return Chart(2.4, draw)


def margin_bars(margins: Sequence[tuple[str, Decimal]], currency: str, language: str = "en") -> Chart:
    """A bar for each name, the best on top; a loss goes to the left and is hatched."""
    words = WORDS[language]
    ranked = sorted(margins, key=lambda one: (-one[1], one[0]))
    shown, rest = ranked[:ROWS_MAX], ranked[ROWS_MAX:]
    if rest:
        shown.append((words["others"].format(len(rest)), sum((one for _, one in rest), Decimal())))

    def draw(axes: Any) -> None:
        axes.set_title(words["margin"])
        axes.set_xlabel(currency)
        values = [float(one) for _, one in shown]
        bars = axes.barh(range(len(shown)), values, color=DARK, height=0.7)
        for bar, value in zip(bars, values, strict=True):
            if value < 0:
                bar.set(facecolor=LOSS, hatch="////", edgecolor="white", linewidth=0)
        axes.bar_label(bars, [_number(value, language) for value in values], padding=3, fontsize=7, color=INK)
        axes.set_yticks(range(len(shown)), [_short(name) for name, _ in shown])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.axvline(0, color=QUIET, linewidth=0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(_plain(language))
        if not shown:
            _nothing(axes, words)

    return Chart(1.0 + 0.22 * max(len(shown), 3), draw)


def _by_day(axes: Any, days: Sequence[Day], title: str, unit: str, language: str) -> None:
    axes.set_title(title)
    axes.set_ylabel(unit)
    axes.yaxis.set_major_formatter(_plain(language))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.8, max(len(days), 1) - 0.2)
    step = max(1, -(-len(days) // 16))
    shown = range(0, len(days), step)
    one_month = len({(one.day.year, one.day.month) for one in days}) == 1
    axes.set_xticks(
        list(shown), [_tick(days[at].day, one_month=one_month, language=language) for at in shown]
    )
    if one_month:
        axes.set_xlabel(f"{WORDS[language]['day']}, {days[0].day:%Y-%m}")
    if not days:
        _nothing(axes, WORDS[language])


def _tick(day: date, *, one_month: bool, language: str) -> str:
    if one_month:
        return f"{day.day}"
    return f"{day.day}.{day.month}." if language == "de" else f"{day:%m-%d}"


def _legend(axes: Any) -> None:
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2, handlelength=2.2)


def _nothing(axes: Any, words: Mapping[str, str]) -> None:
    axes.text(0.5, 0.5, words["nothing"], transform=axes.transAxes, ha="center", va="center", color=QUIET)


def _plain(language: str) -> Any:
    return FuncFormatter(lambda value, _: _number(value, language))


def _number(value: float, language: str) -> str:
    """Thousands apart; decimals only where they say something."""
    places = 0 if abs(value) >= 100 or value == int(value) else 2 if abs(value) < 10 else 1
    text = f"{value:,.{places}f}"
    text = text if text.strip("-0.,") else "0"
    return text.translate(str.maketrans(",.", ".,")) if language == "de" else text


def _short(name: str) -> str:
    plain = "".join(letter if letter.isprintable() else "□" for letter in name)
    return plain if len(plain) <= NAME_CHARS_MAX else plain[: NAME_CHARS_MAX - 1] + "…"
