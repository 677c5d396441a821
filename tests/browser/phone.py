"""The browser phone as a person has it before them: one browser context, driven by what the page shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, BrowserContext, Locator, Page, Response, ViewportSize, expect

# What is waited for takes seconds: a call is set up, a poll comes round, a machine has other things to do.
DEADLINE_MS: Final = 15_000
PICTURES: Final = Path(__file__).parents[2] / "build" / "screenshots"
# So many packets in each direction are more than comfort noise and a lucky start: 20 ms each
PACKETS: Final = 50
TABS_MAX: Final = 30
SCREEN: Final[ViewportSize] = {"width": 390, "height": 844}


class Phone:
    """One user's browser.

    said  what the page wrote to its console; faults: exceptions nobody caught
    """

    def __init__(self, context: BrowserContext, page: Page, name: str) -> None:
        self.context, self.page, self._name = context, page, name
        self.said: list[str] = []
        self.faults: list[str] = []
        self._taken = 0
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("response", self._answered)
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _answered(self, response: Response) -> None:
        if not response.ok:
            self.said.append(f"{response.status}: {response.request.method} {response.url}")

    def part(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)

    async def open(self, link: str) -> None:
        await self.page.goto(link)

    async def sign_in(self, link: str) -> None:
        """Follow the link, and wait until the switch has registered it."""
        await self.open(link)
        await self.is_("sign-in-state", state="ready")

    async def is_(self, name: str, /, **data: str | re.Pattern[str]) -> None:
        """Wait until a part of the page has these data attributes."""
        for key, value in data.items():
            await expect(self.part(name)).to_have_attribute(f"data-{key}", value, timeout=DEADLINE_MS)

    async def is_in_call(self) -> None:
        await self.is_("call-state", state="in-call")

    async def is_over(self) -> None:
        await self.is_("call-state", state="ended")

    async def dial(self, number: str) -> None:
        await self.part("dial-number").fill(number)

    async def call(self, number: str) -> None:
        await self.dial(number)
        await self.press("call-button")

    async def press(self, *names: str) -> None:
        for name in names:
            await self.part(name).click(timeout=DEADLINE_MS)

    async def tab(self, name: str) -> None:
        await self.page.locator(f"#tab-{name}").click()

    async def tab_to(self, name: str) -> None:
        """With the Tab key, as somebody without a mouse."""
        for _ in range(TABS_MAX):
            if await self.part(name).evaluate("part => part === document.activeElement"):
                return
            await self.page.keyboard.press("Tab")
        raise AssertionError(f"{TABS_MAX} times Tab do not lead to {name}")

    async def talks(self) -> None:
        """Wait until sound has come and gone."""
        for way in ("sent", "received"):
            await self.page.wait_for_function(
                "([way, packets]) => document.querySelector('[data-testid=media]').dataset[way] >= packets",
                arg=[way, PACKETS],
                timeout=DEADLINE_MS,
            )

    async def history(self, rows: int = 1) -> list[dict[str, str]]:
        """The newest calls, when the list has so many and all are over: number, state, direction, cost."""
        await self.tab("calls")
        await expect(self.part("history-row")).to_have_count(rows, timeout=DEADLINE_MS)
        await expect(self.part("history-row").and_(self.page.locator("[data-state=live]"))).to_have_count(
            0, timeout=DEADLINE_MS
        )
        shown: list[dict[str, str]] = await self.part("history-row").evaluate_all(
            "rows => rows.map(row => ({...row.dataset}))"
        )
        return shown

    async def picture(self, what: str) -> None:
        """Keep what it looks like now."""
        self._taken += 1
        PICTURES.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=PICTURES / f"{self._name}-{self._taken}-{what}.png", full_page=True)

    async def close(self) -> None:
        """With a last picture, whatever came before."""
        try:
            await self.picture("end")
        finally:
            await self.context.close()

    def report(self) -> tuple[str, str]:
        return f"browser {self._name}", "\n".join(
            [*self.said, *(f"uncaught: {fault}" for fault in self.faults)]
        )


async def new_phone(browser: Browser, test: str, name: str, *, locale: str = "en-GB") -> Phone:
    """An empty browser of a phone's size, with leave to use the microphone. test, name: for its pictures."""
    context = await browser.new_context(locale=locale, viewport=SCREEN, permissions=["microphone"])
    told = re.sub(r"[^a-z0-9]+", "-", test.removeprefix("test_")).strip("-") + f"-{name}"
    for earlier in PICTURES.glob(f"{told}-[0-9]*.png"):
        earlier.unlink()
    return Phone(context, await context.new_page(), told)
