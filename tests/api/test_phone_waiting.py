"""Somebody calls one who waits for an invitation: what keeps them out is told before the call, after it and later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from bridge.calls.admit import Admitted
from bridge.calls.ring import KEPT_OUT
from bridge.database import transaction
from bridge.rollout import store
from bridge.telephony.cause import Refuse
from tests.api.scene import Api
from tests.api.test_phone_sessions import Browser, signed_in
from tests.postgres.rollouts import AT, Rolling, rolled_out
from tests.seeded import Who

TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


class Waiting:
    """Anna, who may call, and Ben, who waits."""

    def __init__(self, api: Api, rolling: Rolling, anna: Who, ben: Who, browser: Browser) -> None:
        self.api, self.rolling, self.anna, self.ben, self.browser = api, rolling, anna, ben, browser

    async def quoted(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.browser.get("quote", to=self.ben.a_number)).json()
        return told

    async def called(self) -> Refuse | Admitted:
        return await self.api.house.call(self.anna, self.ben.a_number)

    async def waits(self) -> str:
        return await self.rolling.state_of(await self.rolling.id_of(self.ben))


@pytest.fixture
async def waiting(api: Api) -> Waiting:
    rolling = await rolled_out(api.house)
    anna = await api.house.subscriber(balance_micro=10**6)
    ben = await api.house.subscriber(allowed=False)
    async with transaction(api.house.pool) as conn:
        assert await store.enrol(conn, await rolling.id_of(ben), datetime.now(UTC)) == "waiting"
    await api.house.have_phones()
    return Waiting(api, rolling, anna, ben, await signed_in(api, anna))


async def no_window(waiting: Waiting) -> None:
    await waiting.rolling.window(state="planned", opens_at=TOMORROW)


async def quota(waiting: Waiting) -> None:
    other = await waiting.rolling.person()
    await waiting.rolling.window(quota=1)
    assert await waiting.rolling.calls(await waiting.rolling.id_of(waiting.anna), other) == "activated"
    await waiting.rolling.window(state="planned", opens_at=TOMORROW)


async def limit(waiting: Waiting) -> None:
    await waiting.rolling.settings(invite_limit=0)
    await waiting.rolling.window()


async def wave(waiting: Waiting) -> None:
    await waiting.rolling.wave(country="FR")
    await waiting.rolling.window()


async def keyed(waiting: Waiting) -> None:
    """By somebody else's call."""
    await waiting.rolling.wave(server_key=False)
    await waiting.rolling.window()
    other = await waiting.rolling.enabled()
    assert await waiting.rolling.calls(other, await waiting.rolling.id_of(waiting.ben)) == "keyed"


async def loop(waiting: Waiting) -> None:
    """Ben had brought in Anna, left, and came again."""
    rolling = waiting.rolling
    await rolling.window()
    anna, ben = [await rolling.id_of(who) for who in (waiting.anna, waiting.ben)]
    await waiting.api.house.rows("DELETE FROM rollout_allow WHERE subscriber_id = $1", anna)
    async with transaction(waiting.api.house.pool) as conn:
        assert await store.enrol(conn, anna, AT) == "waiting"
        assert await store.seed(conn, rolling.rollout_id, ben, "tests", AT)
        assert await store.called(conn, ben, anna, None, AT) == "activated"
        assert await store.remove(conn, rolling.rollout_id, ben, "tests", AT)
        assert await store.enrol(conn, ben, AT) == "waiting"


@pytest.mark.parametrize("kept_out", [no_window, quota, limit, wave, keyed, loop])
async def test_what_keeps_them_out_is_told_before_and_after(waiting: Waiting, kept_out: Any) -> None:
    await kept_out(waiting)
    word = kept_out.__name__
    opens_at = TOMORROW if word in ("no_window", "quota") else None
    told = await waiting.quoted()
    said = {"reason": "not_enabled", "detail": word, "opens_at": told["opens_at"]}
    assert told == {"number": waiting.ben.a_number, "verdict": "refused"} | said
    assert (told["opens_at"] and datetime.fromisoformat(told["opens_at"])) == opens_at
    before = await waiting.waits()

    refused = await waiting.called()
    assert isinstance(refused, Refuse)
    assert (refused.reason.value, refused.cause, refused.detail) == ("not_enabled", 20, word)
    assert await waiting.waits() == before in ("waiting", "keyed")
    (row,) = (await waiting.browser.get("calls")).json()["data"]
    assert (row["reason"], row["detail"]) == ("not_enabled", word)
    sip_call_id = await waiting.api.house.value("SELECT sip_call_id FROM call")
    of = (await waiting.browser.get("calls/of", sip_call_id=sip_call_id)).json()["call"]
    assert {name: of[name] for name in said} == said


def test_no_word_is_left_out() -> None:
    assert {one.__name__ for one in (no_window, quota, limit, wave, keyed, loop)} == KEPT_OUT


async def test_a_call_that_would_let_them_in_is_quoted_so_and_asking_lets_nobody_in(waiting: Waiting) -> None:
    window: UUID = await waiting.rolling.window(quota=1)
    told = await waiting.quoted()
    assert (told["verdict"], told["enables"], told["on_net"]) == ("admitted", True, True)
    assert await waiting.waits() == "waiting"
    assert await waiting.rolling.window_state(window) == ("open", "operator", 0)
    assert isinstance(await waiting.called(), Admitted)
    assert await waiting.waits() == "activated"
    assert (await waiting.quoted())["enables"] is False


async def test_where_the_plan_goes_on_over_a_carrier_so_does_the_quote(waiting: Waiting) -> None:
    await waiting.api.house.rows("UPDATE plan SET on_net_fallback = true")
    await waiting.api.house.reload()
    await waiting.api.books.load()
    told = await waiting.quoted()
    assert (told["verdict"], told["on_net"], told["free"]) == ("admitted", False, False)
    called = await waiting.called()
    assert isinstance(called, Admitted)
    assert called.frozen.routes


async def test_partners_are_told_the_same(waiting: Waiting) -> None:
    api = waiting.api
    subscriber_id = f"sub_{(await waiting.rolling.id_of(waiting.anna)).hex}"
    question = {"subscriber_id": subscriber_id, "dialled": waiting.ben.a_number, "seconds": 90}

    async def asked() -> dict[str, Any]:
        answer = await api.operator.post("/v1/quotes", question)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    told = await asked()
    assert (told["verdict"], told["reason"], told["detail"]) == ("refused", "not_enabled", "no_window")
    await waiting.rolling.window()
    told = await asked()
    assert (told["verdict"], told["on_net"], told["free"]) == ("admitted", True, "on-net")
    assert (told["charge"], told["routes"], told["lasts_s"], told["first_hold"]) == ("0.00", [], 90, "0.00")
    assert await waiting.waits() == "waiting"
    question["dialled"] = "+493023125010"
    assert (await asked())["on_net"] is False
