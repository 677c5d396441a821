"""What is booked to give back a transfer, whole or in part."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.errors import Invalid
from bridge.ledger.entry import Entry


def refund_entries(
    booked: Sequence[Entry], subscribers: frozenset[str], amount_micro: int | None
) -> tuple[Entry, Entry]:
    """The subscriber's side of a transfer and its other side, back again. What a call has cost us stays booked.

    booked         the transfer's entries, in order
    subscribers    account ids
    amount_micro   positive; None: all that was booked, whatever has been refunded of it before
    raises         StoreError: not positive, or no single pair of entries to give back
    """
    if amount_micro is not None and amount_micro <= 0:
        raise Invalid("a refund must be positive")
    own = [entry for entry in booked if entry.account_id in subscribers]
    if len(own) != 1:
        raise Invalid(
            f"a refund goes to one subscriber, and this transfer has {len(own)}. Reverse it instead"
        )
    given = own[0]
    wanted = (-given.amount_micro, given.currency)
    taken = next((entry for entry in booked if (entry.amount_micro, entry.currency) == wanted), None)
    if taken is None:
        raise Invalid("the other side of this transfer has several entries. Reverse it instead")
    back_micro = abs(given.amount_micro) if amount_micro is None else amount_micro
    signed_micro = -back_micro if given.amount_micro > 0 else back_micro
    return (
        Entry(given.account_id, signed_micro, given.currency),
        Entry(taken.account_id, -signed_micro, given.currency),
    )


def mirrored(booked: Sequence[Entry]) -> tuple[Entry, ...]:
    """The exact negation: what a reversal books."""
    return tuple(-entry for entry in booked)
