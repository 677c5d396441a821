"""Referrals: both are credited, once for whoever is referred."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from uuid import uuid4

import pytest

from bridge.errors import (
    Conflict,
    NotFound,
    StoreError,
)
from tests.bookings import (
    DOCUMENTED,
    MICRO,
    american,
    balance,
    booked,
    sound,
)
from tests.seeded import Seeded, Who, at_once


async def test_a_referral_is_credited_to_both_once(house: Seeded) -> None:
    who, other = await house.subscriber(), await house.subscriber()
    ids = await at_once(
        [partial(booked, house, "refer", who.account_id, other.account_id, MICRO, key="k")] * 12
    )
    assert len(set(ids)) == 1
    assert [await balance(house, one.account_id) for one in (who, other)] == [MICRO, MICRO]
    with pytest.raises(Conflict, match="was referred before"):
        await booked(house, "refer", who.account_id, other.account_id, MICRO, key="k2")
    third = await house.subscriber()
    with pytest.raises(Conflict, match="was referred before"):
        await booked(house, "refer", third.account_id, other.account_id, MICRO, key="k3")
    with pytest.raises(Conflict, match="itself"):
        await booked(house, "refer", other.account_id, who.account_id, MICRO, key="k4")
    await booked(house, "reverse", ids[0], **DOCUMENTED, key="v")
    with pytest.raises(Conflict, match="was referred before"):
        await booked(house, "refer", who.account_id, other.account_id, MICRO, key="k5")
    assert [await balance(house, one.account_id) for one in (who, other, third)] == [0, 0, 0]
    await sound(house)


async def test_who_cannot_refer_whom(house: Seeded) -> None:
    who, other = await house.subscriber(), await house.subscriber()
    refer = partial(booked, house, "refer")
    with pytest.raises(StoreError, match="nobody refers themselves"):
        await refer(who.account_id, who.account_id, MICRO, key="k")
    for amount_micro in (-1, -MICRO):
        with pytest.raises(StoreError, match="must be positive"):
            await refer(who.account_id, other.account_id, amount_micro, key="k")
    with pytest.raises(NotFound, match="is kept in USD"):
        await refer(who.account_id, await american(house), MICRO, key="k")
    with pytest.raises(NotFound):
        await refer(who.account_id, str(uuid4()), MICRO, key="k")
    carrier = await house.value("SELECT account_id::text FROM account WHERE name = 'carrier alpha'")
    with pytest.raises(Conflict, match="between active subscribers"):
        await refer(who.account_id, carrier, MICRO, key="k")
    await house.rows("UPDATE account SET state = 'suspended' WHERE account_id = $1", other.account_id)
    for pair in ((who, other), (other, who)):
        with pytest.raises(Conflict, match="between active subscribers"):
            await refer(pair[0].account_id, pair[1].account_id, MICRO, key="k")
    assert await house.value("SELECT count(*) FROM referral") == 0
    await sound(house)


async def test_referrals_of_one_referrer_are_limited_however_many_at_once(house: Seeded) -> None:
    who = await house.subscriber()
    others = [await house.subscriber() for _ in range(12)]

    async def one(other: Who) -> bool:
        with suppress(Conflict):
            await booked(
                house, "refer", who.account_id, other.account_id, MICRO, key=other.a_number, referrals_max=3
            )
            return True
        return False

    assert sum(await at_once([partial(one, other) for other in others])) == 3
    assert await balance(house, who.account_id) == 3 * MICRO
    await sound(house)


async def test_two_who_refer_each_other_at_once_are_credited_once(house: Seeded) -> None:
    for number in range(6):
        left, right = [(await house.subscriber()).account_id for _ in range(2)]

        async def one(first: str, second: str, key: str) -> bool:
            with suppress(Conflict):
                await booked(house, "refer", first, second, MICRO, key=key)
                return True
            return False

        done = await at_once(
            [partial(one, left, right, f"a{number}"), partial(one, right, left, f"b{number}")]
        )
        assert sum(done) == 1
