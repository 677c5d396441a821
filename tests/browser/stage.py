"""One test's stage: fresh users with phones of their own, and the books when all is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID, uuid4

from httpx import AsyncClient
from playwright.async_api import Browser

from bridge.api.fields import show_id
from bridge.calls.audit import audit
from bridge.calls.story import story
from bridge.database import Connection, connect
from bridge.rollout.store import enrol
from bridge.sandbox.process import tail
from bridge.sandbox.seed import SeedSubscriber, seed_subscriber
from tests.browser.house import House
from tests.browser.phone import Phone, new_phone

T = TypeVar("T")

SETTLED_S: Final = 15.0
TICK_S: Final = 0.05
BALANCE_MICRO: Final = 5_000_000

_serial = count(1)


@dataclass(frozen=True)
class User:
    number: str
    subscriber_id: UUID

    @property
    def id(self) -> str:
        return show_id("sub", self.subscriber_id)


@dataclass(frozen=True)
class Rollout:
    """id, window: as the API writes them."""

    app_id: str
    id: str
    window: str


class Stage:
    def __init__(self, house: House, browser: Browser, name: str) -> None:
        self.house, self._browser = house, browser
        self._test = name
        self._phones: list[Phone] = []
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._http = await self._open.enter_async_context(
            AsyncClient(base_url=self.house.stack.api_url, timeout=20)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up by closing the browsers, and prove the books. After a failure, only the former."""
        async with self._open:
            for phone in self._phones:
                await phone.close()
            if error is None:
                faults = [fault for phone in self._phones for fault in phone.faults]
                assert not faults, faults
                await self.until(self._quiet, "a call is still live")
                broken = {name: rows for name, rows in (await self.ask(audit)).items() if rows}
                assert not broken, broken

    # ---------------------------------------------------------------- people

    async def user(self, *, rollout: Rollout | None = None, plan: str = "standard", **given: Any) -> User:
        """A new subscriber; the account has five euros, and they may call, unless told otherwise.

        rollout  of whose app they are; who may not call waits in it
        """
        number = f"+4915113{next(_serial):06d}"
        who = SeedSubscriber(number, **{"balance_micro": BALANCE_MICRO, **given})
        app_id = rollout.app_id if rollout else self.house.app_id

        async def work(conn: Connection) -> UUID:
            async with conn.transaction():
                account_id = await seed_subscriber(conn, app_id, self.house.plans[plan], who)
                found: UUID = await conn.fetchval(
                    "SELECT subscriber_id FROM subscriber WHERE account_id = $1", UUID(account_id)
                )
                if not who.allowed:
                    assert await enrol(conn, found, datetime.now(UTC)) == "waiting"
                return found

        return User(number, await self.ask(work))

    async def link(self, user: User) -> str:
        """A sign-in link, as the messenger's own app asks for one."""
        told = await self.post(f"/v1/subscribers/{user.id}/sign-in-links")
        return str(told["url"])

    async def browser(self, name: str, **given: Any) -> Phone:
        """One in which nobody has signed in yet."""
        phone = await new_phone(self._browser, self._test, name, **given)
        self._phones.append(phone)
        return phone

    async def phone(self, user: User, name: str, **given: Any) -> Phone:
        """The same, signed in and registered."""
        phone = await self.browser(name, **given)
        await phone.sign_in(await self.link(user))
        return phone

    # ---------------------------------------------------------------- the operator

    async def rollout(self, *, opened: bool = True) -> Rollout:
        """An app of its own in a rollout, with a window that is open or not yet."""
        app = f"messenger{next(_serial)}"
        app_id = await self.ask(lambda conn: self.house.add_app(conn, app))
        made = await self.post("/v1/rollouts", {"app": app, "name": "trial"})
        window = await self.post(f"/v1/rollouts/{made['rollout_id']}/windows", {"name": "first"})
        rollout = Rollout(app_id, made["rollout_id"], window["window_id"])
        if opened:
            await self.open_window(rollout)
        return rollout

    async def open_window(self, rollout: Rollout) -> None:
        await self.post(f"/v1/rollouts/{rollout.id}/windows/{rollout.window}/open")

    async def member_state(self, rollout: Rollout, user: User) -> str:
        told = await self.get(f"/v1/rollouts/{rollout.id}/members/{user.id}")
        return str(told["state"])

    def called_from_outside(self, user: User, a_number: str, *, ring_s: int = 30) -> None:
        """Somebody in the phone network calls a user's own number."""
        self.house.carriers.call_in(a_number, user.number, 60, ring_s=ring_s)

    async def get(self, path: str) -> Any:
        answer = await self._http.get(path, headers={"Authorization": f"Bearer {self.house.operator}"})
        assert answer.is_success, (answer.status_code, answer.text)
        return answer.json()

    async def post(self, path: str, body: Any = None) -> Any:
        answer = await self._http.post(
            path,
            json=body,
            headers={"Authorization": f"Bearer {self.house.operator}", "Idempotency-Key": str(uuid4())},
        )
        assert answer.is_success, (answer.status_code, answer.text)
        return answer.json()

    # ---------------------------------------------------------------- the books

    async def ask(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with connect(self.house.stack.dsn) as conn:
            return await work(conn)

    async def value(self, sql: str, *values: object) -> Any:
        return await self.ask(lambda conn: conn.fetchval(sql, *values))

    async def run(self, sql: str, *values: object) -> None:
        await self.ask(lambda conn: conn.execute(sql, *values))

    async def registered(self, user: User, phones: int) -> None:
        """Wait until so many phones of the user are."""

        async def as_many() -> bool:
            sql = "SELECT count(*) FROM asterisk.ps_contacts WHERE subscriber_id = $1"
            return bool(await self.value(sql, user.subscriber_id) == phones)

        await self.until(as_many, f"{user.number} has not {phones} phones")

    async def until(self, happens: Callable[[], Awaitable[T]], otherwise: str) -> T:
        """What `happens` returns once that is true. For what sends no event to a test."""
        deadline = asyncio.get_running_loop().time() + SETTLED_S
        while not (found := await happens()):
            assert asyncio.get_running_loop().time() < deadline, otherwise
            await asyncio.sleep(TICK_S)
        return found

    async def stories(self, user: User, calls: int = 1) -> list[dict[str, Any]]:
        """Everything about a user's own calls, oldest first, when so many have ended."""

        async def ended() -> list[UUID]:
            async def work(conn: Connection) -> list[Any]:
                return await conn.fetch(
                    "SELECT call_id FROM call WHERE subscriber_id = $1 AND state <> 'live' ORDER BY call_id",
                    user.subscriber_id,
                )

            rows = await self.ask(work)
            return [row["call_id"] for row in rows] if len(rows) >= calls else []

        ids = await self.until(ended, f"{user.number} has not had {calls} calls that are over")
        return [await self.ask(lambda conn, one=one: story(conn, one)) for one in ids]  # type: ignore[misc]

    async def balance(self, user: User) -> int:
        sql = "SELECT balance_micro FROM account JOIN subscriber USING (account_id) WHERE subscriber_id = $1"
        return int(await self.value(sql, user.subscriber_id))

    async def _quiet(self) -> bool:
        return not await self.value("SELECT count(*) FROM lease")

    def report(self) -> list[tuple[str, str]]:
        """What is needed to understand a failure, by title."""
        stack = self.house.stack
        return [
            *(phone.report() for phone in self._phones),
            ("bridge", tail(stack.bridge_log, 30)),
            ("switch", stack.switch.log_tail(30)),
        ]
