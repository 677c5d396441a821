"""Users of one app call each other: free, in browsers; and a call lets in who has waited for it."""

from __future__ import annotations

from uuid import UUID

from playwright.async_api import expect

from bridge.partners.store import add_credential
from tests.browser.house import BERLIN
from tests.browser.stage import BALANCE_MICRO, Stage


async def test_a_call_between_two_browsers_activates_the_second(stage: Stage) -> None:
    rollout = await stage.rollout()
    anna = await stage.user(rollout=rollout)
    ben = await stage.user(rollout=rollout, allowed=False)
    caller, callee = await stage.phone(anna, "anna"), await stage.phone(ben, "ben", locale="de-DE")
    await callee.call(f"{BERLIN}000")
    await callee.is_("message", reason="not_invited")
    await callee.picture("waiting")
    await stage.registered(ben, 1)

    await caller.call(ben.number)
    await callee.is_("call-state", state="incoming")
    await expect(callee.part("peer")).to_have_text(anna.number)
    await callee.picture("ringing")
    await callee.press("answer")
    for phone in (caller, callee):
        await phone.is_in_call()
        await phone.talks()
    await caller.picture("talking")
    await callee.press("hangup")
    await caller.is_over()

    assert await stage.member_state(rollout, ben) == "activated"
    (told,) = await stage.stories(anna)
    assert (told["state"], told["attempts"]) == ("answered", [])
    (row,) = await caller.history()
    assert (row["number"], row["direction"], float(row["cost"] or 0)) == (ben.number, "outgoing", 0)
    assert [row["direction"] for row in await callee.history(2)] == ["incoming", "outgoing"]
    assert (await stage.balance(anna), await stage.balance(ben)) == (BALANCE_MICRO, BALANCE_MICRO)

    # Who was let in is in the chain, and may call on.
    await callee.tab("invites")
    await callee.is_("standing", state="enabled")
    await callee.picture("enabled")
    await callee.tab("dial")
    await callee.call(f"{BERLIN}000")
    await callee.is_in_call()
    await callee.press("hangup")
    await callee.is_over()


async def test_a_call_that_is_declined_says_so(stage: Stage) -> None:
    anna, ben = await stage.user(balance_micro=0), await stage.user(balance_micro=0)
    caller, callee = await stage.phone(anna, "anna"), await stage.phone(ben, "ben")
    await stage.registered(ben, 1)
    await caller.call(ben.number)
    await callee.press("reject")
    await caller.is_over()
    await caller.is_("message", reason="declined")


async def test_while_no_window_is_open_nobody_is_let_in(stage: Stage) -> None:
    rollout = await stage.rollout(opened=False)
    anna = await stage.user(rollout=rollout)
    ben = await stage.user(rollout=rollout, allowed=False)
    caller, callee = await stage.phone(anna, "anna"), await stage.phone(ben, "ben")
    await stage.registered(ben, 1)
    await caller.dial(ben.number)
    await caller.is_("quote", verdict="refused", reason="not_enabled", detail="no_window")
    closed = "They are waiting for an invitation. Invitations are closed now."
    await expect(caller.part("quote")).to_have_text(closed)
    await caller.press("call-button")
    await caller.is_("message", reason="not_enabled", detail="no_window")
    await expect(caller.part("message")).to_have_text(closed)
    await caller.picture("closed")
    tomorrow = "UPDATE rollout_window SET opens_at = now() + interval '1 day' WHERE window_id = $1"
    await stage.run(tomorrow, UUID(hex=rollout.window[4:]))
    await caller.page.locator("#language").click()
    await expect(caller.part("quote")).to_contain_text("Einladungen sind zurzeit geschlossen.")
    await expect(caller.part("quote")).to_contain_text("Das nächste Fenster öffnet um")
    await caller.picture("planned")
    await callee.is_("call-state", state="idle")
    await callee.call(f"{BERLIN}000")
    await callee.is_("message", reason="not_invited")
    assert await stage.member_state(rollout, ben) == "waiting"
    await callee.tab("invites")
    await callee.is_("window-state", state="planned")
    await callee.is_("standing", state="waiting")
    await callee.picture("planned")


async def test_who_signs_in_while_it_rings_is_rung(stage: Stage) -> None:
    anna, ben = await stage.user(), await stage.user()
    await stage.ask(lambda conn: add_credential(conn, ben.subscriber_id, 600))  # he had a phone before
    caller = await stage.phone(anna, "anna")
    await caller.call(ben.number)
    await caller.is_("call-state", state="ringing")
    callee = await stage.phone(ben, "ben")
    await callee.press("answer")
    for phone in (caller, callee):
        await phone.is_in_call()
        await phone.talks()
    await caller.press("hangup")
    await callee.is_over()


async def test_all_phones_of_a_user_ring_until_one_is_answered(stage: Stage) -> None:
    anna, ben = await stage.user(), await stage.user()
    caller = await stage.phone(anna, "anna")
    left, right = await stage.phone(ben, "left"), await stage.phone(ben, "right")
    await stage.registered(ben, 2)
    await caller.call(ben.number)
    for phone in (left, right):
        await phone.is_("call-state", state="incoming")
    await right.press("answer")
    await right.talks()
    await left.is_over()
    await caller.press("hangup")
    await right.is_over()
