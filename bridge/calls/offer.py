"""What somebody is told before they call: the price of a minute, who pays, and how long that lasts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bridge.calls.admit import decide
from bridge.calls.book import Book
from bridge.calls.caller import Caller
from bridge.calls.ring import ON_NET, Ring
from bridge.config import Calls
from bridge.rating.reserve import reserve
from bridge.rating.tariff import PPM, Tariff, Tax
from bridge.telephony.cause import Refuse, RefuseReason
from bridge.telephony.money import Rounding, divide, format_micro
from bridge.telephony.number import Number


def offer(
    book: Book,
    caller: Caller,
    rung: Refuse | Ring | None,
    number: Number | Refuse,
    *,
    at: datetime,
    rules: Calls,
    origins: Sequence[str] = (),
) -> dict[str, Any]:
    """By the admission's own rules, for a call that is answered at `at`. JSON-able.

    rung      another user of the app, whose phones would be rung: free; None: it goes over a carrier
    detail    of a refusal; only where it is for the caller to know
    enables   they cannot use the app yet, and the call may enable them
    minute    what a minute costs by its rate, tax included, whoever pays it
    bundle    what pays first; None: money does
    lasts_s   so long bundles and money last; None: longer than any call may be
    """
    if isinstance(rung, Refuse):
        detail = rung.detail if rung.reason is RefuseReason.not_enabled else None
        return {"verdict": "refused", "reason": rung.reason.value, "detail": detail}
    if rung is not None:
        return {
            "verdict": "admitted",
            "destination": None,
            "currency": rung.sell.currency,
            "minute": format_micro(0),
            "connect_fee": format_micro(0),
            "free": True,
            "on_net": True,
            "enables": rung.activate,
            "bundle": None,
            "lasts_s": None,
        }
    verdict = decide(caller, number, book, {}, rules, at, origins)
    if isinstance(verdict, Refuse):
        return {"verdict": "refused", "reason": verdict.reason.value, "detail": None}
    sell, rate = verdict.sell, verdict.sell.at(at).rate
    cap_ms = rules.talk_s_max * 1000
    whole = reserve(
        sell, caller.allowances, verdict.b_number.digits, caller.budget_micro, cap_ms=cap_ms, at=at, answered_at=at
    )  # fmt: skip
    return {
        "verdict": "admitted",
        "destination": rate.destination,
        "currency": sell.currency,
        "minute": format_micro(_gross_micro(sell, rate.rate_micro)),
        "connect_fee": format_micro(_gross_micro(sell, rate.connect_fee_micro)),
        "free": bool(sell.zero_rated),
        "on_net": sell.zero_rated == ON_NET,
        "enables": False,
        "bundle": whole.burns[0].name if whole.burns else None,
        "lasts_s": whole.limit_ms // 1000 if whole.limit_ms < cap_ms else None,
    }


def _gross_micro(sell: Tariff, micro: int) -> int:
    """As a price is told to people: with the tax, where the deck's prices are without."""
    if sell.terms.tax is not Tax.EXCLUSIVE:
        return micro
    return divide(micro * (PPM + sell.terms.tax_ppm), PPM, Rounding.HALF_UP)
