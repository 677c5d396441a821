"""Somebody with a browser calls the phone network: what they see, what they hear, and what it costs."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.browser.house import BERLIN, PRICE_MICRO, SECOND_MICRO
from tests.browser.stage import BALANCE_MICRO, Stage


async def test_a_call_to_the_network_is_heard_and_billed(stage: Stage) -> None:
    user = await stage.user()
    phone = await stage.phone(user, "caller")
    await phone.dial(f"{BERLIN}000")
    await phone.is_("quote", verdict="admitted")
    await phone.picture("quote")
    await phone.press("call-button")
    await phone.is_in_call()
    await phone.talks()
    await phone.press("mute")
    await expect(phone.part("mute")).to_have_attribute("aria-pressed", "true")
    await phone.press("mute", "dtmf-5")
    await phone.is_("call-cost", cost="0.09")
    await phone.picture("talking")
    await phone.press("hangup")
    await phone.is_over()

    (told,) = await stage.stories(user)
    assert told["state"] == "answered"
    (row,) = await phone.history()
    assert (row["number"], row["direction"], row["cost"]) == (f"{BERLIN}000", "outgoing", "0.09")
    await phone.picture("history")
    assert await stage.balance(user) == BALANCE_MICRO - PRICE_MICRO


async def test_money_that_ends_is_told_first_and_then_the_call_is_cut(stage: Stage) -> None:
    user = await stage.user(plan="by the second", balance_micro=8 * SECOND_MICRO)
    phone = await stage.phone(user, "caller", locale="de-DE")
    await phone.call(f"{BERLIN}000")
    await phone.is_in_call()
    await phone.is_("warning", warnings=re.compile("low_balance"))
    await phone.is_in_call()
    await phone.picture("warned")
    await phone.is_over()
    assert await phone.part("hangup").is_hidden()

    (told,) = await stage.stories(user)
    assert told["cdr"]["release_party"] == "bridge"
    assert 0 <= await stage.balance(user) < SECOND_MICRO
    (row,) = await phone.history()
    assert row["cost"] in ("0.07", "0.08")


@pytest.mark.parametrize(("ending", "reason"), [("001", "busy"), ("004", "not_found")])
async def test_a_call_that_is_not_answered_says_why_and_costs_nothing(
    stage: Stage, ending: str, reason: str
) -> None:
    user = await stage.user()
    phone = await stage.phone(user, "caller")
    await phone.call(f"{BERLIN}{ending}")
    await phone.is_over()
    await phone.is_("message", reason=reason)
    await stage.stories(user)
    assert await stage.balance(user) == BALANCE_MICRO


async def test_without_money_the_quote_says_so_and_so_does_the_call(stage: Stage) -> None:
    user = await stage.user(balance_micro=0)
    phone = await stage.phone(user, "caller")
    await phone.dial(f"{BERLIN}000")
    await phone.is_("quote", verdict="refused", reason="no_credit")
    await phone.press("call-button")
    await phone.is_("message", reason="no_credit")
    await phone.picture("no-credit")


async def test_a_call_is_made_and_ended_by_keyboard_alone(stage: Stage) -> None:
    user = await stage.user()
    phone = await stage.phone(user, "caller")
    keys = phone.page.keyboard
    await phone.part("dial-number").focus()
    await keys.type(f"{BERLIN}000")
    await keys.press("Enter")
    await phone.is_in_call()
    await phone.tab_to("hangup")
    await phone.picture("focus")
    await keys.press("Enter")
    await phone.is_over()
    await stage.stories(user)
