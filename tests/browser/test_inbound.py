"""The phone network calls a user's number: the browser rings."""

from __future__ import annotations

from playwright.async_api import expect

from tests.browser.house import BERLIN
from tests.browser.stage import BALANCE_MICRO, Stage

CALLER = f"{BERLIN}123"


async def test_a_call_from_the_network_rings_the_browser_and_is_heard(stage: Stage) -> None:
    user = await stage.user()
    phone = await stage.phone(user, "callee", locale="de-DE")
    await stage.registered(user, 1)
    stage.called_from_outside(user, CALLER)
    await phone.is_("call-state", state="incoming")
    await expect(phone.part("peer")).to_have_text(CALLER)
    await phone.picture("ringing")
    await phone.press("answer")
    await phone.is_in_call()
    await phone.talks()
    await phone.picture("talking")
    await phone.press("hangup")
    await phone.is_over()
    (row,) = await phone.history()
    assert (row["direction"], row["number"]) == ("incoming", CALLER)
    assert await stage.balance(user) == BALANCE_MICRO


async def test_who_hangs_up_while_it_rings_is_shown_as_missed(stage: Stage) -> None:
    user = await stage.user()
    phone = await stage.phone(user, "callee")
    await stage.registered(user, 1)
    stage.called_from_outside(user, CALLER, ring_s=1)
    await phone.is_("call-state", state="incoming")
    await phone.is_over()
    (row,) = await phone.history()
    assert row["direction"] == "incoming"
    await phone.picture("missed")
