"""Money, instants and days as a person writes them at the command line."""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import Enum
from typing import Annotated, Final
from uuid import uuid4

import typer

from bridge.ledger.exchange import parse_rate
from bridge.telephony.money import parse_micro

_YEARS: Final = range(1900, 9999)


class Language(Enum):
    """Of documents on paper."""

    de = "de"
    en = "en"


def amount_micro(text: str) -> int:
    """Decimal string to micro-units."""
    try:
        return parse_micro(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def rate_nano(text: str) -> int:
    """Decimal string to 10^-9."""
    try:
        return parse_rate(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def instant(text: str) -> datetime:
    """ISO 8601; a day is its beginning, and what names no zone is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text[:40]!r} is no instant. Write 2026-11-20 or 2026-11-20T18:30+01:00"
        ) from error
    if found.year not in _YEARS:  # nearer to the ends of time, another zone's would be none
        raise typer.BadParameter(f"{text[:40]!r} is not in our time. Write a year from 1900 to 9998")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def day(text: str) -> date:
    """ISO 8601."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text[:40]!r} is no day. Write it as 2026-11-20") from error


def key_or_new(key: str | None) -> str:
    """The key given, or a new one, said before it is used: whoever loses the answer can repeat the command with it."""
    if key is None:
        key = str(uuid4())
        typer.echo(f"key {key}: to repeat this without booking twice, add --key {key}", err=True)
    return key


Amount = Annotated[int, typer.Argument(parser=amount_micro, metavar="AMOUNT", help="Such as 10 or 4.99")]
Key = Annotated[
    str | None,
    typer.Option("--key", help="The same key books once; a new one is made and printed when missing."),
]
Author = Annotated[str, typer.Option("--author", help="Who does this.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the ledger.")]
Note = Annotated[str, typer.Option("--note", help="What it is about; it stays in the ledger.")]
