"""Calls to another user of the app on a real database: free, counted, and enabling whom they may, exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import pytest

from bridge.calls.admit import Admitted
from bridge.calls.ended import EndRecord
from bridge.database import connection
from bridge.errors import Invalid
from bridge.partners.store import add_partner
from bridge.telephony.cause import Refuse, RefuseReason
from bridge.telephony.endpoint import endpoint_name
from tests.postgres.rollouts import Rolling
from tests.seeded import Seeded, Who, at_once

AT_ONCE = 20


@pytest.fixture
async def phones(house: Seeded) -> Seeded:
    """The seeded app's users have phones."""
    await house.have_phones()
    return house


async def test_of_an_app_with_phones_only_who_has_one_is_rung(phones: Seeded) -> None:
    anna = await phones.subscriber(balance_micro=10**6)
    phones.phones = False
    ben = await phones.subscriber()
    assert (await phones.admitted(anna, ben.a_number)).frozen.way.direction == "out"


async def id_of(house: Seeded, who: Who) -> UUID:
    found: UUID = await house.value(
        "SELECT subscriber_id FROM subscriber WHERE account_id = $1", UUID(str(who.account_id))
    )
    return found


async def register(house: Seeded, who: Who) -> None:
    subscriber_id = await id_of(house, who)
    endpoint = endpoint_name(subscriber_id)
    await house.rows(
        "INSERT INTO asterisk.ps_contacts (id, switch_id, endpoint, subscriber_id, uri) VALUES ($1, $2, $3, $4, $5)",
        f"{endpoint};@{who.a_number}", house.store.switch_id, endpoint, subscriber_id, "sip:x@127.0.0.1:5070",
    )  # fmt: skip


async def test_it_costs_nothing_and_goes_over_no_trunk(phones: Seeded) -> None:
    anna, ben = await phones.subscriber(), await phones.subscriber()
    await register(phones, ben)
    admitted = await phones.admitted(anna, ben.a_number)
    assert admitted.reached
    call_id = admitted.frozen.call_id
    call = await phones.row("SELECT * FROM call WHERE call_id = $1", call_id)
    assert (call["state"], call["direction"], call["callee_id"]) == (
        "live",
        "on_net",
        await id_of(phones, ben),
    )
    lease = await phones.row("SELECT * FROM lease WHERE call_id = $1", call_id)
    assert (lease["trunk_id"], lease["limit_ms"]) == (None, phones.rules.talk_s_max * 1000)
    assert await phones.value("SELECT held_micro FROM hold WHERE call_id = $1", call_id) == 0
    now_us = int(datetime.now(UTC).timestamp() * 1_000_000)
    async with phones.store.batch() as conn:
        record = EndRecord(call_id, 1, now_us, now_us + 61_000_000, "journal", "ANSWER", 16, "caller")
        assert await phones.endings.end(conn, [record], phones.book) == {call_id}
    charged = await phones.row("SELECT * FROM charge WHERE call_id = $1", call_id)
    assert (charged["amount_micro"], charged["billed_s"]) == (0, 61)
    assert await phones.value("SELECT count(*) FROM attempt") == 0
    assert await phones.value("SELECT count(*) FROM transfer WHERE kind = 'call'") == 0
    assert not await phones.broken()


async def test_an_app_without_phones_is_called_as_before(house: Seeded) -> None:
    anna, ben = await house.subscriber(balance_micro=10**6), await house.subscriber()
    admitted = await house.admitted(anna, ben.a_number)
    assert (admitted.frozen.way.direction, bool(admitted.frozen.routes)) == ("out", True)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE subscriber SET state = 'suspended' WHERE subscriber_id = $1",
        "UPDATE subscriber SET state = 'closed' WHERE subscriber_id = $1",
        """UPDATE account a SET state = 'closed' FROM subscriber s
            WHERE s.account_id = a.account_id AND subscriber_id = $1""",
    ],
)
async def test_whoever_is_no_user_any_more_is_called_over_a_carrier(phones: Seeded, change: str) -> None:
    anna, ben = await phones.subscriber(balance_micro=10**6), await phones.subscriber()
    await phones.rows(change, await id_of(phones, ben))
    assert (await phones.admitted(anna, ben.a_number)).frozen.way.direction == "out"


async def test_a_number_that_was_given_to_a_user_rings_their_phone(phones: Seeded) -> None:
    anna, ben = await phones.subscriber(), await phones.subscriber()
    await phones.rows(
        "INSERT INTO number (e164, country, kind, state, subscriber_id, assigned_at)"
        " VALUES ('+493023125777', 'DE', 'geographic', 'assigned', $1, now())", await id_of(phones, ben),
    )  # fmt: skip
    admitted = await phones.admitted(anna, "+493023125777")
    assert admitted.frozen.way.callee_id == await id_of(phones, ben)


@pytest.mark.parametrize("anonymous", [False, True])
async def test_a_phone_that_is_not_there_is_woken(phones: Seeded, anonymous: bool) -> None:
    async with connection(phones.pool) as conn:
        partner_id = (await add_partner(conn, "Listener", "EUR"))["partner_id"]
    anna, ben = await phones.subscriber(), await phones.subscriber()
    await phones.rows("UPDATE partner SET keeps_events = true")
    await phones.rows("UPDATE subscriber SET partner_id = $1", partner_id)
    own = endpoint_name(await id_of(phones, anna))
    asked = replace(phones.asked(anna, ben.a_number), app=own, anonymous=anonymous)
    at = datetime.now(UTC)
    admitted = await phones.admissions.admit(asked, phones.book, at)
    assert isinstance(admitted, Admitted)
    assert not admitted.reached
    event = await phones.row("SELECT * FROM event WHERE kind = 'subscriber.wake'")
    told = json.loads(event["data"])
    expires_at = datetime.fromisoformat(told.pop("expires_at"))
    assert abs((expires_at - at).total_seconds() - phones.rules.wake_s) < 0.01
    assert told == {
        "subscriber_id": f"sub_{(await id_of(phones, ben)).hex}",
        "call_id": f"call_{admitted.frozen.call_id.hex}",
        "from": None if anonymous else anna.a_number,
    }
    await register(phones, ben)
    assert (await phones.admitted(anna, ben.a_number)).reached
    assert await phones.value("SELECT count(*) FROM event WHERE kind = 'subscriber.wake'") == 1


async def test_of_twenty_at_once_five_may_ring_where_five_calls_are_allowed(phones: Seeded) -> None:
    anna, ben = await phones.subscriber(call_cap=5), await phones.subscriber()
    made = await at_once([partial(phones.call, anna, ben.a_number)] * AT_ONCE)
    refused = [one.reason for one in made if isinstance(one, Refuse)]
    assert refused == [RefuseReason.too_many_calls] * 15
    assert await phones.value("SELECT count(*) FROM lease") == 5
    assert not await phones.broken()


async def test_calls_enable_as_many_as_the_window_lets_in(phones: Seeded) -> None:
    made = await phones.value(
        "INSERT INTO rollout (app_id, name) VALUES ($1, 'first') RETURNING rollout_id", phones.app_id
    )
    rolling = Rolling(phones, made)
    anna = await phones.subscriber()
    people = [await rolling.number_of(await rolling.person()) for _ in range(12)]
    refused = await phones.call(anna, people[0])
    assert isinstance(refused, Refuse)
    assert (refused.reason, refused.detail) == (RefuseReason.not_enabled, "no_window")
    await rolling.window(quota=5)
    made = await at_once([partial(phones.call, anna, number) for number in people])
    assert (
        sorted(one.detail if isinstance(one, Refuse) else "rings" for one in made)
        == ["quota"] * 7 + ["rings"] * 5
    )
    assert await phones.value("SELECT count(*) FROM rollout_member WHERE state = 'activated'") == 5
    rows = await phones.rows("SELECT direction, refuse_detail FROM call WHERE refuse_reason = 'not_enabled'")
    assert sorted(row["refuse_detail"] for row in rows) == ["no_window"] + ["quota"] * 7
    assert {row["direction"] for row in rows} == {"on_net"}


async def test_a_call_that_is_not_made_enables_nobody(phones: Seeded) -> None:
    """The cap is known only under the account's lock, when the callee has been enabled already."""
    made = await phones.value(
        "INSERT INTO rollout (app_id, name) VALUES ($1, 'first') RETURNING rollout_id", phones.app_id
    )
    rolling = Rolling(phones, made)
    anna = await phones.subscriber(call_cap=1)
    people = [await rolling.number_of(await rolling.person()) for _ in range(8)]
    window = await rolling.window(quota=5)
    made = await at_once([partial(phones.call, anna, number) for number in people])
    assert sum(isinstance(one, Admitted) for one in made) == 1
    assert await phones.value("SELECT count(*) FROM rollout_member WHERE state = 'activated'") == 1
    assert (await rolling.window_state(window))[2] == 1


async def test_whom_the_rollout_keeps_out_is_called_over_a_carrier_if_the_plan_says_so(
    phones: Seeded,
) -> None:
    await phones.rows("UPDATE plan SET on_net_fallback = true")
    await phones.reload()
    anna, ben = await phones.subscriber(balance_micro=10**6), await phones.subscriber(allowed=False)
    admitted = await phones.admitted(anna, ben.a_number)
    assert (admitted.frozen.way.direction, bool(admitted.frozen.routes)) == ("out", True)
    assert await phones.value("SELECT count(*) FROM call") == 1


async def test_what_goes_on_is_another_call(phones: Seeded) -> None:
    await phones.rows("UPDATE plan SET on_net_fallback = true")
    await phones.reload()
    anna, ben = await phones.subscriber(balance_micro=10**6), await phones.subscriber()
    asked = phones.asked(anna, ben.a_number)
    first = await phones.admissions.admit(asked, phones.book, datetime.now(UTC))
    assert isinstance(first, Admitted)
    known = await phones.store.frozen([first.frozen.call_id])
    assert known[first.frozen.call_id] == first.frozen
    second = await phones.admissions.go_on(first.frozen, asked, phones.book, datetime.now(UTC))
    assert isinstance(second, Admitted)
    row = await phones.row("SELECT * FROM call WHERE call_id = $1", second.frozen.call_id)
    assert (row["direction"], row["after_call_id"], row["callee_id"]) == ("out", first.frozen.call_id, None)
    assert await phones.value("SELECT held_micro FROM hold WHERE call_id = $1", row["call_id"]) > 0


async def test_a_user_is_who_their_phone_is_whatever_it_says(phones: Seeded) -> None:
    anna, eve = await phones.subscriber(), await phones.subscriber(balance_micro=10**6)
    own = endpoint_name(await id_of(phones, eve))
    asked = replace(phones.asked(anna), app=own)
    admitted = await phones.admissions.admit(asked, phones.book, datetime.now(UTC))
    assert isinstance(admitted, Admitted)
    assert (admitted.cli, admitted.frozen.subscriber_id) == (eve.a_number, await id_of(phones, eve))
    lies = replace(asked, shown=f"<sip:{anna.a_number}@x>")
    refused = await phones.admissions.admit(lies, phones.book, datetime.now(UTC))
    assert isinstance(refused, Refuse)
    assert refused.reason is RefuseReason.caller_id


async def test_a_direction_on_net_has_a_callee(phones: Seeded) -> None:
    anna, ben = await phones.subscriber(), await phones.subscriber()
    await phones.admitted(anna, ben.a_number)
    with pytest.raises(Invalid):
        await phones.rows("UPDATE call SET callee_id = NULL")
