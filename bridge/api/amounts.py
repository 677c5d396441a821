"""Amounts of money in requests that are more than any decimal string."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

from bridge.api.fields import Money

UNSIGNED_PATTERN: Final = r"^[0-9]{1,12}(\.[0-9]{1,6})?$"


def _not_negative(amount_micro: int) -> int:
    if amount_micro < 0:
        raise ValueError("should not be negative")
    return amount_micro


def _positive(amount_micro: int) -> int:
    if amount_micro <= 0:
        raise ValueError("should be more than nothing")
    return amount_micro


_SCHEMA: Final = WithJsonSchema({"type": "string", "pattern": UNSIGNED_PATTERN, "examples": ["12.50"]})
NotNegative = Annotated[Money, AfterValidator(_not_negative), _SCHEMA]
Positive = Annotated[Money, AfterValidator(_positive), _SCHEMA]

# What partners may give on their own to one account. Whoever needs more asks an operator.
PARTNERS_CREDIT_MAX_MICRO: Final = 500 * 10**6
