"""The end of a call: what the switch recorded becomes a price. Pure; the writing is one statement for many calls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from bridge.calls.frozen import Frozen
from bridge.rating.allowance import Burn
from bridge.rating.charge import charge
from bridge.rating.reserve import cover
from bridge.telephony.cause import Fault, classify


@dataclass(frozen=True, slots=True)
class EndRecord:
    """How one call ended, by one witness.

    answered_us, ended_us   microseconds since 1970; 0 when there was none
    source                  journal, agi, cdr or resync
    attempt_no              the attempt that was running; None when none was made
    dialstatus, q850_cause  as Dial() left them; "" when it never ran to its end
    release_party           caller, callee, bridge or unknown
    pdd_ms                  None when it never rang
    """

    call_id: UUID
    attempt_no: int | None
    answered_us: int
    ended_us: int
    source: str
    dialstatus: str = ""
    q850_cause: int | None = None
    release_party: str = "unknown"
    pdd_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Ledgers:
    """The accounts a call is booked on beside its subscriber's."""

    revenue_id: str
    cost_id: str
    carrier_id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """One priced call, in the order of the columns of the SQL type ended_call."""

    call_id: UUID
    state: str
    answered_at: datetime | None
    ended_at: datetime
    talk_ms: int
    q850_cause: int | None
    release_party: str
    ended_by: str
    billed_s: int
    amount_micro: int
    currency: str
    revenue_id: str
    attempt_no: int | None
    trunk_id: str | None
    outcome: str | None
    fault: str | None
    sip_code: int | None
    pdd_ms: int | None
    buy_billed_s: int
    cost_micro: int
    buy_currency: str
    buy: str
    carrier_id: str
    cost_id: str
    covered_s: int
    used_units: tuple[int, ...]

    def row(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


def talk_ms(answered_us: int, ended_us: int) -> int:
    """From answer to end in whole milliseconds, rounded down: a fraction is the caller's. Never negative."""
    return max(ended_us - answered_us, 0) // 1000 if answered_us else 0


def price(record: EndRecord, frozen: Frozen, ledgers: Ledgers, burns: Sequence[Burn] = ()) -> Ended:
    """Charge and cost of a finished call from its frozen tariffs.

    burns   the units it holds, in the order in which they pay
    An answered call of no measurable length was answered all the same: it is billed as one millisecond.
    """
    answered = record.answered_us > 0
    talk = max(talk_ms(record.answered_us, record.ended_us), 1) if answered else 0
    outcome = classify("ANSWER" if answered else record.dialstatus, record.q850_cause, None)
    route = frozen.route(record.attempt_no) if record.attempt_no is not None else None
    answered_at = instant(record.answered_us) if answered else None
    bundled_s, used = cover(frozen.sell, burns, talk)
    sold = charge(frozen.sell, talk, answered_at=answered_at, covered_s=bundled_s)
    bought = charge(route.buy, talk, answered_at=answered_at) if route is not None else None
    if answered:
        state = "answered"
    else:
        state = "unanswered" if outcome.fault in (Fault.caller, Fault.callee) or route is None else "failed"
    return Ended(
        call_id=record.call_id,
        state=state,
        answered_at=answered_at,
        ended_at=instant(record.ended_us),
        talk_ms=talk,
        q850_cause=record.q850_cause,
        release_party=record.release_party,
        ended_by=record.source,
        billed_s=sold.billed_s,
        amount_micro=sold.amount_micro,
        currency=frozen.sell.currency,
        revenue_id=ledgers.revenue_id,
        attempt_no=record.attempt_no if route is not None else None,
        trunk_id=route.trunk_id if route is not None else None,
        outcome=outcome.reason if route is not None else None,
        fault=outcome.fault.value if route is not None else None,
        sip_code=200 if answered else None,
        pdd_ms=record.pdd_ms,
        buy_billed_s=bought.billed_s if bought else 0,
        cost_micro=bought.amount_micro if bought else 0,
        buy_currency=route.buy.currency if route else frozen.sell.currency,
        buy=json.dumps(route.buy.to_json(), separators=(",", ":")) if route else "{}",
        carrier_id=ledgers.carrier_id,
        cost_id=ledgers.cost_id,
        covered_s=bundled_s,
        used_units=used,
    )


def instant(at_us: int) -> datetime:
    """Microseconds since 1970 as an aware UTC time, exactly."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
