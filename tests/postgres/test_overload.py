"""Too many calls: each is refused at once, recorded once, and those that are in progress know nothing of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from bridge.asterisk.agi_header import Request
from bridge.asterisk.agi_routes import AgiRoutes
from bridge.asterisk.channel_vars import FIELDS, SEPARATOR
from bridge.calls import overload
from bridge.calls.overload import Overload
from bridge.calls.store import CallStore
from bridge.calls.token import Token
from bridge.config import Pressure
from bridge.database import Connection
from bridge.partners.store import add_partner
from bridge.sandbox.seed import APP
from bridge.telephony.endpoint import endpoint_name
from tests.postgres.test_originate import ordered
from tests.seeded import GERMANY, Seeded, Who, ended

CALLER = "+493023125099"

# The server ends the connection of whoever waits for a lock: whether anything was written, that one cannot know.
CUT_OFF = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE wait_event_type = 'Lock' AND datname = current_database()"""


class Switch:
    """What the dialplan asks of one worker."""

    def __init__(self, house: Seeded, **limits: Any) -> None:
        self.house = house
        self.overload = Overload(house.store, Pressure(**limits), "DE")
        self.routes = AgiRoutes(
            house.admissions, house.endings, house.store, house.rules, lambda: house.book, self.overload
        )
        self._serial = 0

    async def calls(self, who: Who, dialled: str = GERMANY, endpoint: str = APP) -> dict[str, str]:
        self._serial += 1
        env = {
            "agi_channel": f"PJSIP/{endpoint}-{self._serial:08x}",
            "agi_callerid": who.a_number,
            "agi_dnid": dialled,
            "agi_uniqueid": f"1795357833.{self._serial}",
        }
        return answer(await self.routes.authorise(Request("authorise", "", env, (f"{self._serial}@app",))))

    async def comes(self, dialled: str, *, trunk: str = "alpha", privacy: str = "") -> dict[str, str]:
        """A call from the network."""
        self._serial += 1
        env = {
            "agi_channel": f"PJSIP/{trunk}-{self._serial:08x}",
            "agi_callerid": CALLER,
            "agi_dnid": dialled,
            "agi_uniqueid": f"1795357833.{self._serial}",
        }
        request = Request("inbound", "", env, (privacy, f"{self._serial}@network"))
        return answer(await self.routes.handlers()["inbound"](request))

    async def leg(self, origination_id: UUID, name: str) -> dict[str, str]:
        env = {"agi_channel": "Local/a@click-00000001;2", "agi_uniqueid": "1795357834.1"}
        return answer(await self.routes.originate(Request("originate", "", env, (origination_id.hex, name))))


def answer(told: str | None) -> dict[str, str]:
    assert told is not None
    return dict(zip(FIELDS, told.split(SEPARATOR), strict=True))


def refused(told: dict[str, str]) -> bool:
    return (told["verdict"], told["cause"], told["call"]) == ("stop", "42", "")


async def test_over_the_limit_calls_are_refused_and_each_has_its_record(house: Seeded) -> None:
    switch = Switch(house, cps_max=2)
    who = await house.subscriber(balance_micro=10**6)
    partner = await _partner(house, who)
    told = [await switch.calls(who) for _ in range(5)]
    assert [one["verdict"] for one in told] == ["dial", "dial", "stop", "stop", "stop"]
    assert all(refused(one) for one in told[2:])
    assert await house.value("SELECT count(*) FROM call") == 2  # no round trip was made for the others
    await switch.overload.write()
    rows = await house.rows("SELECT * FROM call WHERE state = 'refused' ORDER BY sip_call_id")
    assert [row["sip_call_id"] for row in rows] == ["3@app", "4@app", "5@app"]
    for row in rows:
        assert (row["refuse_reason"], row["q850_cause"], row["release_party"]) == ("overloaded", 42, "bridge")
        assert (row["a_number"], row["b_number"], row["partner_id"]) == (who.a_number, GERMANY, partner)
        assert str(row["account_id"]) == who.account_id
    assert await house.value("SELECT count(*) FROM event WHERE kind = 'call.refused'") == 3
    await switch.overload.write()
    assert await house.value("SELECT count(*) FROM call") == 5


async def test_a_users_own_phone_that_is_turned_away_is_known_by_its_endpoint(house: Seeded) -> None:
    switch = Switch(house, cps_max=1)
    who = await house.subscriber(balance_micro=10**6)
    partner = await _partner(house, who)
    subscriber_id = await house.value(
        "SELECT subscriber_id FROM subscriber WHERE a_number = $1", who.a_number
    )
    await switch.calls(who)
    assert refused(await switch.calls(who, endpoint=endpoint_name(subscriber_id)))
    assert refused(await switch.calls(who, endpoint=endpoint_name(UUID(int=7))))
    await switch.overload.write()
    rows = await house.rows("SELECT * FROM call WHERE state = 'refused' ORDER BY sip_call_id")
    assert [row["subscriber_id"] for row in rows] == [subscriber_id, None]
    assert [row["partner_id"] for row in rows] == [partner, None]
    assert str(rows[0]["account_id"]) == who.account_id


async def test_a_call_from_the_network_that_is_turned_away_is_its_trunks(house: Seeded) -> None:
    switch = Switch(house, cps_max=1)
    who = await house.subscriber(balance_micro=10**6)
    await switch.calls(who)
    assert refused(await switch.comes(who.a_number.removeprefix("+")))
    assert refused(await switch.comes(who.a_number, privacy="id"))
    await switch.overload.write()
    rows = await house.rows("SELECT * FROM call WHERE state = 'refused' ORDER BY sip_call_id")
    alpha = await house.value("SELECT trunk_id FROM trunk WHERE name = 'alpha'")
    for row in rows:
        assert (row["direction"], row["trunk_in_id"], row["leg_class"]) == ("in", alpha, "pstn")
        assert (row["b_number"], row["subscriber_id"], row["partner_id"]) == (who.a_number, None, None)
    assert [(row["a_number"], row["anonymous"]) for row in rows] == [(CALLER, False), ("anonymous", True)]


async def test_a_call_in_progress_is_never_held_up(house: Seeded) -> None:
    switch = Switch(house, live_max=1)
    who = await house.subscriber(balance_micro=10**6)
    token = (await switch.calls(who))["call"]
    assert refused(await switch.calls(who))
    args = (token, "9.750", "CHANUNAVAIL", "34", "", "", "SIP 503 Service Unavailable")
    env = {"agi_callerid": who.a_number}
    again = answer(await switch.routes.attempt_ended(Request("attempt-ended", "", env, args)))
    assert again["verdict"] == "dial"
    call_id = UUID(token.partition(".")[0])
    assert again["call"] == str(Token(call_id, 2))
    await house.answer(call_id)
    await house.end(ended(call_id, 2_000, attempt_no=2))
    assert refused(await switch.calls(who))  # until it is counted
    await switch.overload.count()
    assert (await switch.calls(who))["verdict"] == "dial"
    await switch.overload.write()


async def test_the_whole_switch_is_counted_whoever_admitted_them(house: Seeded) -> None:
    one, other = Switch(house, live_max=3), Switch(house, live_max=3)
    who = await house.subscriber(balance_micro=10**6)
    for _ in range(3):
        assert (await one.calls(who))["verdict"] == "dial"
    await other.overload.count()
    assert refused(await other.calls(who))
    elsewhere = CallStore(house.pool, UUID(int=7))
    quiet = Overload(elsewhere, Pressure(), "DE")
    await quiet.count()
    assert quiet.gate.live == 0
    await other.overload.write()


async def test_what_a_stranger_sends_is_recorded_as_it_may_be_kept(house: Seeded) -> None:
    switch = Switch(house, cps_max=1)
    who = await house.subscriber(balance_micro=10**6)
    await switch.calls(who)
    hostile = "';DROP TABLE call;--\0\ud800" + "9" * 500
    assert refused(await switch.calls(replace(who, a_number=hostile), hostile))
    assert refused(await switch.calls(replace(who, a_number="+4989999000000")))
    await switch.overload.write()
    rows = await house.rows("SELECT * FROM call WHERE state = 'refused' ORDER BY sip_call_id")
    assert [row["account_id"] for row in rows] == [None, None]
    assert [len(rows[0]["a_number"]), len(rows[0]["dialled"]), rows[0]["b_number"]] == [64, 64, None]


async def test_records_wait_for_the_database_and_are_written_once(
    house: Seeded, monkeypatch: pytest.MonkeyPatch, conn: Connection
) -> None:
    monkeypatch.setattr(overload, "BATCH", 2)
    switch = Switch(house, cps_max=1)
    who = await house.subscriber(balance_micro=10**6)
    for _ in range(6):
        await switch.calls(who)
    await conn.execute("BEGIN; LOCK TABLE call IN ACCESS EXCLUSIVE MODE")
    writing = asyncio.create_task(switch.overload.write())
    async with asyncio.timeout(10):
        while not await house.value(CUT_OFF):
            pass
    await writing
    assert switch.overload.figures()["waiting"] == 5
    await conn.execute("COMMIT")
    await switch.overload.write()
    assert switch.overload.figures()["waiting"] == 0
    assert await house.value("SELECT count(*) FROM call WHERE state = 'refused'") == 5


async def test_rows_that_were_written_without_our_knowing_are_not_written_again(house: Seeded) -> None:
    switch = Switch(house, cps_max=1)
    who = await house.subscriber(balance_micro=10**6)
    for _ in range(3):
        await switch.calls(who)
    batch = switch.overload.next_batch()
    for _ in range(2):
        await switch.overload.insert(batch)
    assert await house.value("SELECT count(*) FROM call WHERE state = 'refused'") == 2


async def test_a_call_by_order_is_turned_away_before_a_is_rung_and_never_between_its_legs(
    house: Seeded,
) -> None:
    switch = Switch(house, cps_max=1)
    who = await house.subscriber(balance_micro=10**6)
    first, second = await ordered(house, who), await ordered(house, who, "+493023125011")
    assert (await switch.leg(first, "a"))["verdict"] == "dial"
    assert refused(await switch.leg(second, "a"))
    assert (await switch.leg(first, "b"))["verdict"] == "dial"
    await switch.overload.write()
    row = await house.row("SELECT * FROM origination WHERE origination_id = $1", second)
    assert (row["state"], row["reason"], row["refuse_reason"]) == ("failed", "a_refused", "overloaded")
    call = await house.row("SELECT * FROM call WHERE state = 'refused'")
    assert (call["sip_call_id"], call["a_number"], str(call["account_id"])) == (
        f"{second}.a",
        who.a_number,
        who.account_id,
    )
    await switch.overload.write()
    assert (await house.row("SELECT * FROM origination WHERE origination_id = $1", first))["ended_at"] is None


async def test_what_cannot_be_kept_is_counted(house: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "KEPT_MAX", 3)
    switch = Switch(house, cps_max=1)
    who = await house.subscriber(balance_micro=10**6)
    for _ in range(6):
        await switch.calls(who)
    await switch.overload.write()
    figures = switch.overload.figures()
    assert (figures["refused_cps"], figures["lost"], figures["waiting"]) == (5, 2, 0)
    assert await house.value("SELECT count(*) FROM call WHERE state = 'refused'") == 3


async def _partner(house: Seeded, who: Who) -> UUID:
    async with house.store.batch() as conn:
        partner_id: UUID = (await add_partner(conn, "Alpha", "EUR"))["partner_id"]
        await conn.execute("UPDATE partner SET keeps_events = true")
        await conn.execute(
            "UPDATE account SET partner_id = $1 WHERE account_id = $2", partner_id, who.account_id
        )
        await conn.execute(
            "UPDATE subscriber SET partner_id = $1 WHERE account_id = $2", partner_id, who.account_id
        )
    return partner_id
