"""What a call would cost: the admission's own rules and the charge's own arithmetic, with nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.calls.admit import Admission, decide
from bridge.calls.book import Book, load_book_for
from bridge.calls.on_net import would_ring
from bridge.calls.ring import Ring
from bridge.calls.store import Caller, caller_of
from bridge.config import Calls
from bridge.database import Connection
from bridge.errors import ConfigError, NotFound
from bridge.rating.allowance import Allowance, Burn, covered_s, take
from bridge.rating.charge import Charge, charge
from bridge.rating.plan import Plan
from bridge.rating.reserve import reserve
from bridge.rating.tariff import Tariff
from bridge.routing.plan import NANO, Route
from bridge.telephony.cause import Refuse
from bridge.telephony.money import Rounding, divide, format_micro
from bridge.telephony.number import Number, parse_caller, parse_dialled

SECONDS: Final = 180
# Somebody who is asked about, and not known: money is no question.
_ANY_MONEY_MICRO: Final = 2**62
_NOBODY: Final = UUID(int=0)


async def quote(
    conn: Connection,
    caller: str,
    dialled: str,
    *,
    at: datetime,
    seconds: int = SECONDS,
    plan: str | None = None,
    app: str | None = None,
    rules: Calls,
) -> dict[str, Any]:
    """What a call of so many seconds, answered at `at`, would cost: verdict, bundles, price, routes, margin. JSON-able.

    caller   who calls; a subscriber is asked about with the money and the bundles they have
    plan     by its name, for somebody who is no subscriber, or in place of the plan they have
    raises   NotFound: no such plan, or neither plan nor subscriber · ConfigError: the caller is no phone number
             ValueError: seconds is not positive
    """
    if seconds <= 0:
        raise ValueError("ask for a call of at least one second")
    presented = parse_caller(caller, home=rules.home_region)
    number = parse_dialled(dialled, home=rules.home_region)
    b_number = number if isinstance(number, Number) else None
    if isinstance(presented, Refuse):
        raise ConfigError("--from", f"{caller!r:.40} is no phone number", "Write it like +498999998100.")
    book = await load_book_for(conn, at, b_number)
    who = await _subscriber(conn, presented.e164, b_number.e164 if b_number else None, app, at)
    payer = _payer(book, who, plan)
    told: dict[str, Any] = {
        "from": presented.e164,
        "to": b_number.e164 if b_number else dialled,
        "at": at.isoformat(),
        "seconds": seconds,
        "plan": book.plans[payer.plan_id].name,
        "subscriber": who is not None,
    }
    origins = book.origins.of(presented.digits)
    rung = await would_ring(conn, book, payer, number, at, origins)
    return told | quote_on(book, payer, number, rung, at=at, seconds=seconds, rules=rules, origins=origins)


def quote_on(
    book: Book,
    payer: Caller,
    number: Number | Refuse,
    rung: Refuse | Ring | None,
    *,
    at: datetime,
    seconds: int,
    rules: Calls,
    origins: Sequence[str] = (),
) -> dict[str, Any]:
    """The same for somebody who is known, or `anybody`, on a book that holds at that instant. JSON-able.

    rung   what a call to another user of the app comes to; None: it goes over a carrier
    """
    verdict = rung or decide(payer, number, book, {}, rules, at, origins)
    if isinstance(verdict, Refuse):
        return {"verdict": "refused", "reason": verdict.reason.value, "detail": verdict.detail}
    lasts_s = min(seconds, rules.talk_s_max)
    if isinstance(verdict, Ring):
        sold = charge(verdict.sell, seconds * 1000, answered_at=at)
        told = _sold(verdict.sell, (), sold) | {
            "first_hold": format_micro(0),
            "first_limit_s": rules.talk_s_max,
            "routes": [],
            "left_out": {},
        }
        return {"verdict": "admitted", "lasts_s": lasts_s, "on_net": True} | told
    lasts_s = _lasts_s(verdict, payer, lasts_s, at)
    priced = _priced(verdict, payer.allowances, seconds, at)
    return {"verdict": "admitted", "lasts_s": lasts_s, "on_net": False} | priced


def anybody(plan: Plan) -> Caller:
    """Somebody with a plan, of whom nothing else is known: money is no question."""
    return Caller(
        _NOBODY, _NOBODY, plan.plan_id, "active", "active", plan.deck.currency, _ANY_MONEY_MICRO, None, True, 0
    )  # fmt: skip


async def caller_by_id(
    conn: Connection, subscriber_id: UUID, b_number: str | None, at: datetime
) -> tuple[Caller, str]:
    """A subscriber with their money and bundles, and their number. raises   NotFound"""
    known = await queries.quotes.subscriber.one(conn, subscriber_id=subscriber_id)
    row = None
    if known is not None:
        row = await queries.calls.caller.one(
            conn, app=known["app"], a_number=known["a_number"], b_number=b_number, at=at
        )
    if row is None:
        raise NotFound("There is no such subscriber.")
    return caller_of(row), known["a_number"]


def _payer(book: Book, who: Caller | None, plan: str | None) -> Caller:
    named = next((one for one in book.plans.values() if one.name == plan), None)
    if plan is not None and named is None:
        known = ", ".join(sorted(one.name for one in book.plans.values()))
        raise NotFound(f'there is no plan "{plan}". Known: {known}')
    if who is not None:
        return replace(who, plan_id=named.plan_id) if named else who
    if named is None:
        raise NotFound("nobody has this number: name a plan with --plan")
    return anybody(named)


async def _subscriber(
    conn: Connection, a_number: str, b_number: str | None, app: str | None, at: datetime
) -> Caller | None:
    apps = [row["name"] for row in await queries.calls.apps_of.all(conn, a_number=a_number)]
    if app is None and len(apps) > 1:
        raise NotFound(f"the number has subscribers in several apps ({', '.join(apps)}): name one with --app")
    chosen = app or (apps[0] if apps else "")
    row = await queries.calls.caller.one(conn, app=chosen, a_number=a_number, b_number=b_number, at=at)
    return caller_of(row) if row else None


def _lasts_s(verdict: Admission, payer: Caller, seconds: int, at: datetime) -> int:
    """How long of that the units and the money last, were the call answered at `at`."""
    whole = reserve(
        verdict.sell,
        payer.allowances,
        verdict.b_number.digits,
        payer.available_micro,
        cap_ms=seconds * 1000,
        at=at,
        answered_at=at,
    )
    return whole.limit_ms // 1000


def _priced(
    verdict: Admission, allowances: Sequence[Allowance], seconds: int, at: datetime
) -> dict[str, Any]:
    sell = verdict.sell
    burns: tuple[Burn, ...] = ()
    if not sell.zero_rated:
        burns, _ = take((one for one in allowances if one.pays_for(verdict.b_number.digits)), seconds)
    sold = charge(sell, seconds * 1000, answered_at=at, covered_s=covered_s(burns))
    return _sold(sell, burns, sold) | {
        "first_hold": format_micro(verdict.reserved.hold_micro),
        "first_limit_s": verdict.reserved.limit_ms // 1000,
        "routes": [_route(route, sold, seconds, at) for route in verdict.routes.routes],
        "left_out": {left.name: left.why for left in verdict.routes.left_out},
    }


def _sold(sell: Tariff, burns: Sequence[Burn], sold: Charge) -> dict[str, Any]:
    return {
        "destination": sell.rate.destination,
        "charge": format_micro(sold.amount_micro),
        "tax": format_micro(sold.tax_micro),
        "currency": sold.currency,
        "bundles": [_burn(burn) for burn in burns],
        "free": sell.zero_rated,
        "steps": [step.text for step in sold.steps],
    }


def _burn(burn: Burn) -> dict[str, Any]:
    return {"bundle": burn.name, "units": burn.units, "pays_for_s": burn.units * burn.per}


def _route(route: Route, sold: Charge, seconds: int, at: datetime) -> dict[str, Any]:
    bought = charge(route.buy, seconds * 1000, answered_at=at)
    cost_micro = bought.amount_micro - bought.tax_micro
    if route.exchange_nano is not None:
        cost_micro = divide(cost_micro * route.exchange_nano, NANO, Rounding.HALF_UP)
    return {
        "trunk": route.name,
        "carrier": route.carrier,
        "prefix": route.buy.rate.prefix,
        "cost": format_micro(bought.amount_micro),
        "currency": bought.currency,
        "margin": format_micro(sold.amount_micro - sold.tax_micro - cost_micro),
        "why": route.why,
    }
