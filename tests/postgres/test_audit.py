"""The audit: silent on sound books, and it names whatever is broken."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from bridge.calls import audit as module
from bridge.calls.audit import audit, recompute
from bridge.database import Connection, connection
from tests.seeded import KINGDOM, Seeded, Who, ended


async def history(house: Seeded) -> tuple[Who, UUID]:
    """Every kind of ending once; returns somebody with an answered call, and that call."""
    who = await house.subscriber(balance_micro=10**7)
    call_id = (await house.admitted(who)).frozen.call_id
    british = (await house.admitted(who, KINGDOM)).frozen.call_id
    silent = (await house.admitted(who)).frozen.call_id
    failed_over = (await house.admitted(who)).frozen
    await house.failed(failed_over)
    await house.end(
        ended(call_id, 6_001),
        ended(british, 91_000),
        ended(silent),
        ended(failed_over.call_id, 60_001, attempt_no=2),
    )
    poor = await house.subscriber(balance_micro=12_000)
    await house.end(ended((await house.admitted(poor)).frozen.call_id, 40_000))
    await house.call(await house.subscriber())
    business = await house.subscriber(funding="postpaid", credit_limit_micro=10**6)
    await house.end(ended((await house.admitted(business)).frozen.call_id, 3_000))
    await house.admitted(business)
    return who, call_id


async def test_sound_books(house: Seeded) -> None:
    await history(house)
    async with connection(house.pool) as conn:
        findings = await audit(conn)
    assert findings
    assert {name: rows for name, rows in findings.items() if rows} == {}


SUMS = "transfers_sum_to_zero"
BALANCES = "balances_equal_their_entries"
HELD = "held_amounts_equal_open_holds"
CHARGED = "answered_calls_and_no_others_are_charged"
OUTLIVED = "no_lease_or_hold_outlives_its_call"
CHARGE = "charges_follow_from_frozen_rates"
COST = "costs_follow_from_frozen_rates"
NO_TRIGGERS = "SET LOCAL session_replication_role = replica; "


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (
            "UPDATE entry SET amount_micro = amount_micro + 1 WHERE transfer_id = '{call}' AND entry_no = 2",
            {SUMS},
        ),
        ("UPDATE account SET balance_micro = balance_micro + 1 WHERE account_id = '{account}'", {BALANCES}),
        ("UPDATE account SET held_micro = held_micro + 1 WHERE account_id = '{account}'", {HELD}),
        (
            """SELECT spend_cap_set_v1('{account}', 1000000, 'day', now());
            UPDATE account SET spend_base_micro = spend_base_micro + 1 WHERE account_id = '{account}'""",
            {"spending_is_counted_as_booked"},
        ),
        (
            """ALTER TABLE account DROP CONSTRAINT available_is_never_negative;
            UPDATE account SET balance_micro = -1 WHERE account_id = '{account}'""",
            {"prepaid_accounts_are_not_overdrawn", BALANCES},
        ),
        ("DELETE FROM charge WHERE call_id = '{call}'", {CHARGED}),
        ("UPDATE call SET state = 'failed' WHERE call_id = '{call}'", {CHARGED}),
        ("DELETE FROM entry WHERE transfer_id = '{call}' AND entry_no < 3", {"charges_are_booked", BALANCES}),
        ("UPDATE charge SET written_off_micro = 1 WHERE call_id = '{call}'", {"charges_are_booked"}),
        ("DELETE FROM entry WHERE transfer_id = '{call}' AND entry_no > 2", {"costs_are_booked"}),
        ("UPDATE hold SET state = 'open', closed_at = NULL WHERE call_id = '{call}'", {OUTLIVED, HELD}),
        (
            """INSERT INTO lease (call_id, switch_id, account_id, trunk_id, channel, limit_ms, expires_at)
            SELECT call_id, switch_id, account_id, switch_id, '', 1, now() + interval '1 h'
              FROM call WHERE call_id = '{call}'""",
            {OUTLIVED},
        ),
        ("UPDATE lease SET expires_at = now() - interval '1 s'", {"live_calls_have_a_lease"}),
        ("DELETE FROM lease", {"live_calls_have_a_lease"}),
        ("UPDATE charge SET billed_s = billed_s + 1 WHERE call_id = '{call}'", {CHARGE}),
        ("UPDATE call SET talk_ms = talk_ms + 1000 WHERE call_id = '{call}'", {CHARGE, COST}),
        (
            "UPDATE call SET sell = jsonb_set(sell, '{{rate_micro}}', '66000') WHERE call_id = '{call}'",
            {CHARGE},
        ),
        ("UPDATE call SET sell = NULL WHERE call_id = '{call}'", {CHARGE}),
        ("UPDATE attempt SET buy = buy - 'rate_micro' WHERE call_id = '{call}'", {COST}),
        ("UPDATE attempt SET cost_micro = 1 WHERE fault = 'carrier'", {COST, "costs_are_booked"}),
    ],
)
@pytest.mark.breaks_books
async def test_every_damage_is_named(house: Seeded, conn: Connection, damage: str, named: set[str]) -> None:
    who, call_id = await history(house)
    async with conn.transaction():
        await conn.execute(NO_TRIGGERS + damage.format(call=call_id, account=who.account_id))
    findings = {name: rows for name, rows in (await audit(conn)).items() if rows}
    assert set(findings) == named
    assert json.loads(json.dumps(findings)) == findings
    for rows in findings.values():
        assert all("call_id" in row or "account_id" in row or "transfer_id" in row for row in rows)


async def test_the_books_do_not_move_while_they_are_audited(house: Seeded, conn: Connection) -> None:
    """Calls end in the midst of it, and every question is still asked of one moment."""
    who = await house.subscriber(balance_micro=10**9)
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        assert await conn.fetchval("SELECT count(*) FROM charge") == 0
        for _ in range(5):
            await house.end(ended((await house.admitted(who)).frozen.call_id, 2_000))
        found = await audit(conn)
    assert not any(found.values())
    assert not await house.broken()


@pytest.mark.breaks_books
async def test_what_is_found_is_bounded(
    house: Seeded, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await house.subscriber(balance_micro=10**6)
    for _ in range(4):
        await house.end(ended((await house.admitted(who)).frozen.call_id, 2_000))
    async with conn.transaction():
        await conn.execute("UPDATE charge SET billed_s = 0")
    monkeypatch.setattr(module, "FINDINGS_MAX", 3)
    assert len((await audit(conn))["charges_follow_from_frozen_rates"]) == 3


@pytest.mark.parametrize(
    ("frozen", "talk_ms"),
    [
        (None, 1),
        ("{}", 1),
        ("null", 1),
        ("[]", 1),
        ('"x"', 1),
        ('{"prefix": 49}', 1),
        ("{", 1),
        (None, None),
        ("{}", None),
    ],
)
def test_a_rate_that_cannot_be_read_recomputes_to_nothing(frozen: str | None, talk_ms: int | None) -> None:
    assert recompute(frozen, talk_ms, None) == {}
