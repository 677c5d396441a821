"""The acceptance case: thirty days with the plan that E-Plus sold, from a message at zero balance to the renewal.

Three people of one app live through July 2014. Anna has everything, Ben brought her, Cora runs out of money. Times are
local; what is charged stands beside what was done. After each chapter nothing is held and the books are sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from bridge.calls.ended import EndRecord
from bridge.config import Calls
from bridge.database import transaction
from bridge.errors import Conflict, InsufficientFunds
from bridge.ledger.store import refer
from bridge.rating.plan_file import PlanFile
from bridge.rating.store.allowances import buy, renew_due, set_zone
from bridge.sandbox.seed import ensure_plans, first_bundles
from bridge.sandbox.shipped import shipped_plans
from bridge.telephony.cause import Refuse, RefuseReason
from bridge.telephony.money import format_micro, parse_micro
from tests.seeded import Seeded, Who

BERLIN: Final = ZoneInfo("Europe/Berlin")
LANDLINE: Final = "+493023125010"
SLICE_S: Final = 120
MB: Final = 1_000_000
GB: Final = 1_000_000_000
UNITS, MESSENGER, PACK = "600 units", "messenger", "roaming pack"


def july(day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
    """An instant of the story; 32 July is 1 August."""
    return datetime(2014, 7, 1, hour, minute, second, tzinfo=BERLIN) + timedelta(days=day - 1)


@dataclass(frozen=True)
class Bill:
    """What something cost: money as a person reads it, and units burnt."""

    cost: str = "0.00"
    units: int = 0
    written_off: str = "0.00"
    throttled: bool = False
    talk_s: int | None = None  # where the call was cut


@dataclass
class Life:
    """The house with the plan in it, and what people do there."""

    house: Seeded
    plan: PlanFile
    slices: list[tuple[int, int, str]] = field(
        default_factory=list
    )  # of the last call: seconds, units, money held
    _serial: count[int] = field(default_factory=count)

    async def activate(self, at: datetime) -> Who:
        """A new SIM: no money yet, and what every subscriber of the plan has."""
        who = await self.house.subscriber()
        included = [bundle.name for bundle in self.plan.bundles if bundle.included]
        async with transaction(self.house.pool) as conn:
            await first_bundles(conn, who.account_id, included, at)
        return who

    async def buys(self, who: Who, bundle: str, at: datetime) -> None:
        async with transaction(self.house.pool) as conn:
            await buy(conn, who.account_id, bundle, key=self._key(), author="test", at=at)

    async def tops_up(self, who: Who, amount: str) -> None:
        await self.house.top_up(who, parse_micro(amount), self._key())

    async def refers(self, referrer: Who, referred: Who) -> None:
        amount_micro = self.plan.referral_micro
        async with transaction(self.house.pool) as conn:
            await refer(conn, referrer.account_id, referred.account_id, amount_micro, key=self._key())

    async def goes(self, who: Who, zone: str) -> None:
        subscriber_id = await self.house.value(
            "SELECT subscriber_id FROM subscriber WHERE account_id = $1", who.account_id
        )
        async with transaction(self.house.pool) as conn:
            await set_zone(conn, subscriber_id, zone)

    async def renewals(self, at: datetime) -> int:
        """What the keeper of the switch does every few seconds. How many allowances were renewed."""
        async with transaction(self.house.pool) as conn:
            return len(await renew_due(conn, at))

    async def uses(self, who: Who, service: str, quantity: int, at: datetime) -> Bill:
        used = await self.house.usage(who, service, quantity, self._key(), at)
        units = sum(burn.units for burn in used.burns)
        return Bill(
            format_micro(used.amount_micro), units, format_micro(used.written_off_micro), used.throttled
        )

    async def calls(self, who: Who, at: datetime, talk_s: int, b_number: str = LANDLINE) -> Bill:
        """A call that is answered at once and lasts as long, or as long as units and money do."""
        admitted = await self.house.admitted(who, b_number, at)
        call_id, limit_s = admitted.frozen.call_id, admitted.limit_ms // 1000
        await self.house.answer(call_id, at=at)
        self.slices = [await self._held(call_id, limit_s)]
        while limit_s < talk_s:
            extended = await self.house.extensions.due(at + timedelta(seconds=limit_s))
            if not extended:
                break
            limit_s = extended[0].limit_ms // 1000
            self.slices.append(await self._held(call_id, limit_s))
        cut = limit_s < talk_s
        answered_us = int(at.timestamp()) * 1_000_000
        ended_us = answered_us + min(talk_s, limit_s) * 1_000_000
        record = EndRecord(call_id, 1, answered_us, ended_us, "journal", "ANSWER", 16, "caller", 100)
        assert await self.house.end(record) == {call_id}
        charge = await self.house.row("SELECT * FROM charge WHERE call_id = $1", call_id)
        units = await self.house.value(
            "SELECT coalesce(sum(used_units), 0)::integer FROM burn WHERE source_id = $1", call_id
        )
        cost, lost = format_micro(charge["amount_micro"]), format_micro(charge["written_off_micro"])
        return Bill(cost, units, lost, talk_s=limit_s if cut else None)

    async def is_refused(self, who: Who, at: datetime, b_number: str = LANDLINE) -> RefuseReason:
        verdict = await self.house.call(who, b_number, at)
        assert isinstance(verdict, Refuse)
        return verdict.reason

    async def has(self, who: Who, at: datetime, balance: str, used: dict[str, int]) -> None:
        """So much money, and so many units used of each bundle that is valid then. Nothing is held, all is sound."""
        account = await self.house.account(who)
        assert (format_micro(account["balance_micro"]), account["held_micro"]) == (balance, 0)
        rows = await self.house.rows(
            "SELECT b.name, w.used_units, w.held_units FROM allowance w JOIN bundle b USING (bundle_id)"
            " WHERE w.account_id = $1 AND w.valid @> $2::timestamptz",
            who.account_id,
            at,
        )
        assert {row["name"]: row["used_units"] for row in rows} == used
        assert [row["held_units"] for row in rows] == [0] * len(used)
        assert await self.house.broken() == {}

    async def _held(self, call_id: UUID, limit_s: int) -> tuple[int, int, str]:
        row = await self.house.row(
            "SELECT h.held_micro, (SELECT coalesce(sum(held_units), 0)::integer FROM burn WHERE source_id = call_id)"
            " AS units FROM hold h WHERE call_id = $1",
            call_id,
        )
        return limit_s, row["units"], format_micro(row["held_micro"])

    def _key(self) -> str:
        return f"step {next(self._serial)}"


@pytest.fixture
async def life(house: Seeded) -> Life:
    """The plan as it is shipped, made twice: the second time changes nothing."""
    plans = {plan.name: plan for plan in shipped_plans() if plan.name == "eplus"}
    async with transaction(house.pool) as conn:
        made = await ensure_plans(conn, plans.values())
        assert await ensure_plans(conn, plans.values()) == made
    rules = Calls(slice_s=SLICE_S)
    lived = Seeded(house.pool, house.book, house.store, house.app_id, made["eplus"], rules)
    await lived.reload()
    return Life(lived, plans["eplus"])


async def test_thirty_days(life: Life) -> None:
    anna, ben, cora = [await life.activate(july(1, 8)) for _ in range(3)]
    await at_zero_balance(life, anna, ben)
    await a_bundle_pays_for_everything(life, anna)
    await abroad(life, anna)
    await from_units_to_money_to_nothing(life, anna, ben)
    await the_messenger_is_slowed_down_and_never_charged(life, anna)
    await credit_for_both(life, anna, ben, cora)
    await renewed_in_time(life, anna)
    await renewed_when_money_comes(life, cora)


async def at_zero_balance(life: Life, anna: Who, ben: Who) -> None:
    """1 July. Without a cent the messenger works, and so do calls between its users. Nothing else does."""
    assert await life.uses(anna, "data.messenger", 300 * MB, july(1, 9)) == Bill(units=300 * MB)
    assert await life.calls(anna, july(1, 10), 600, ben.a_number) == Bill()
    assert await life.is_refused(anna, july(1, 11)) is RefuseReason.no_credit
    with pytest.raises(InsufficientFunds):
        await life.buys(anna, UNITS, july(1, 12))
    await life.has(anna, july(1, 13), "0.00", {MESSENGER: 300 * MB})


async def a_bundle_pays_for_everything(life: Life, anna: Who) -> None:
    """2 to 5 July. A unit is a minute, a message or a megabyte; a begun one counts."""
    await life.tops_up(anna, "20.00")
    await life.buys(anna, UNITS, july(2, 9))
    await life.has(anna, july(2, 9), "10.00", {MESSENGER: 300 * MB, UNITS: 0})
    assert await life.calls(anna, july(2, 10), 601) == Bill(units=11)
    assert await life.uses(anna, "sms", 20, july(3, 10)) == Bill(units=20)
    assert await life.uses(anna, "data", 50_500_000, july(4, 10)) == Bill(units=51)
    assert await life.is_refused(anna, july(5, 10), "+442079460123") is RefuseReason.no_rate
    await life.has(anna, july(5, 11), "10.00", {MESSENGER: 300 * MB, UNITS: 82})


async def abroad(life: Life, anna: Who) -> None:
    """6 to 14 July. The bundle of home does not pay there; a pack does, for a week."""
    await life.goes(anna, "roaming")
    assert await life.calls(anna, july(6, 9), 61) == Bill("0.229868")
    assert await life.calls(anna, july(6, 10), 5) == Bill("0.11305")
    assert await life.uses(anna, "sms", 1, july(6, 10)) == Bill("0.0714")
    assert await life.uses(anna, "data", 500_000, july(6, 10)) == Bill("0.119")
    assert await life.uses(anna, "data.messenger", 1_001, july(6, 10)) == Bill("0.000476")
    await life.has(anna, july(6, 11), "9.466206", {MESSENGER: 300 * MB, UNITS: 82})

    await life.buys(anna, PACK, july(6, 12))
    assert await life.calls(anna, july(7, 12), 600) == Bill(units=10)
    assert await life.uses(anna, "data", 30 * MB, july(8, 12)) == Bill(units=30)
    assert await life.uses(anna, "data.messenger", 500_000, july(9, 12)) == Bill(units=1)
    assert await life.uses(anna, "sms", 1, july(9, 12)) == Bill("0.0714")
    await life.has(anna, july(9, 13), "4.404806", {MESSENGER: 300 * MB, UNITS: 82, PACK: 41})

    # What a call holds when the week ends still pays; what is left over does not.
    assert await life.calls(anna, july(13, 11, 59, 30), 180) == Bill("0.2261", units=2)
    assert life.slices == [(120, 2, "0.00"), (240, 2, "0.4522")]
    assert await life.calls(anna, july(13, 12), 60) == Bill("0.2261")
    await life.goes(anna, "home")
    await life.has(anna, july(14, 9), "3.952606", {MESSENGER: 300 * MB, UNITS: 82})


async def from_units_to_money_to_nothing(life: Life, anna: Who, ben: Who) -> None:
    """20 and 21 July. A call begins inside the bundle and ends outside; then only money pays, to the last minute."""
    assert await life.uses(anna, "data", 501 * MB, july(20, 9)) == Bill(units=501)
    assert await life.calls(anna, july(20, 10), 17 * 60 + 121) == Bill("0.27", units=17)
    assert life.slices == [
        *((slice_s, slice_s // 60, "0.00") for slice_s in range(120, 961, 120)),
        (1080, 17, "0.09"),
        (1200, 17, "0.27"),
    ]
    await life.has(anna, july(20, 11), "3.682606", {MESSENGER: 300 * MB, UNITS: 600})

    assert await life.calls(anna, july(21, 9), 61) == Bill("0.18")
    assert await life.calls(anna, july(21, 10), 3600) == Bill("3.42", talk_s=38 * 60)
    assert await life.is_refused(anna, july(21, 11)) is RefuseReason.no_credit
    assert await life.uses(anna, "sms", 1, july(21, 12)) == Bill("0.09", written_off="0.007394")
    assert await life.calls(anna, july(21, 13), 3600, ben.a_number) == Bill()
    await life.has(anna, july(21, 14), "0.00", {MESSENGER: 300 * MB, UNITS: 600})


async def the_messenger_is_slowed_down_and_never_charged(life: Life, anna: Who) -> None:
    """22 July. A gigabyte in thirty days is fair; a byte more is slower, at zero balance still."""
    assert await life.uses(anna, "data.messenger", 700 * MB, july(22, 9)) == Bill(units=700 * MB)
    assert await life.uses(anna, "data.messenger", 1, july(22, 10)) == Bill(units=1, throttled=True)
    await life.has(anna, july(22, 11), "0.00", {MESSENGER: GB + 1, UNITS: 600})


async def credit_for_both(life: Life, anna: Who, ben: Who, cora: Who) -> None:
    """23 July. Ben brought Anna: ten euros each, once, whoever else says so."""
    await life.refers(ben, anna)
    for referrer, referred in ((ben, anna), (cora, anna), (anna, ben)):
        with pytest.raises(Conflict):
            await life.refers(referrer, referred)
    await life.has(anna, july(23, 10), "10.00", {MESSENGER: GB + 1, UNITS: 600})
    await life.has(ben, july(23, 10), "10.00", {MESSENGER: 0})


async def renewed_in_time(life: Life, anna: Who) -> None:
    """31 July and 1 August. The messenger follows for nothing, the bundle for ten euros; neither leaves a gap."""
    assert await life.renewals(july(31, 7, 59)) == 0
    assert await life.renewals(july(31, 7, 59, 57)) == 3
    assert await life.uses(anna, "data.messenger", MB, july(31, 7, 59, 59)) == Bill(units=MB, throttled=True)
    assert await life.uses(anna, "data.messenger", MB, july(31, 8)) == Bill(units=MB)

    assert await life.renewals(july(32, 8, 59, 57)) == 1
    assert await life.is_refused(anna, july(32, 8, 59, 59)) is RefuseReason.no_credit
    assert await life.calls(anna, july(32, 9), 60) == Bill(units=1)
    assert await life.renewals(july(32, 9)) == 0
    await life.has(anna, july(32, 10), "0.00", {MESSENGER: MB, UNITS: 1})


async def renewed_when_money_comes(life: Life, cora: Who) -> None:
    """2 July to 3 August. Cora cannot pay in time: calls cost money, then are refused, until she tops up."""
    await life.tops_up(cora, "10.50")
    await life.buys(cora, UNITS, july(2, 12))
    assert await life.calls(cora, july(2, 13), 600) == Bill(units=10)
    await life.has(cora, july(2, 14), "0.50", {MESSENGER: 0, UNITS: 10})

    assert await life.renewals(july(32, 11, 59, 58)) == 0
    assert await life.calls(cora, july(32, 11, 59, 59), 60) == Bill(units=1)
    assert await life.calls(cora, july(32, 12), 61) == Bill("0.18")
    assert await life.calls(cora, july(33, 12), 600) == Bill("0.27", talk_s=180)
    assert await life.is_refused(cora, july(33, 13)) is RefuseReason.no_credit
    assert await life.uses(cora, "data.messenger", MB, july(33, 14)) == Bill(units=MB)
    await life.has(cora, july(33, 15), "0.05", {MESSENGER: MB})

    await life.tops_up(cora, "10.00")
    assert await life.renewals(july(34, 18)) == 1
    assert await life.calls(cora, july(34, 18), 61) == Bill(units=2)
    await life.has(cora, july(34, 19), "0.05", {MESSENGER: MB, UNITS: 2})
