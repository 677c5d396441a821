"""call_attempt_ended_v1: a failed attempt is kept, and the call moves to its next trunk if that has room."""

from __future__ import annotations

from functools import partial

from tests.seeded import Seeded, Work, at_once, ended


async def test_the_attempt_is_kept_and_the_lease_moves_on(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    frozen = (await house.admitted(who)).frozen
    assert await at_once([partial(house.failed, frozen)] * 4) == ["ok"] * 4, "repeats change nothing"
    attempt = await house.row("SELECT * FROM attempt")
    assert (attempt["attempt_no"], attempt["fault"], attempt["sip_code"]) == (1, "carrier", 503)
    assert (attempt["cost_micro"], str(attempt["trunk_id"])) == (0, frozen.routes[0].trunk_id)
    lease = await house.row("SELECT * FROM lease")
    assert (lease["attempt_no"], str(lease["trunk_id"])) == (2, frozen.routes[1].trunk_id)
    await house.end(ended(frozen.call_id, 60_000, attempt_no=2))
    assert await house.value("SELECT outcome FROM attempt WHERE attempt_no = 2") == "answered"
    assert await house.failed(frozen) == "gone"
    assert await house.value("SELECT count(*) FROM attempt") == 2
    assert not await house.broken()


async def test_what_was_taken_for_failed_and_answered_after_all_costs_what_it_costs(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    frozen = (await house.admitted(who)).frozen
    await house.failed(frozen)
    await house.end(ended(frozen.call_id, 2_000, attempt_no=1))
    attempt = await house.row("SELECT * FROM attempt")
    assert (attempt["outcome"], attempt["billed_s"], attempt["cost_micro"]) == ("answered", 2, 1_000)
    assert not await house.broken()


async def test_a_full_next_trunk_changes_nothing(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**6)
    frozen = (await house.admitted(who)).frozen
    before = await house.row("SELECT * FROM lease")
    assert await house.failed(frozen, next_cap=0) == "full"
    assert await house.row("SELECT * FROM lease") == before
    assert await house.value("SELECT count(*) FROM attempt") == 0


async def test_the_next_trunks_capacity_is_exact_under_concurrency(house: Seeded) -> None:
    who = await house.subscriber(balance_micro=10**9)
    calls = [(await house.admitted(who)).frozen for _ in range(16)]
    said = await at_once([partial(house.failed, frozen, next_cap=5) for frozen in calls])
    assert sorted(said) == ["full"] * 11 + ["ok"] * 5
    moved = await house.value("SELECT count(*) FROM lease WHERE trunk_id = $1", calls[0].routes[1].trunk_id)
    assert moved == 5
    again = [frozen for frozen, one in zip(calls, said, strict=True) if one == "ok"]
    assert await at_once([partial(house.failed, frozen, next_cap=5) for frozen in again]) == ["ok"] * 5


async def test_failover_and_admission_share_one_capacity(house: Seeded) -> None:
    """Half of the calls come to the second trunk by failing over, half ask for it from the start."""
    who = await house.subscriber(balance_micro=10**9)
    calls = [(await house.admitted(who)).frozen for _ in range(8)]
    await house.rows("UPDATE trunk SET enabled = false WHERE name = 'alpha'")
    beta = calls[0].routes[1].trunk_id
    await house.reload()
    whos = [await house.subscriber(balance_micro=10**6) for _ in range(8)]
    failing_over: list[Work] = [partial(house.failed, frozen, next_cap=5) for frozen in calls]
    asking: list[Work] = [partial(house.write, who, 1_000, trunk_cap=5) for who in whos]
    await at_once([*failing_over, *asking])
    assert await house.value("SELECT count(*) FROM lease WHERE trunk_id = $1", beta) == 5
    assert not await house.broken()


async def test_a_failed_attempt_and_the_end_of_its_call_at_once(house: Seeded) -> None:
    """The dialplan reports the attempt over AGI while the journal already tells of the hangup."""
    who = await house.subscriber(balance_micro=10**9)
    for order in (1, -1) * 15:
        frozen = (await house.admitted(who)).frozen
        work: list[Work] = [
            partial(house.failed, frozen, next_cap=9),
            partial(house.end, ended(frozen.call_id)),
        ]
        await at_once(work[::order])
    assert await house.value("SELECT count(*) FROM attempt") == 30
    assert await house.value("SELECT count(*) FROM lease") == 0
    assert not await house.broken()
