"""call_admit_v1: what can race is decided in one statement."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

import asyncpg
import pytest

from bridge.calls.admit import Admitted
from bridge.telephony.cause import Refuse, RefuseReason
from tests.seeded import GERMANY, SECOND_MICRO, Seeded, Who, at_once

AT_ONCE = 20


async def statuses(
    house: Seeded, whos: list[Who], hold_micro: int, trunk_cap: int | None = None
) -> list[str]:
    """Admissions that all begin at the same time, on connections that are open by then."""
    async with AsyncExitStack() as stack:
        ready = []
        for who in whos:
            session = await stack.enter_async_context(house.store.session())
            ready.append((session, await house.caller(session, who), who))
        written = await at_once(
            [partial(house.write_on, *one, hold_micro, trunk_cap=trunk_cap) for one in ready]
        )
    return sorted(one.status for one in written)


async def nothing_written(house: Seeded) -> None:
    for table in ("call", "lease", "hold"):
        assert await house.value(f"SELECT count(*) FROM {table}") == 0


async def test_an_admission_writes_call_lease_and_hold(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=50_000)
    admitted = await house.admitted(who)
    call_id = admitted.frozen.call_id
    held_micro = house.rules.slice_s * SECOND_MICRO
    call = await house.row("SELECT * FROM call WHERE call_id = $1", call_id)
    assert (call["state"], call["b_number"], call["ended_at"]) == ("live", GERMANY, None)
    assert call["a_number"] == who.a_number
    hold = await house.row("SELECT * FROM hold WHERE call_id = $1", call_id)
    assert (hold["state"], hold["opened_micro"], hold["held_micro"]) == ("open", held_micro, held_micro)
    lease = await house.row("SELECT *, expires_at > now() AS live FROM lease WHERE call_id = $1", call_id)
    assert (lease["limit_ms"], lease["attempt_no"], lease["live"]) == (house.rules.slice_s * 1000, 1, True)
    account = await house.account(who)
    assert (account["balance_micro"], account["held_micro"]) == (50_000, held_micro)
    assert not await house.broken()


async def test_no_credit_says_what_is_left_and_writes_nothing(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=999)
    written = await house.write(who, 1_000)
    assert (written.status, written.available_micro) == ("no_credit", 999)
    await nothing_written(house)
    assert (await house.account(who))["held_micro"] == 0


async def test_the_last_micro_unit_can_be_held(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=1_000)
    assert (await house.write(who, 1_000)).status == "ok"
    assert (await house.write(who, 1)).status == "no_credit"


async def test_a_short_balance_shortens_the_first_slice(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=3 * SECOND_MICRO + 999)
    assert (await house.admitted(who)).limit_ms == 3_000


async def test_of_twenty_at_once_credit_for_five_admits_exactly_five(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=5 * 1_000 + 999)
    assert await statuses(house, [who] * AT_ONCE, 1_000) == ["no_credit"] * 15 + ["ok"] * 5
    account = await house.account(who)
    assert (account["balance_micro"], account["held_micro"]) == (5_999, 5_000)
    assert await house.value("SELECT count(*) FROM hold WHERE state = 'open'") == 5
    assert not await house.broken()


async def test_the_call_cap_is_exact_under_concurrency(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**9, call_cap=3)
    assert await statuses(house, [who] * AT_ONCE, 1_000) == ["ok"] * 3 + ["too_many_calls"] * 17
    assert (await house.account(who))["held_micro"] == 3_000, "a call refused for the cap holds nothing"
    assert not await house.broken()


async def test_the_trunk_cap_is_exact_across_accounts(house: Seeded) -> None:
    whos = [await house.subscriber(balance_micro=10**6) for _ in range(AT_ONCE)]
    assert await statuses(house, whos, 1_000, trunk_cap=4) == ["ok"] * 4 + ["trunk_full"] * 16
    assert await house.value("SELECT sum(held_micro) FROM account") == 4_000
    assert not await house.broken()


@pytest.mark.breaks_books
async def test_an_expired_lease_frees_its_place(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6, call_cap=1)
    assert (await house.write(who, 1_000, trunk_cap=1)).status == "ok"
    assert (await house.write(who, 1_000)).status == "too_many_calls"
    other = await house.subscriber(balance_micro=10**6)
    assert (await house.write(other, 1_000, trunk_cap=1)).status == "trunk_full"
    await house.rows("UPDATE lease SET expires_at = now() - interval '1 s'")
    assert (await house.write(who, 1_000, trunk_cap=1)).status == "ok"


@pytest.mark.parametrize("state", ["suspended", "closed"])
@pytest.mark.parametrize("funding", ["prepaid", "postpaid"])
async def test_only_active_accounts_call(house: Seeded, state: str, funding: str) -> None:
    who = await house.subscriber(balance_micro=10**6, funding=funding, credit_limit_micro=10**6)
    await house.rows("UPDATE account SET state = $1 WHERE account_id = $2", state, who.account_id)
    assert (await house.write(who, 1_000)).status == "no_credit", "suspended between question and answer"
    await nothing_written(house)
    refused = await house.call(who)
    assert isinstance(refused, Refuse)
    assert refused.reason is RefuseReason.account_suspended


async def test_postpaid_calls_up_to_the_credit_limit_and_no_further(house: Seeded) -> None:
    who = await house.subscriber(funding="postpaid", credit_limit_micro=5_999)
    assert await statuses(house, [who] * AT_ONCE, 1_000) == ["no_credit"] * 15 + ["ok"] * 5
    account = await house.account(who)
    assert (account["balance_micro"], account["held_micro"]) == (0, 5_000)


async def test_what_the_statement_refuses_is_decided_anew(house: Seeded) -> None:
    """Four callers may read the same balance; those who come late get the shorter slice that is left, or a refusal."""
    who = await house.subscriber(balance_micro=25 * SECOND_MICRO)
    verdicts = await at_once([lambda: house.call(who)] * 4)
    limits = sorted(one.limit_ms for one in verdicts if isinstance(one, Admitted))
    refused = [one.reason for one in verdicts if isinstance(one, Refuse)]
    assert limits == [5_000, 10_000, 10_000]
    assert refused == [RefuseReason.no_credit]
    assert (await house.account(who))["held_micro"] == 25 * SECOND_MICRO
    assert await house.value("SELECT count(*) FROM call WHERE state = 'refused'") == 1


async def test_the_row_itself_refuses_to_be_overdrawn(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10)
    with pytest.raises(asyncpg.CheckViolationError, match="available_is_never_negative"):
        await _raw(house, "UPDATE account SET held_micro = 11 WHERE account_id = $1", who.account_id)


async def _raw(house: Seeded, sql: str, *args: object) -> None:
    """Past the translation of errors."""
    async with house.pool.acquire() as conn:
        await conn.execute(sql, *args)
