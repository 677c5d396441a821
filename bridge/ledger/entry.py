"""One side of a booking."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import Invalid

AMOUNT_MICRO_MAX = 10**18  # what an amount written with twelve digits before the point comes to


@dataclass(frozen=True, slots=True)
class Entry:
    """amount_micro   positive: the account gains; never zero, at most 10^12 units of the currency

    raises   StoreError: another amount
    """

    account_id: str
    amount_micro: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount_micro) is not int or not 0 < abs(self.amount_micro) <= AMOUNT_MICRO_MAX:
            raise Invalid("the amount of an entry is not zero, and at most 10^12 units of its currency")

    def __neg__(self) -> Entry:
        return Entry(self.account_id, -self.amount_micro, self.currency)
