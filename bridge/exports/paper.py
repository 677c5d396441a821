"""Documents on paper: typst templates in bridge/exports/paper/, filled with data, as PDF/A.

Data goes in as JSON beside the template and is only ever text to it: whatever a name says, no markup is read in it.
The same data makes the same bytes. CPU-bound, some ten to hundreds of milliseconds: in a loop of events, call it in a
thread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Final

import typst

FOLDER: Final = Path(__file__).with_name("paper")
_TEMPLATE: Final = re.compile(r"[a-z][a-z_]{0,39}", re.ASCII)
# Control characters have no glyph; marks that turn the direction of what follows could make a sum read otherwise.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]|\n(?=\n\n)"
)
_NO_GLYPH: Final = re.compile(r"the text `\"(.+?)\"` could not be displayed", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\u\{([0-9a-f]{1,6})\}")
_TRIES_MAX: Final = 12
_MISSING: Final = "□"  # stands for a character that no bundled font has
# What the bundled fonts surely have: Latin, Greek, Cyrillic, Hebrew, Arabic, punctuation, currency signs
_SURE: Final = re.compile(
    "[^\n\x20-\x7e\xa0-\u024f\u0370-\u03ff\u0400-\u045f\u05d0-\u05ea\u0621-\u064a\u2013-\u2026€□]"
)


def render(
    template: str, data: Mapping[str, Any], *, pdf_a: bool = True, attached: bytes | None = None
) -> bytes:
    """A PDF.

    template  the name of a file in bridge/exports/paper/, without .typ
    data      JSON's types. `language` is de or en; `date` (ISO 8601, a day or an instant) is when the document counts
              as made: there is no clock in it
    pdf_a     PDF/A-3b, for archives; else plain PDF 1.7
    attached  handed to the template as `sys.inputs.attached`, UTF-8 text
    """
    return _compile(template, data, "pdf", attached, pdf_standards="a-3b" if pdf_a else "1.7")[0]


def pictures(template: str, data: Mapping[str, Any], *, ppi: int = 90) -> list[bytes]:
    """The same pages as PNG, to be looked at."""
    return _compile(template, data, "png", None, ppi=float(ppi))


def clean(value: Any) -> Any:
    """Data of JSON's types as it can be printed: texts without control characters and marks of direction."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub(" ", value)
    if isinstance(value, Mapping):
        return {key: clean(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [clean(one) for one in value]
    return value


def _compile(
    template: str, data: Mapping[str, Any], kind: Any, attached: bytes | None, **how: Any
) -> list[bytes]:
    if not _TEMPLATE.fullmatch(template):
        raise ValueError(f"{template!r} is no template")
    text = json.dumps(clean(data), ensure_ascii=False)
    made_at = _instant(data["date"])
    inputs = {} if attached is None else {"attached": attached.decode()}
    for left in range(_TRIES_MAX, -1, -1):
        try:
            made: Any = typst.compile(
                FOLDER / f"{template}.typ",
                root=FOLDER,
                format=kind,
                sys_inputs={"data": text, **inputs},
                ignore_system_fonts=True,
                timestamp=made_at,
                **how,
            )
        except typst.TypstError as error:
            missing = _NO_GLYPH.search(error.message)
            if missing is None or not left:
                raise
            text = _without(text, missing[1]) if left > 1 else _SURE.sub(_MISSING, text)
        else:
            return made if isinstance(made, list) else [made]
    raise AssertionError("the last try returned or raised")


def _without(text: str, missing: str) -> str:
    """An archive's PDF may have no character without a glyph: a box is shown in its place."""
    shown = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), missing)
    for character in set(shown):
        if not character.isascii():
            text = text.replace(character, _MISSING)
    return text


def _instant(said: str) -> datetime:
    at = datetime.fromisoformat(said)
    if len(said) == len(date.min.isoformat()):
        at = datetime.combine(at.date(), time(), UTC)
    return at.astimezone(UTC)
