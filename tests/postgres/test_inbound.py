"""Calls from the network on a real database: whom they reach, what bounds them, and what is written of whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID

import pytest

from bridge.calls.admit import Admitted
from bridge.calls.token import Token
from bridge.database import transaction
from bridge.partners.store import add_partner
from bridge.telephony.cause import Refuse
from tests.network import CALLER, Network
from tests.seeded import at_once, ended, seeded


@pytest.fixture
async def network(dsn: str) -> AsyncIterator[Network]:
    async with seeded(dsn) as house:
        yield Network(house, "alpha")
        assert not await house.broken()


def reason(verdict: Refuse | Admitted) -> tuple[str, int]:
    assert isinstance(verdict, Refuse), verdict
    return verdict.reason.value, verdict.cause


async def test_it_is_written_as_the_callees_and_ends_for_nothing(network: Network) -> None:
    house = network.house
    who = await house.subscriber(0)
    call_id = await network.admitted(who)
    row = await network.row(call_id)
    assert (row["direction"], row["leg_class"], row["a_number"], row["b_number"]) == (
        "in",
        "pstn",
        CALLER,
        who.a_number,
    )
    assert row["callee_id"] == row["subscriber_id"]
    assert str(row["account_id"]) == who.account_id
    lease = await house.row("SELECT * FROM lease WHERE call_id = $1", call_id)
    assert lease["trunk_id"] == row["trunk_in_id"]
    await house.end(ended(call_id, 60_000))
    row = await network.row(call_id)
    assert (row["state"], row["talk_ms"]) == ("answered", 60_000)
    assert await house.rows("SELECT 1 FROM attempt WHERE call_id = $1", call_id) == []
    assert await house.rows("SELECT 1 FROM entry WHERE transfer_id = $1", call_id) == []
    charge = await house.row("SELECT amount_micro, written_off_micro FROM charge WHERE call_id = $1", call_id)
    assert tuple(charge) == (0, 0)
    account = await house.account(who)
    assert (account["balance_micro"], account["held_micro"]) == (0, 0)


async def test_a_given_number_comes_before_an_own_one(network: Network) -> None:
    house = network.house
    own, given = await house.subscriber(), await house.subscriber()
    await house.rows(
        "INSERT INTO number (e164, country, kind, state, subscriber_id, assigned_at) "
        "SELECT $1, 'DE', 'geographic', 'assigned', subscriber_id, now() FROM subscriber WHERE a_number = $2",
        own.a_number,
        given.a_number,
    )
    row = await network.row(await network.admitted(own))
    assert str(row["account_id"]) == given.account_id
    await house.rows(
        "UPDATE number SET state = 'quarantined', subscriber_id = NULL, assigned_at = NULL, "
        "quarantine_until = now() + interval '1 d'"
    )
    row = await network.row(await network.admitted(own))
    assert str(row["account_id"]) == own.account_id


async def test_who_is_not_shown_is_kept_from_all_but_operators(network: Network) -> None:
    who = await network.house.subscriber()
    row = await network.row(await network.admitted(who, private=True))
    assert (row["a_number"], row["anonymous"]) == ("anonymous", True)
    withheld = await network.house.row("SELECT * FROM call_withheld")
    assert (withheld["call_id"], withheld["a_number"], withheld["why"]) == (row["call_id"], CALLER, "asked")
    await network.set(origin="foreign")
    row = await network.row(await network.admitted(who))
    assert (row["a_number"], row["anonymous"]) == ("anonymous", True)
    # Refused with them, too: the callee's partner reads refusals.
    await network.house.rows("UPDATE account SET call_cap = 1 WHERE account_id = $1", UUID(who.account_id))
    assert reason(await network.call(who)) == ("too_many_calls", 17)
    row = await network.house.row("SELECT * FROM call WHERE state = 'refused'")
    assert (row["a_number"], row["anonymous"], str(row["account_id"])) == ("anonymous", True, who.account_id)
    everything = await network.house.rows(
        "SELECT 1 FROM call WHERE a_number = $1 OR sip_call_id LIKE '%' || $1", CALLER
    )
    assert everything == []


async def test_a_number_that_ends_calls_is_nobodys_business_but_ours(network: Network) -> None:
    who = await network.house.subscriber()
    assert reason(await network.call(who, "+49900123456")) == ("caller_id", 21)
    row = await network.house.row("SELECT * FROM call WHERE state = 'refused'")
    assert (row["a_number"], row["account_id"], row["partner_id"]) == ("+49900123456", None, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE subscriber SET state = 'suspended'", ("not_reachable", 20)),
        ("UPDATE subscriber SET state = 'pending'", ("not_reachable", 20)),
        ("UPDATE subscriber SET state = 'closed'", ("unknown_number", 1)),
        ("UPDATE account SET state = 'suspended' WHERE kind = 'subscriber'", ("not_reachable", 20)),
        ("DELETE FROM rollout_allow", ("not_reachable", 20)),
        ("UPDATE trunk SET state = 'draining'", ("no_route", 34)),
        ("UPDATE trunk SET enabled = false", ("no_route", 34)),
    ],
)
async def test_why_not(network: Network, change: str, said: tuple[str, int]) -> None:
    who = await network.house.subscriber()
    await network.house.rows(change)
    await network.house.reload()
    assert reason(await network.call(who)) == said
    assert await network.house.value("SELECT count(*) FROM lease") == 0


async def test_who_was_never_invited_is_rung_once_the_app_is_launched(network: Network) -> None:
    who = await network.house.subscriber()
    await network.house.rows("DELETE FROM rollout_allow")
    assert reason(await network.call(who)) == ("not_reachable", 20)
    await network.house.rows("UPDATE app SET launched = true")
    assert isinstance(await network.call(who), Admitted)


@pytest.mark.parametrize(
    "dialled", ["+493023", "12", "", "x", "+49302312501\n", "0", "+", "+4930231250109999999"]
)
async def test_nobodys_number(network: Network, dialled: str) -> None:
    assert reason(await network.call(dialled))[0] in (
        "unknown_number",
        "invalid_number",
        "barred_destination",
    )


async def test_of_many_at_once_no_more_than_the_trunk_carries(network: Network) -> None:
    """Its capacity counts what it carries either way."""
    house = network.house
    people = [await house.subscriber(1_000_000) for _ in range(12)]
    await network.set(capacity=5)
    outgoing = await house.admitted(people[0])
    assert outgoing.frozen.routes[0].name == "alpha"
    verdicts = await at_once([partial(network.call, who) for who in people[1:]])
    said = Counter(one.reason.value if isinstance(one, Refuse) else "in" for one in verdicts)
    assert said == {"in": 4, "overloaded": 7}
    assert {one.cause for one in verdicts if isinstance(one, Refuse)} == {42}


async def test_of_many_in_a_second_no_more_than_the_trunk_takes(network: Network) -> None:
    people = [await network.house.subscriber() for _ in range(12)]
    await network.set(cps=2)
    begun = await network.house.value("SELECT floor(extract(epoch FROM clock_timestamp()))")
    verdicts = await at_once([partial(network.call, who) for who in people])
    seconds = 1 + await network.house.value("SELECT floor(extract(epoch FROM clock_timestamp()))") - begun
    taken = sum(isinstance(one, Admitted) for one in verdicts)
    assert 2 <= taken <= 2 * seconds
    assert taken == await network.house.value("SELECT count(*) FROM lease")


async def test_of_many_for_one_no_more_than_the_account_may_have(network: Network) -> None:
    who = await network.house.subscriber(call_cap=2)
    verdicts = await at_once([partial(network.call, who)] * 8)
    said = Counter(one.reason.value if isinstance(one, Refuse) else "in" for one in verdicts)
    assert said == {"in": 2, "too_many_calls": 6}


async def test_a_message_is_an_attempt_of_its_own_and_none_of_a_call_that_is_over(network: Network) -> None:
    call_id = await network.admitted(await network.house.subscriber())
    assert await network.inbound.message_begins(Token(call_id, 1)) == 2
    assert await network.inbound.message_begins(Token(call_id, 1)) is None
    assert await network.house.value("SELECT attempt_no FROM lease") == 2
    await network.house.end(ended(call_id, 5_000, attempt_no=2))
    assert await network.inbound.message_begins(Token(call_id, 2)) is None


async def test_phones_that_are_there_are_not_woken(network: Network) -> None:
    house = network.house
    who = await house.subscriber()
    async with transaction(house.pool) as conn:
        partner_id = (await add_partner(conn, "listens", "EUR"))["partner_id"]
    await house.rows("UPDATE partner SET keeps_events = true")
    await house.rows("UPDATE subscriber SET partner_id = $1", partner_id)
    first = await network.call(who, private=True)
    assert isinstance(first, Admitted)
    assert not first.reached
    [(data,)] = await house.rows("SELECT data ->> 'from' FROM event WHERE kind = 'subscriber.wake'")
    assert data is None
    await house.rows(
        "INSERT INTO asterisk.ps_contacts (id, switch_id, endpoint, subscriber_id, uri) "
        "SELECT 'x', switch_id, 'u' || replace(subscriber_id::text, '-', ''), subscriber_id, 'sip:x' "
        "FROM subscriber, switch"
    )
    second = await network.call(who)
    assert isinstance(second, Admitted)
    assert second.reached
    assert await house.value("SELECT count(*) FROM event WHERE kind = 'subscriber.wake'") == 1
