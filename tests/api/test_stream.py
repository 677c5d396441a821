"""The stream of events over a real socket: what happens arrives, nothing is missed, and it ends when it should."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from httpx import AsyncClient, Timeout

from bridge.api import event_stream
from bridge.api.app import guarded
from bridge.database import transaction
from bridge.events.deliver import Deliverer
from tests.api.scene import Api, Partner, problem
from tests.api.telling import Telling, telling


@dataclass
class Served(Telling):
    """The API on a port of loopback."""

    http: AsyncClient = field(default_factory=AsyncClient)
    port: int = 0


@pytest.fixture
async def house(api: Api, dsn: str) -> AsyncIterator[Served]:
    async with telling(api, dsn) as made:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(guarded(api.app), log_config=None, access_log=False, lifespan="off", ws="none")
        )
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        async with AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=Timeout(10)) as http:
            try:
                yield Served(**vars(made), http=http, port=port)
            finally:
                made.hub.close()
                server.should_exit = True
                await serving


@dataclass
class Reader:
    """One stream. lines: as they come, without the empty ones between events"""

    lines: AsyncIterator[str]
    headers: dict[str, str]
    last: str = ""

    async def event(self) -> tuple[str, Any]:
        """The next event: its type and data."""
        kind = ""
        async for line in self.lines:
            name, _, value = line.partition(": ")
            if name == "id":
                self.last = value
            elif name == "event":
                kind = value
            elif name == "data":
                return kind, json.loads(value)
        raise EOFError

    async def comment(self) -> str:
        async for line in self.lines:
            if line.startswith(":"):
                return line
        raise EOFError

    async def rest(self) -> list[str]:
        """Whatever comes until it ends."""
        return [line async for line in self.lines]


@asynccontextmanager
async def stream(
    house: Served,
    partner: Partner | None = None,
    *,
    last: str | None = None,
    key: str | None = None,
    **query: Any,
) -> AsyncIterator[Reader]:
    headers = {"Authorization": f"Bearer {key or (partner or house.api.alpha).key}"}
    if last is not None:
        headers["Last-Event-ID"] = last
    async with (
        asyncio.timeout(30),
        house.http.stream("GET", "/v1/events/stream", headers=headers, params=query) as response,
    ):
        if response.status_code != 200:
            await response.aread()
        assert response.status_code == 200, response.text
        reader = Reader(response.aiter_lines(), dict(response.headers))
        assert await reader.comment() == ": callbridge"  # from here on it hears
        yield reader


@contextmanager
def beating(monkeypatch: pytest.MonkeyPatch, every_s: float) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(event_stream.EventStream.__init__, "__kwdefaults__", {"heartbeat_s": every_s})
        yield


async def test_what_happens_arrives(house: Served) -> None:
    house.running(await house.deliverer())
    async with stream(house) as all_of_it, stream(house, kinds=["call.ended", "balance.low"]) as ends:
        assert all_of_it.headers["content-type"].startswith("text/event-stream")
        assert all_of_it.headers["x-accel-buffering"] == "no"
        assert all_of_it.headers["cache-control"] == "no-store"
        assert "content-length" not in all_of_it.headers
        who = await house.caller()
        call_id = await house.call(who)
        stranger = await house.caller(house.api.beta)
        await house.call(stranger)
        await house.call(who)
        told = [await all_of_it.event() for _ in range(8)]
        assert [data["seq"] for _, data in told] == [1, 2, 3, 9] * 2
        assert told[3][0] == "call.ended"
        assert (await ends.event())[1] == told[3][1]
        assert (await ends.event())[1] == told[7][1]
        read = await house.api.alpha.get(f"/v1/events/{told[3][1]['event_id']}")
        assert read.json() == told[3][1]
        assert told[3][1]["subject_id"] == f"call_{call_id.hex}"
        assert all_of_it.last == ends.last == "8"


async def test_who_comes_back_has_missed_nothing(house: Served) -> None:
    """Readers come and go while transactions commit out of order."""
    house.running(await house.deliverer())
    seen: list[str] = []
    last = "0"

    async def write(place: int) -> None:
        for turn in range(20):
            async with transaction(house.api.house.pool) as conn:
                await conn.execute(
                    "SELECT event_add_v1($1, 'trunk.up', $2, $3, '{}')",
                    house.api.alpha.partner_id, UUID(int=place), turn,
                )  # fmt: skip
                await conn.execute("SELECT pg_sleep($1)", ((place * 5 + turn * 3) % 7) / 300)

    async with stream(house):
        pass  # from now on events are kept
    writing = asyncio.gather(*map(write, range(6)))
    while len(seen) < 120:
        async with stream(house, last=last) as reader:
            for _ in range(min(13, 120 - len(seen))):
                _, data = await reader.event()
                seen.append(data["event_id"])
            last = reader.last
    await writing
    assert len(set(seen)) == 120
    assert last == "120"


async def test_where_a_stream_begins(house: Served) -> None:
    deliverer = await house.deliverer()
    await house.endpoint()
    for place in range(5):
        await house.add(UUID(int=place))
    await deliverer.fan_out()

    async def first(last: str | None) -> str:
        async with stream(house, last=last) as reader:
            await house.add(UUID(int=99))
            await deliverer.fan_out()
            await reader.event()
            return reader.last

    assert await first("0") == "1"
    assert await first("3") == "4"
    assert await first(None) == "8"  # the newest
    assert await first("9999") == "9"  # a number there never was: from now on
    for wrong in ("-1", "x", "1.5", "9" * 30):
        asked = await house.http.get(
            "/v1/events/stream",
            headers={"Authorization": f"Bearer {house.api.alpha.key}", "Last-Event-ID": wrong},
        )
        problem(asked, 400, "bad_request")


async def test_what_is_no_longer_kept_is_said(house: Served) -> None:
    deliverer = await house.deliverer()
    await house.endpoint()
    for place in range(5):
        await house.add(UUID(int=place))
    await deliverer.fan_out()
    await house.api.house.rows("DELETE FROM event WHERE stream_no <= 3")
    async with stream(house, last="1") as reader:
        assert await reader.event() == ("stream.gap", {"from": 2, "to": 3})
        await reader.event()
        assert reader.last == "4"


async def test_it_lives_and_ends_when_the_key_does(house: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    key = (await house.api.key("events:read", partner_id=house.api.alpha.partner_id)).key
    with beating(monkeypatch, 0.05):
        async with stream(house, key=key) as reader:
            for _ in range(3):
                assert await reader.comment() == ": still here"
            await house.api.house.rows("UPDATE api_key SET revoked_at = now() WHERE name = 'scoped'")
            assert set(await reader.rest()) <= {"", ": still here"}
    assert house.hub.count(house.api.alpha.partner_id) == 0


async def test_it_ends_when_the_partner_is_closed_although_much_happens(
    house: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliverer = await house.deliverer()

    async def busy() -> None:
        while True:
            await house.add(UUID(int=1))
            await deliverer.fan_out()

    with beating(monkeypatch, 0.05):
        async with stream(house) as reader:
            work = asyncio.create_task(busy())
            try:
                await reader.event()
                await house.api.house.rows("UPDATE partner SET state = 'closed'")
                await reader.rest()
            finally:
                work.cancel()
                await asyncio.wait({work})


async def test_so_many_at_a_time_and_no_more(house: Served) -> None:
    async def opened() -> Any:
        return await house.http.get(
            "/v1/events/stream", headers={"Authorization": f"Bearer {house.api.alpha.key}"}
        )

    async with stream(house), stream(house):
        refused = await opened()
        problem(refused, 429, "too_many_requests")
        assert refused.headers["retry-after"]
        async with stream(house, house.api.beta):
            pass
    async with asyncio.timeout(10):
        while house.hub.count(house.api.alpha.partner_id):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    async with stream(house):
        pass


async def test_who_does_not_read_is_dropped(house: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """And takes nothing from the others: no connection to the database, no room in memory."""
    monkeypatch.setattr(event_stream, "SEND_S", 0.3)
    deliverer = await house.deliverer()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", house.port))
    head = f"GET /v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.api.alpha.key}\r\n\r\n"
    await loop.sock_sendall(sock, head.encode())
    assert b"200" in await loop.sock_recv(sock, 100)
    whose = house.api.alpha.partner_id
    async with asyncio.timeout(60):
        while not house.hub.count(whose):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        text = "x" * 15_000
        while house.hub.count(whose):
            for place in range(50):
                await house.add(UUID(int=place), data=json.dumps({"text": text}))
            await deliverer.fan_out()
    sock.close()


async def test_an_idle_stream_holds_no_connection(house: Served) -> None:
    """More streams than the pool has connections, and everybody else still gets one."""
    pool = house.api.services.asking
    async with stream(house), stream(house), stream(house, house.api.beta), stream(house, house.api.beta):
        async with asyncio.timeout(10):
            while pool.get_idle_size() < pool.get_size():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await house.api.alpha.get("/v1/partners")).status_code == 200


async def test_operators_name_whose_events(house: Served) -> None:
    operator = {"Authorization": f"Bearer {house.api.operator.key}"}
    problem(await house.http.get("/v1/events/stream", headers=operator), 400, "bad_request")
    unknown = {"partner_id": f"prt_{5:032x}"}
    problem(await house.http.get("/v1/events/stream", headers=operator, params=unknown), 404, "not_found")
    deliverer: Deliverer = await house.deliverer()
    async with stream(house, key=house.api.operator.key, partner_id=house.api.alpha.id) as reader:
        await house.add(UUID(int=1))
        await deliverer.fan_out()
        assert (await reader.event())[0] == "trunk.up"


async def test_it_ends_when_the_worker_does(house: Served) -> None:
    async with stream(house) as reader:
        house.hub.close()
        await reader.rest()


async def test_a_notice_that_is_lost_loses_no_event(house: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    deliverer = await house.deliverer()
    with beating(monkeypatch, 0.05):
        async with stream(house) as reader:
            monkeypatch.setattr(house.hub, "wake", lambda _: None)
            monkeypatch.setattr(house.hub, "wake_all", lambda: None)
            await house.add(UUID(int=1))
            await deliverer.fan_out()
            assert (await reader.event())[0] == "trunk.up"
    monkeypatch.undo()


async def test_scope_and_query(house: Served) -> None:
    other = await house.api.key("webhooks:read", partner_id=house.api.alpha.partner_id)
    problem(await other.get("/v1/events/stream"), 403, "scope_missing")
    problem(await house.api.alpha.get("/v1/events/stream", kinds="call.everything"), 400, "bad_request")
    problem(await house.api.alpha.get("/v1/events/stream", colour="blue"), 400, "bad_request")
    problem(await house.api.client.get("/v1/events/stream"), 401, "not_authenticated")
    for wrong in (
        {"subject_id": "cat_1"},
        {"subject_id": "call_1"},
        {"kind": "x"},
        {"since": "now"},
        {"limit": "9999"},
    ):
        problem(await house.api.alpha.get("/v1/events", **wrong), 400, "bad_request")
    problem(await house.api.alpha.get("/v1/events/evt_1"), 404, "not_found")
