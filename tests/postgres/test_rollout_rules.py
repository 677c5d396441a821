"""Windows, waves, keys, invitations and the replay of it all, on a real database."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from bridge.database import connection, transaction
from bridge.errors import Conflict, Invalid
from bridge.rollout import store
from bridge.rollout.invite import Invited, NotInvited
from bridge.rollout.window import NEXT
from tests.postgres.rollouts import ACTOR, AT, Rolling, later, rolled_out
from tests.seeded import Seeded, at_once


@pytest.fixture
async def rolling(house: Seeded) -> Rolling:
    return await rolled_out(house)


async def events(rolling: Rolling, kind: str) -> list[asyncpg.Record]:
    return await rolling.house.rows("SELECT * FROM rollout_event WHERE kind = $1 ORDER BY seq", kind)


# ---------------------------------------------------------------- windows


async def test_rules_and_database_know_the_same_transitions(house: Seeded) -> None:
    for state, following in NEXT.items():
        for then in NEXT:
            said = await house.value("SELECT rollout_window_may_v1($1, $2)", state, then)
            assert said == (then in following), (state, then)


async def test_windows_open_and_close_by_time(rolling: Rolling) -> None:
    window = await rolling.window(state="planned", opens_at=later(hours=1), closes_at=later(hours=2))
    assert await rolling.tick(AT) == []
    assert await rolling.tick(later(hours=1)) == [(window, "open")]
    assert await rolling.tick(later(hours=1.5)) == []
    assert await rolling.tick(later(hours=2)) == [(window, "closed")]
    assert await rolling.window_state(window) == ("closed", "time", 0)
    assert [row["cause"] for row in await events(rolling, "window.open")] == ["time"]
    missed = await rolling.window(state="planned", opens_at=later(hours=3), closes_at=later(hours=4))
    assert await rolling.tick(later(hours=9)) == [(missed, "closed")]


async def test_a_window_is_over_at_its_time_though_nobody_has_closed_it(rolling: Rolling) -> None:
    ada, bob, eve = await rolling.enabled(), await rolling.person(), await rolling.person()
    window = await rolling.window(closes_at=later(minutes=30))
    made = await rolling.invited(ada, bob)
    assert await rolling.calls(ada, eve, later(minutes=29)) == "activated"
    assert await rolling.accepts(bob, made.code, later(minutes=30)) == "no_window"
    assert await rolling.window_state(window) == ("closed", "time", 1)
    assert await rolling.calls(ada, bob, later(minutes=30)) == "no_window"


async def test_a_window_waits_for_the_one_that_is_open(rolling: Rolling) -> None:
    first = await rolling.window()
    second = await rolling.window(state="planned", opens_at=AT)
    assert await rolling.tick(later(hours=1)) == []
    assert await rolling.set(first, "closed")
    assert await rolling.tick(later(hours=1)) == [(second, "open")]


async def test_many_keepers_open_a_window_once(rolling: Rolling) -> None:
    await rolling.window(state="planned", opens_at=AT)
    said = await at_once([partial(rolling.tick, later(hours=1))] * 8)
    assert sum(map(len, said)) == 1
    assert len(await events(rolling, "window.open")) == 1


async def test_two_windows_are_never_open_at_once(rolling: Rolling) -> None:
    windows = [await rolling.window(state="planned") for _ in range(8)]
    said = await at_once([partial(rolling.set, window, "open") for window in windows])
    assert said.count(True) == 1
    with pytest.raises(Conflict):
        await rolling.house.rows("UPDATE rollout_window SET state = 'open' WHERE state = 'planned'")


async def test_a_quota_cannot_fall_below_what_there_is(rolling: Rolling) -> None:
    ada = await rolling.enabled()
    window = await rolling.window(quota=3)
    for _ in range(2):
        assert await rolling.calls(ada, await rolling.person()) == "activated"
    with pytest.raises(Invalid):
        await rolling.changed(window, quota=1)
    await rolling.changed(window, quota=2)
    assert await rolling.calls(ada, await rolling.person()) == "quota"
    assert await rolling.window_state(window) == ("closed", "quota", 2)
    with pytest.raises(Invalid):
        await rolling.window(quota=0)


# ---------------------------------------------------------------- waves and keys


async def test_waves_say_who_is_served(rolling: Rolling) -> None:
    ada = await rolling.enabled()
    await rolling.wave(country="DE", platform="ios", quota=2)
    await rolling.wave(country="DE", quota=3)
    await rolling.window()
    said = [await rolling.calls(ada, await rolling.person(platform="ios")) for _ in range(3)]
    assert said == ["activated", "activated", "wave"]
    said = [await rolling.calls(ada, await rolling.person(platform="android")) for _ in range(2)]
    assert said == ["activated", "wave"]  # both waves count for an iPhone in Germany
    counts = await rolling.house.rows("SELECT activated FROM rollout_wave ORDER BY wave_id")
    assert [row[0] for row in counts] == [2, 3]


async def test_who_is_in_no_wave_is_not_served(rolling: Rolling) -> None:
    ada, bob, eve = await rolling.enabled(), await rolling.person(), await rolling.person(platform="ios")
    await rolling.wave(country="GB")
    await rolling.wave(platform="ios")
    await rolling.window()
    assert await rolling.calls(ada, bob) == "wave"  # German, and of no known platform
    assert await rolling.calls(ada, eve) == "activated"


async def test_quotas_of_waves_hold_however_many_call(rolling: Rolling) -> None:
    ada = await rolling.enabled()
    await rolling.wave(platform="ios", quota=5)
    people = [await rolling.person(platform="ios") for _ in range(20)]
    await rolling.window()
    said = await at_once([partial(rolling.calls, ada, one) for one in people])
    assert sorted(said) == ["activated"] * 5 + ["wave"] * 15


async def test_two_keys(rolling: Rolling) -> None:
    """Brought in while the server's key is withheld, activated when it is given: in order, within the quota."""
    ada = await rolling.enabled()
    wave = await rolling.wave(platform="ios", server_key=False, quota=10)
    people = [await rolling.person(platform="ios") for _ in range(4)]
    window = await rolling.window(quota=3)
    assert [await rolling.calls(ada, one) for one in reversed(people)] == ["keyed"] * 4
    assert await rolling.calls(ada, people[0]) == "keyed"
    assert not (await rolling.stands(people[0])).may_call
    assert await rolling.window_state(window) == ("open", "operator", 0)
    assert await rolling.key(wave, True, later(hours=1))
    assert not await rolling.key(wave, True)
    assert [await rolling.state_of(one) for one in reversed(people)] == ["activated"] * 3 + ["keyed"]
    assert await rolling.window_state(window) == ("closed", "quota", 3)
    await rolling.window()  # the next one takes the rest
    assert await rolling.state_of(people[0]) == "activated"
    assert [row["cause"] for row in await events(rolling, "member.activated")] == ["key"] * 4
    assert {row["inviter_id"] for row in await events(rolling, "member.activated")} == {ada}


async def test_a_key_that_is_given_while_no_window_is_open_waits_for_one(rolling: Rolling) -> None:
    ada, bob = await rolling.enabled(), await rolling.person(platform="ios")
    wave = await rolling.wave(platform="ios", server_key=False)
    window = await rolling.window()
    assert await rolling.calls(ada, bob) == "keyed"
    await rolling.set(window, "paused")
    await rolling.key(wave, True)
    assert await rolling.state_of(bob) == "keyed"
    await rolling.set(window, "open")
    assert await rolling.state_of(bob) == "activated"


async def test_the_keeper_goes_on_where_many_are_keyed(rolling: Rolling) -> None:
    ada = await rolling.enabled()
    wave = await rolling.wave(platform="ios", server_key=False)
    await rolling.window()
    for _ in range(230):
        assert await rolling.calls(ada, await rolling.person(platform="ios")) == "keyed"
    await rolling.key(wave, True)
    keyed = "SELECT count(*) FROM rollout_member WHERE state = 'keyed'"
    assert await rolling.house.value(keyed) == 30  # a request does not take all
    await rolling.tick(AT)
    assert await rolling.house.value(keyed) == 0
    assert not await rolling.house.value("SELECT settling FROM rollout")


# ---------------------------------------------------------------- invitations


async def test_an_invitation_is_good_once(rolling: Rolling) -> None:
    ada, bob = await rolling.enabled(), await rolling.person()
    await rolling.window()
    made = await rolling.invited(ada, bob)
    said = await at_once([partial(rolling.accepts, bob, made.code)] * 8)
    assert sorted(said) == ["activated"] + ["used"] * 7
    assert await rolling.accepts(bob, made.code) == "used"
    row = await rolling.house.row("SELECT hash, used_by FROM rollout_invite")
    assert row["used_by"] == bob
    assert made.code.encode() not in row["hash"]


async def test_an_invitation_is_for_one_number_in_one_window(rolling: Rolling) -> None:
    ada, bob, eve = await rolling.enabled(), await rolling.person(), await rolling.person()
    window = await rolling.window()
    made = await rolling.invited(ada, bob)
    assert await rolling.accepts(eve, made.code) == "unknown"
    assert await rolling.accepts(bob, "A" * 22) == "unknown"
    assert await rolling.accepts(bob, "'; DROP TABLE rollout; --") == "unknown"
    await rolling.set(window, "paused")
    assert await rolling.accepts(bob, made.code) == "no_window"
    await rolling.set(window, "closed")
    assert await rolling.accepts(bob, made.code) == "no_window"
    await rolling.window()
    assert await rolling.accepts(bob, made.code) == "no_window"  # the next window is another
    again = await rolling.invited(ada, bob)
    assert await rolling.accepts(bob, again.code, again.expires_at) == "expired"
    newer = await rolling.invited(ada, bob)
    assert await rolling.accepts(bob, again.code) == "expired"  # replaced
    assert await rolling.accepts(bob, newer.code, newer.expires_at - timedelta(seconds=1)) == "activated"


async def test_who_may_not_be_invited(rolling: Rolling) -> None:
    ada, bob, eve = await rolling.enabled(), await rolling.person(), await rolling.enabled()
    number = await rolling.number_of(bob)
    assert await rolling.invites(ada, number) == NotInvited("no_window")
    await rolling.window()
    assert await rolling.invites(ada, await rolling.number_of(ada)) == NotInvited("self")
    assert await rolling.invites(ada, await rolling.number_of(eve)) == NotInvited("enabled")
    assert await rolling.invites(bob, await rolling.number_of(ada)) == NotInvited("not_enabled")
    assert isinstance(await rolling.invites(ada, "+4930231250999"), Invited)  # nobody's number yet
    await rolling.settings(depth_max=1)
    assert await rolling.calls(ada, bob) == "activated"
    assert await rolling.invites(bob, "+4930231250998") == NotInvited("depth")


async def test_invitations_count_as_brought_in(rolling: Rolling) -> None:
    await rolling.settings(invite_limit=2)
    ada, bob, eve = await rolling.enabled(), await rolling.person(), await rolling.person()
    await rolling.window()
    first = await rolling.invited(ada, bob)
    await rolling.invited(ada, bob)  # instead of the first
    assert (await rolling.stands(ada)).invites_left == 1
    assert isinstance(await rolling.invites(ada, "+4930231250999"), Invited)
    assert await rolling.invites(ada, await rolling.number_of(eve)) == NotInvited("limit")
    assert await rolling.calls(ada, eve) == "limit"
    assert await rolling.calls(ada, bob) == "activated"  # the one who was invited
    past = first.expires_at + timedelta(seconds=1)
    assert (await rolling.stands(ada, past)).invites_left == 1


async def test_twelve_at_once_do_not_pass_the_limit(rolling: Rolling) -> None:
    await rolling.settings(invite_limit=3)
    ada = await rolling.enabled()
    await rolling.window()
    said = await at_once([partial(rolling.invites, ada, f"+49302312509{no:02}") for no in range(12)])
    assert sum(isinstance(one, Invited) for one in said) == 3
    assert [one for one in said if not isinstance(one, Invited)] == [NotInvited("limit")] * 9


async def test_no_chain_closes_a_ring(rolling: Rolling) -> None:
    """Ada brought in Bob, and was taken out herself: Bob cannot bring her in again, by call or invitation."""
    root, ada, bob, eve = (
        await rolling.enabled(), await rolling.person(), await rolling.person(), await rolling.person()
    )  # fmt: skip
    await rolling.window()
    assert [await rolling.calls(by, one) for by, one in ((root, ada), (ada, bob), (bob, eve))] == [
        "activated"
    ] * 3
    async with connection(rolling.house.pool) as conn:
        assert await store.remove(conn, rolling.rollout_id, ada, ACTOR, AT)
        assert await store.enrol(conn, ada, AT) == "waiting"
    assert await rolling.calls(eve, ada) == "loop"
    assert await rolling.calls(bob, ada) == "loop"
    assert await rolling.invites(eve, await rolling.number_of(ada)) == NotInvited("loop")
    assert await rolling.calls(root, ada) == "activated"


# ---------------------------------------------------------------- waiting, leaving, being told


async def test_the_waiting_list_has_an_order(rolling: Rolling) -> None:
    people = [await rolling.person() for _ in range(3)]
    assert [(await rolling.stands(one)).place for one in people] == [1, 2, 3]
    ada = await rolling.enabled()
    assert (await rolling.stands(ada)).place is None
    await rolling.window(quota=9, closes_at=later(hours=1))
    await rolling.calls(ada, people[0])
    assert [(await rolling.stands(one)).place for one in people] == [None, 1, 2]
    standing = await rolling.stands(people[1])
    assert (standing.waits, standing.may_call, standing.why_not) == ("waiting", False, "not_enabled")
    assert (standing.window_open, standing.open_until, standing.quota_left) == (True, later(hours=1), 8)


async def test_a_closed_subscriber_is_out(rolling: Rolling) -> None:
    bob = await rolling.person()
    async with connection(rolling.house.pool) as conn:
        await store.leave(conn, bob, AT)
    assert await rolling.state_of(bob) == "removed"
    ada = await rolling.enabled()
    await rolling.window()
    assert await rolling.calls(ada, bob) == "no_rollout"


async def test_events_are_insert_only(rolling: Rolling) -> None:
    await rolling.person()
    for sql in ("UPDATE rollout_event SET seq = 9", "DELETE FROM rollout_event", "TRUNCATE rollout_event"):
        with pytest.raises(Exception, match="insert-only"):
            await rolling.house.rows(sql)


async def test_windows_are_told_to_the_partner(rolling: Rolling) -> None:
    house = rolling.house
    partner: UUID = await house.value(
        """WITH a AS (INSERT INTO account (kind, name, currency) VALUES ('partner', 'p', 'EUR') RETURNING account_id)
           INSERT INTO partner (name, account_id, keeps_events) SELECT 'p', account_id, true FROM a
           RETURNING partner_id"""
    )
    await rolling.settings(partner_id=partner)
    window = await rolling.window()
    await rolling.set(window, "paused", "trial")
    async with connection(house.pool) as conn:
        assert await store.set_state(conn, rolling.rollout_id, "killed", ACTOR, AT)
        assert not await store.set_state(conn, rolling.rollout_id, "launched", ACTOR, AT)
    told = [
        (row["kind"], json.loads(row["data"]))
        for row in await house.rows("SELECT * FROM event ORDER BY event_id")
    ]
    assert [(kind, data["state"], data["cause"]) for kind, data in told] == [
        ("rollout.changed", "running", "operator"),
        ("window.opened", "open", "operator"),
        ("window.paused", "paused", "trial"),
        ("window.closed", "closed", "kill"),
        ("rollout.changed", "killed", "kill"),
    ]


# ---------------------------------------------------------------- replay


async def lived(rolling: Rolling) -> None:
    """Some of everything."""
    ada = await rolling.enabled()
    wave = await rolling.wave(platform="ios", server_key=False)
    await rolling.wave(country="DE")
    first = await rolling.window(quota=4)
    people = [await rolling.person(platform="ios" if no % 2 else None) for no in range(8)]
    for caller, callee in zip([ada, *people], people, strict=False):
        await rolling.calls(caller, callee)
        await rolling.calls(ada, callee)
    await rolling.key(wave, True)
    await rolling.set(first, "closed")
    async with connection(rolling.house.pool) as conn:
        await store.remove(conn, rolling.rollout_id, people[0], ACTOR, AT)
    await rolling.window()


async def test_a_replay_leads_to_what_the_tables_say(rolling: Rolling) -> None:
    await lived(rolling)
    async with transaction(rolling.house.pool) as conn:
        assert await store.replayed(conn, rolling.rollout_id) == []
    assert await rolling.house.broken() == {}


@pytest.mark.breaks_books
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE rollout_window SET activated = activated + 1 WHERE quota IS NULL",
        "UPDATE rollout_member SET state = 'waiting' WHERE state = 'activated'",
        "UPDATE rollout_wave SET server_key = NOT server_key",
        "UPDATE rollout SET state = 'killed'",
        "UPDATE rollout_member SET inviter_id = subscriber_id WHERE depth > 0",
    ],
)
async def test_tables_that_were_touched_are_found(rolling: Rolling, sql: str) -> None:
    await lived(rolling)
    await rolling.house.rows(sql)
    assert "rollouts_follow_from_their_events" in await rolling.house.broken()


@pytest.mark.breaks_books
@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO rollout_allow (subscriber_id) SELECT subscriber_id FROM rollout_member WHERE state = 'removed'",
        "DELETE FROM rollout_allow a USING rollout_member m WHERE m.subscriber_id = a.subscriber_id",
    ],
)
async def test_who_may_call_without_being_activated_is_found(rolling: Rolling, sql: str) -> None:
    await lived(rolling)
    await rolling.house.rows(sql)
    assert "activated_members_and_no_others_may_call" in await rolling.house.broken()


async def test_a_chain_is_read_breadth_first_and_bounded(rolling: Rolling) -> None:
    ada = await rolling.enabled()
    await rolling.window()
    people: list[Any] = [ada]
    for _ in range(6):
        people.append(await rolling.person())
        assert await rolling.calls(people[-2], people[-1]) == "activated"
    async with connection(rolling.house.pool) as conn:
        whole = await store.links(conn, rolling.rollout_id, None)
        some = await store.links(conn, rolling.rollout_id, people[2], steps=2)
        few = await store.links(conn, rolling.rollout_id, None, rows=3)
    assert [one.subscriber_id for one in whole] == people[1:]
    assert [one.subscriber_id for one in some] == people[3:5]
    assert [one.subscriber_id for one in few] == people[1:4]
