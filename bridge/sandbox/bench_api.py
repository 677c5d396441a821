"""Figures `api_read` and `api_write`: requests a second that one worker of the API answers, next to a FastAPI route
that returns a constant, and to one that inserts a row. All on one machine, so that whoever asks takes part of it.
"""

from __future__ import annotations

import asyncio
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import uvicorn
import uvloop
from fastapi import FastAPI

from bridge import queries
from bridge.api.app import Services, create_app, guarded
from bridge.api.auth import ALL, create_key
from bridge.api.desk import PARTNER_ROLE
from bridge.calls.book_watch import BookWatch
from bridge.config import Api as ApiSettings
from bridge.config import Database, Settings
from bridge.database import connect, open_pool
from bridge.errors import BridgeError
from bridge.migrate import migrate
from bridge.sandbox.bench_stack import say
from bridge.sandbox.ports import LOOPBACK, free_ports
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.process import Deadline

READ_GOAL: Final = 0.3
WRITE_GOAL: Final = 0.5
CONNECTIONS: Final = 8
DATABASE: Final = "bench"
CDRS: Final = 10_000
_FILL_STEP: Final = 250_000
_START_S: Final = 20.0
_UNLIMITED: Final = 10**12


def serve(dsn: str, port: int) -> None:
    """One worker's API as `bridge.app` runs it, without a limit on requests; under /bench/ the baselines."""
    uvloop.run(_serve(dsn, port))


async def _serve(dsn: str, port: int) -> None:
    settings = Database()
    pool, asking = await open_pool(settings, dsn), await open_pool(settings, dsn, role=PARTNER_ROLE)
    services = Services(
        Settings(api=ApiSettings(quota=_UNLIMITED)),
        pool,
        asking,
        BookWatch(pool, dsn),
        lambda: {"accepted": 0},
        lambda: None,
    )
    ours = guarded(create_app(services))
    bare = FastAPI()

    @bare.get("/bench/constant")
    async def constant() -> dict[str, str]:
        return {"status": "ok"}

    @bare.post("/bench/insert")
    async def insert() -> dict[str, str]:
        async with pool.acquire() as conn:
            made = await queries.bench.add_account.value(conn)
        return {"account_id": str(made)}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (bare if scope.get("path", "").startswith("/bench/") else ours)(scope, receive, send)

    config = uvicorn.Config(
        app, host=LOOPBACK, port=port, log_config=None, access_log=False, lifespan="off", server_header=False
    )
    await uvicorn.Server(config).serve()


class Asked:
    """One connection that asks again as soon as it is answered."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((LOOPBACK, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heard = bytearray()
        self._wanted = 0

    def hear(self, status: bytes) -> bool:
        """True when an answer is whole.

        raises   BridgeError: it has another status
        """
        self._heard += self.sock.recv(1 << 18)
        if not self._wanted:
            end = self._heard.find(b"\r\n\r\n")
            if end < 0:
                return False
            if not self._heard.startswith(b"HTTP/1.1 " + status):
                raise BridgeError(f"the API said {bytes(self._heard[:400])!r}")
            head = bytes(self._heard[:end]).lower()
            at = head.index(b"content-length:") + len(b"content-length:")
            self._wanted = end + 4 + int(head[at:].split(b"\r\n", 1)[0])
        if len(self._heard) < self._wanted:
            return False
        self._heard.clear()
        self._wanted = 0
        return True


def requests_per_s(port: int, ask: Callable[[], bytes], status: bytes, seconds: float) -> tuple[float, int]:
    """The rate, and how many answers."""
    waiting = select.epoll()
    asked = [Asked(port) for _ in range(CONNECTIONS)]
    by_fd = {one.sock.fileno(): one for one in asked}
    for fd, one in by_fd.items():
        waiting.register(fd, select.EPOLLIN)
        one.sock.sendall(ask())
    begun, answers = time.perf_counter(), 0
    until = begun + seconds
    while time.perf_counter() < until:
        for fd, _ in waiting.poll(1):
            if by_fd[fd].hear(status):
                answers += 1
                by_fd[fd].sock.sendall(ask())
    took = time.perf_counter() - begun
    waiting.close()
    for one in asked:
        one.sock.close()
    return answers / took, answers


def request(method: str, path: str, key: str = "", body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {LOOPBACK}"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    if method == "POST":
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def prepare(dsn: str, cdrs: int) -> tuple[UUID, str, str]:
    """A database with so many call records of ten partners. Returns a partner, its key, and an operator's."""
    async with connect(dsn) as conn:
        await migrate(conn)
        await queries.bench.add_people.run(conn)
        for first in range(0, cdrs, _FILL_STEP):
            last = min(first + _FILL_STEP, cdrs) - 1
            await queries.bench.add_cdrs.run(conn, first=first, last=last, total=cdrs)
        partner_id = await queries.bench.a_partner.value(conn)
        key = await create_key(conn, "bench", partner_id=partner_id, scopes=[ALL])
        return partner_id, key, await create_key(conn, "bench operator")


@contextmanager
def serving(dsn: str) -> Iterator[int]:
    """The API in a process of its own. Yields its port."""
    port = free_ports(1)[0]
    code = "import sys; from bridge.sandbox.bench_api import serve; serve(sys.argv[1], int(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", code, dsn, str(port)], stdin=subprocess.DEVNULL)
    try:
        deadline = Deadline(_START_S)
        while not _open(port):
            if process.poll() is not None or not deadline.pause():
                raise BridgeError("the API of the bench did not start")
        yield port
    finally:
        process.kill()
        process.wait()


def _open(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def api_read(*, smoke: bool) -> list[dict[str, object]]:
    """A page of a hundred call records. value: requests/s; goal: of the baseline's."""
    with _bench(smoke) as (port, key, _):
        page, constant = request("GET", "/v1/cdrs?limit=100", key), request("GET", "/bench/constant")
        turns = _turns("api_read", port, (lambda: page, b"200"), (lambda: constant, b"200"), smoke=smoke)
    return [_figure("api_read", turns, "a FastAPI route that returns a constant", READ_GOAL)]


def api_write(*, smoke: bool) -> list[dict[str, object]]:
    """Something made, once a key, with its entry in the audit log. value: requests/s; goal: of the baseline's."""
    serial = count()

    def create() -> bytes:
        place = next(serial)
        body = f'{{"name":"Partner {place}","currency":"EUR"}}'.encode()
        return request("POST", "/v1/partners", operator, body, Idempotency_Key=f"bench-{place}")

    with _bench(smoke) as (port, _, operator):
        insert = request("POST", "/bench/insert")
        turns = _turns("api_write", port, (create, b"201"), (lambda: insert, b"200"), smoke=smoke)
    return [_figure("api_write", turns, "a FastAPI route that inserts one row through asyncpg", WRITE_GOAL)]


@contextmanager
def _bench(smoke: bool) -> Iterator[tuple[int, str, str]]:
    """A durable database with some records, and the API on it. Yields its port, a partner's key and an operator's."""
    with (
        tempfile.TemporaryDirectory(prefix="callbridge-bench-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres") as postgres,
    ):
        postgres.create_database(DATABASE)
        dsn = postgres.dsn(DATABASE)
        _, key, operator = asyncio.run(prepare(dsn, 1_000 if smoke else CDRS))
        postgres.sql("VACUUM ANALYZE", DATABASE)
        with serving(dsn) as port:
            yield port, key, operator


Turn = tuple[float, float, int]
Asking = tuple[Callable[[], bytes], bytes]


def _turns(name: str, port: int, ours: Asking, bare: Asking, *, smoke: bool) -> list[Turn]:
    pairs, seconds = (1, 0.5) if smoke else (5, 4.0)
    for warm in (ours, bare):
        requests_per_s(port, *warm, seconds / 4)
    turns = []
    for _ in range(pairs):
        mine, answers = requests_per_s(port, *ours, seconds)
        theirs, _ = requests_per_s(port, *bare, seconds)
        say(f"{name}: {mine:.0f} requests/s, the baseline {theirs:.0f}")
        turns.append((mine, theirs, answers))
    return turns


def _figure(name: str, turns: list[Turn], baseline: str, goal: float) -> dict[str, object]:
    return {
        "name": name,
        "value": round(statistics.median(ours for ours, _, _ in turns)),
        "unit": "requests/s",
        "baseline": baseline,
        "baseline_value": round(statistics.median(bare for _, bare, _ in turns)),
        "ratio": round(statistics.median(ours / bare for ours, bare, _ in turns), 3),
        "goal": goal,
        "n": sum(answers for _, _, answers in turns),
        "connections": CONNECTIONS,
        "workers": 1,
    }
