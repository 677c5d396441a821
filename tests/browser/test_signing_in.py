"""A link is good once and for a while; what is left of it afterwards says so."""

from __future__ import annotations

from playwright.async_api import expect

from tests.browser.stage import Stage


async def test_a_link_signs_in_once(stage: Stage) -> None:
    user = await stage.user()
    link = await stage.link(user)
    first, second = await stage.browser("first"), await stage.browser("second", locale="de-DE")
    await first.sign_in(link)
    assert "#" not in first.page.url  # whoever looks over the shoulder, or at the history, finds nothing
    await expect(first.page.locator("#number")).to_contain_text(user.number[-6:])
    await second.open(link)
    await second.is_("message", reason="link-bad")
    await second.is_("sign-in-state", state="signed-out")
    await second.picture("link-used")

    await first.page.reload()  # the session lives as long as the tab
    await first.is_("sign-in-state", state="ready")


async def test_an_expired_link_says_so(stage: Stage) -> None:
    user = await stage.user()
    link = await stage.link(user)
    await stage.run("UPDATE sign_in_link SET expires_at = now() WHERE subscriber_id = $1", user.subscriber_id)
    phone = await stage.browser("late")
    await phone.open(link)
    await phone.is_("message", reason="link-bad")
    await phone.is_("sign-in-state", state="signed-out")


async def test_signing_out_ends_the_session_and_the_registration(stage: Stage) -> None:
    user = await stage.user()
    phone = await stage.phone(user, "leaving")
    await stage.registered(user, 1)
    await phone.page.locator("#sign-out").click()
    await phone.is_("sign-in-state", state="signed-out")
    await stage.registered(user, 0)
    await phone.page.reload()
    await phone.is_("sign-in-state", state="signed-out")
