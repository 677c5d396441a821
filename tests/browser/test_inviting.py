"""The invitation screen: who may invite, what comes of it, and by keyboard alone."""

from __future__ import annotations

from playwright.async_api import expect

from tests.browser.stage import Stage


async def test_an_invitation_is_sent_and_taken_up(stage: Stage) -> None:
    rollout = await stage.rollout()
    anna = await stage.user(rollout=rollout)
    ben = await stage.user(rollout=rollout, allowed=False)
    host, guest = await stage.phone(anna, "anna"), await stage.phone(ben, "ben", locale="de-DE")
    await host.tab("invites")
    await host.is_("window-state", state="open")
    await host.part("invite-number").fill(ben.number)
    await host.press("invite-send")
    await host.is_("invite-status", state="sent")
    await host.picture("invited")
    code = (await host.part("invite-status").inner_text()).split()[-1]

    await guest.tab("invites")
    await guest.is_("standing", state="waiting")
    await guest.picture("waiting")
    await guest.part("accept-code").fill(code)
    await guest.press("accept-send")
    await guest.is_("invite-status", state="activated")
    await guest.is_("standing", state="enabled")
    assert await stage.member_state(rollout, ben) == "activated"

    late = await stage.phone(await stage.user(rollout=rollout, allowed=False), "late")
    await late.tab("invites")
    await late.part("accept-code").fill(code)  # used already, and not theirs
    await late.press("accept-send")
    await expect(late.part("invite-status")).not_to_be_empty()
    await late.is_("standing", state="waiting")
    await late.picture("refused")
