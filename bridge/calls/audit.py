"""The proof that the books are right: each invariant is asked for the rows that break it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.calls.rerate_audit import audit_reratings
from bridge.database import Connection
from bridge.errors import DeckError
from bridge.queries import Query
from bridge.rating.allowance import Burn
from bridge.rating.charge import charge
from bridge.rating.reserve import cover
from bridge.rating.tariff import Tariff
from bridge.rollout.store import all_replayed

# Of an invariant broken this often, the rest is not listed: what is found fits into memory, too.
FINDINGS_MAX: Final = 1000

_ASKED: Final[Mapping[str, Query]] = {
    "transfers_sum_to_zero": queries.ledger.audit_unbalanced,
    "balances_equal_their_entries": queries.ledger.audit_balances,
    "held_amounts_equal_open_holds": queries.ledger.audit_holds,
    "spending_is_counted_as_booked": queries.ledger.audit_spending,
    "prepaid_accounts_are_not_overdrawn": queries.ledger.audit_overdrawn,
    "answered_calls_and_no_others_are_charged": queries.ledger.audit_uncharged,
    "charges_are_booked": queries.ledger.audit_booking,
    "costs_are_booked": queries.ledger.audit_cost_booking,
    "no_lease_or_hold_outlives_its_call": queries.ledger.audit_outlived,
    "live_calls_have_a_lease": queries.ledger.audit_expired,
    "reversals_are_exact_and_single": queries.ledger.audit_reversals,
    "refunds_do_not_exceed": queries.ledger.audit_refunds,
    "reratings_are_booked": queries.rerating.audit_rerate_booking,
    "units_equal_their_burns": queries.allowance.audit_units,
    "units_are_held_for_live_calls_only": queries.allowance.audit_burns,
    "bundles_are_paid_once": queries.allowance.audit_purchases,
    "usage_is_booked_as_rated": queries.allowance.audit_usage,
    "activated_members_and_no_others_may_call": queries.rollouts.audit_allowed,
    "numbers_of_invoices_have_no_gap": queries.invoices.audit_numbers,
    "invoices_have_their_documents": queries.invoices.audit_documents,
    "invoices_come_to_their_totals": queries.invoices.audit_totals,
    "invoices_are_booked": queries.invoices.audit_bookings,
    "invoices_are_paid_as_booked": queries.invoices.audit_payments,
    "statements_equal_their_lines": queries.statements.audit_totals,
    "settlements_and_payments_are_of_statements": queries.statements.audit_strays,
    "statements_are_paid_as_booked": queries.statements.audit_payments,
    "records_are_numbered_without_gaps": queries.sequence.audit_gaps,
    "the_proof_of_purges_is_whole": queries.retention.audit_log,
}


async def audit(conn: Connection) -> dict[str, list[dict[str, Any]]]:
    """What breaks an invariant, by the invariant's name; JSON-able. All empty: the books are sound.

    Everything is asked of one state of the database, and read through cursors, so a big one needs no more memory
    than a small one. On a connection with a statement timeout it may be cut short.
    """
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        found = {name: await first_findings(query.stream(conn)) for name, query in _ASKED.items()}
        found["charges_follow_from_frozen_rates"] = await first_findings(_charges(conn))
        found["costs_follow_from_frozen_rates"] = await first_findings(_costs(conn))
        found["reratings_follow_from_frozen_rates"] = await first_findings(audit_reratings(conn))
        found["rollouts_follow_from_their_events"] = (await all_replayed(conn))[:FINDINGS_MAX]
        return found


def recompute(
    frozen: str | None, talk_ms: int | None, answered_at: datetime | None, covered_s: int = 0
) -> dict[str, int]:
    """amount_micro and billed_s by a frozen tariff (JSON); empty when that or the talk time is lost or wrong."""
    if frozen is None or talk_ms is None:
        return {}
    try:
        again = charge(
            Tariff.from_json(json.loads(frozen)), talk_ms, answered_at=answered_at, covered_s=covered_s
        )
    except (DeckError, ValueError):
        return {}
    return {"amount_micro": again.amount_micro, "billed_s": again.billed_s}


def burnt_again(frozen: str | None, talk_ms: int | None, burns: str | None) -> tuple[int, list[int]]:
    """Seconds that units pay for, and the units used of each burn, from what was held: [_, _, per, held, used]."""
    if frozen is None or talk_ms is None or burns is None:
        return 0, []
    held = [Burn(*one) for *one, _ in json.loads(burns)]
    try:
        covered_s, used = cover(Tariff.from_json(json.loads(frozen)), held, talk_ms)
    except (DeckError, ValueError):
        return 0, []
    return covered_s, list(used)


async def _charges(conn: Connection) -> AsyncIterator[dict[str, Any]]:
    async for row in queries.ledger.audit_charges.stream(conn):
        used = [one[-1] for one in json.loads(row["burns"])] if row["burns"] else []
        kept = {"amount_micro": row["amount_micro"], "billed_s": row["billed_s"]}
        again = recompute(row["sell"], row["talk_ms"], row["answered_at"], row["covered_s"])
        if burnt_again(row["sell"], row["talk_ms"], row["burns"]) != (row["covered_s"], used):
            yield {"call_id": row["call_id"], "covered_s": row["covered_s"], "used_units": used}
        if again != kept:
            yield {"call_id": row["call_id"], **kept, "recomputed": again}


async def _costs(conn: Connection) -> AsyncIterator[dict[str, Any]]:
    async for row in queries.ledger.audit_costs.stream(conn):
        kept = {"amount_micro": row["cost_micro"], "billed_s": row["billed_s"]}
        again = recompute(row["buy"], row["talk_ms"], row["answered_at"])
        if again != kept:
            yield {"call_id": row["call_id"], "attempt_no": row["attempt_no"], **kept, "recomputed": again}


async def first_findings(rows: AsyncIterator[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As many as are listed, JSON-able."""
    found: list[dict[str, Any]] = []
    async for row in rows:
        found.append({name: _plain(value) for name, value in row.items()})
        if len(found) == FINDINGS_MAX:
            break
    return found


def _plain(value: Any) -> Any:
    """As JSON has it. A sum of micro-units is numeric in Postgres, and whole."""
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, UUID):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value
