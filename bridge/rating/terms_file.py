"""A deck's terms as a TOML file: clock, rounding, tax, holidays, bands. A plan's file has the same parts."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from datetime import date
from typing import Annotated, Any, Final, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from bridge.errors import ConfigError, DeckError
from bridge.rating.bands import DAY_MINUTES, Band
from bridge.rating.deck_cells import plain_text
from bridge.rating.public_holidays import public_holidays
from bridge.rating.rate import PRICE_MICRO_MAX
from bridge.rating.terms import QUANTUM_MICRO_MAX, Boundary, Tax, Terms
from bridge.telephony.money import Rounding, format_micro, parse_micro

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")  # in the order of Band.days
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _micro(text: object) -> int:
    if not isinstance(text, str):
        raise ValueError('is not a text. Write money in quotes, such as "0.09"')
    return parse_micro(text)


def _quantum(text: object) -> int:
    amount_micro = _micro(text)
    if not 1 <= amount_micro <= QUANTUM_MICRO_MAX:
        most = format_micro(QUANTUM_MICRO_MAX, 0)
        raise ValueError(f'is no step to round to. Write one from "0.000001" to "{most}", such as "0.01"')
    return amount_micro


def _visible(text: str) -> str:
    if not text.strip() or plain_text(text) != text:
        raise ValueError(f"{text!r} is no name. Begin it with a letter or a digit")
    return text


def _zone(name: str) -> str:
    try:
        return Terms(time_zone=name).time_zone
    except DeckError as wrong:
        raise ValueError(wrong.problem) from None


def _date(given: object) -> date:
    if type(given) is date:  # TOML has dates of its own
        return given
    try:
        if not isinstance(given, str) or _DATE.fullmatch(given) is None:
            raise ValueError("another form")
        return date.fromisoformat(given)
    except ValueError:
        raise ValueError('is no date. Write it such as "2026-12-25"') from None


def _minute(text: object) -> int:
    found = _CLOCK.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError('is no time of the day. Write it such as "18:00", and the end of the day as "24:00"')
    return int(found[1]) * 60 + int(found[2]) if found[1] else DAY_MINUTES


def text_schema(pattern: str, example: str) -> WithJsonSchema:
    """What is written as a text, for whoever reads the schema of a file."""
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


Micro = Annotated[int, BeforeValidator(_micro), text_schema(r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$", "0.005")]
Price = Annotated[
    int,
    BeforeValidator(_micro),
    Field(ge=0, le=PRICE_MICRO_MAX),
    text_schema(r"^(1000000000(\.0{1,6})?|[0-9]{1,9}(\.[0-9]{1,6})?)$", "0.09"),
]
Quantum = Annotated[int, BeforeValidator(_quantum), text_schema(r"^[0-9]{1,12}(\.[0-9]{1,6})?$", "0.01")]
Day = Annotated[date, BeforeValidator(_date), WithJsonSchema({"type": "string", "format": "date"})]
Name = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_visible)]
DeckName = Annotated[str, Field(min_length=1, max_length=100)]
Minute = Annotated[
    int, BeforeValidator(_minute), text_schema(r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", "18:00")
]


class Part(BaseModel):
    """A table of such a file. Unknown keys are refused, and nothing is converted quietly."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Whole = TypeVar("Whole", bound=Part)


class TaxPart(Part):
    """How prices stand to tax. percent: of the net price."""

    mode: Literal["inclusive", "exclusive"]
    percent_micro: Price = Field(alias="percent", le=100_000_000)


class TermsKeys(Part):
    """What all rates have in common. Holidays are the dates named and those of `holidays_of` in `years`."""

    time_zone: Annotated[str, Field(max_length=64), AfterValidator(_zone)] = "UTC"
    boundary: Literal["split", "answer"] = "split"
    rounding: Literal["half_up", "half_even", "up", "down"] = "half_up"
    quantum_micro: Quantum = Field(1, alias="quantum", json_schema_extra={"default": "0.000001"})
    tax: TaxPart | None = None
    holidays: Annotated[tuple[Day, ...], Field(strict=False, max_length=1000)] = ()
    holidays_of: Annotated[str, Field(max_length=20)] | None = None
    years: Annotated[tuple[int, ...], Field(strict=False, max_length=20)] = ()

    @model_validator(mode="after")
    def _holidays_are_known(self) -> Self:
        if (self.holidays_of is None) != (not self.years):
            raise ValueError("holidays_of and years need each other. Write both, or neither")
        self._public()
        return self

    @property
    def terms(self) -> Terms:
        """With every holiday as a date."""
        tax = self.tax
        return Terms(
            self.time_zone,
            Boundary(self.boundary),
            Rounding(self.rounding),
            self.quantum_micro,
            Tax(tax.mode) if tax else Tax.NONE,
            tax.percent_micro // 100 if tax else 0,
            self._public() | frozenset(self.holidays),
        )

    def _public(self) -> frozenset[date]:
        return public_holidays(self.holidays_of, self.years) if self.holidays_of else frozenset()


class Window(Part):
    """When a band is in force. A `to` before `from` is of the next day."""

    name: Name
    days: Annotated[
        tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"], ...],
        Field(strict=False, min_length=1),
    ]
    from_minute: Minute = Field(alias="from")
    to_minute: Minute = Field(alias="to")

    @model_validator(mode="after")
    def _is_a_band(self) -> Self:
        try:
            _ = self.band
        except DeckError as wrong:
            if wrong.column in ("from_minute", "to_minute"):
                problem = 'is empty. Write from = "00:00" and to = "24:00" for the whole day'
                raise ValueError(problem) from None
            raise ValueError(wrong.problem) from None
        return self

    @property
    def band(self) -> Band:
        days = frozenset(DAYS.index(day) for day in self.days)
        return Band(self.name, days, self.from_minute, self.to_minute or DAY_MINUTES)


class DeckBand(Window):
    """A band that is priced by another deck."""

    deck: DeckName


class TermsFile(TermsKeys):
    """All terms of one deck. What the file does not say is as usual, and a band it does not name is none."""

    bands: Annotated[tuple[DeckBand, ...], Field(strict=False)] = Field((), alias="band")

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        refuse_twice("band", [one.name for one in self.bands])
        return self


def parse_terms(text: str, file_name: str) -> TermsFile:
    """Read the terms of a deck. raises ConfigError naming file, key and fix"""
    return parse_part(TermsFile, text, file_name)


def parse_part(kind: type[Whole], text: str, file_name: str) -> Whole:
    """raises   ConfigError naming file, key and fix; an unknown key is one, and so is money that is not a text"""
    try:
        return kind.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file_name, f"is not TOML ({error})", "Correct that line.") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _as_config_error(kind, file_name, first) from None


def terms_json(terms: Terms) -> dict[str, Any]:
    """Terms by the keys of such a file; JSON-able. Not where the holidays came from: they are dates."""
    tax = {"mode": terms.tax.value, "percent": format_micro(terms.tax_ppm * 100, 0)}
    return {
        "time_zone": terms.time_zone,
        "boundary": terms.boundary.value,
        "rounding": terms.rounding.value,
        "quantum": format_micro(terms.quantum_micro),
        "tax": tax if terms.tax is not Tax.NONE else None,
        "holidays": sorted(day.isoformat() for day in terms.holidays),
    }


def band_json(band: Band, deck: str) -> dict[str, Any]:
    """A band by the keys of such a file; JSON-able."""
    return {
        "name": band.name,
        "days": [DAYS[day] for day in sorted(band.days)],
        "from": _clock(band.from_minute),
        "to": _clock(band.to_minute),
        "deck": deck,
    }


def refuse_twice(what: str, names: list[str]) -> None:
    """raises ValueError naming the first that is there more than once"""
    if twice := sorted(name for name, times in Counter(names).items() if times > 1):
        raise ValueError(f"{what} {twice[0]} is there twice. Keep one of the two")


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _as_config_error(kind: type[Part], file_name: str, first: Any) -> ConfigError:
    where = ".".join(str(step) for step in first["loc"])
    key = f"{file_name}: {where}" if where else file_name
    match first["type"]:
        case "extra_forbidden":
            known = ", ".join(_known(kind, first["loc"]))
            return ConfigError(key, "is no key here", f"Known there: {known}.")
        case "missing":
            return ConfigError(key, "is missing", "Add it.")
        case "value_error":
            problem, _, fix = str(first["ctx"]["error"]).partition(". ")
            return ConfigError(key, problem, f"{fix}." if fix else "Correct it.")
        case _:
            problem = first["msg"].removeprefix("Input ").replace("a valid tuple", "a list")
            return ConfigError(key, problem, "See the same key in docs/billing.md.")


def _known(kind: type[Part], where: tuple[int | str, ...]) -> list[str]:
    """The keys of the part that an unknown key stands in."""
    for step in where[:-1]:
        fields = {field.alias or name: field for name, field in kind.model_fields.items()}
        if step in fields:
            kind = _part_in(fields[str(step)].annotation) or kind
    return sorted(field.alias or name for name, field in kind.model_fields.items())


def _part_in(annotation: Any) -> type[Part] | None:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return annotation
    return next((found for one in get_args(annotation) if (found := _part_in(one))), None)
