"""A webhook receiver on loopback that answers as a test tells it to, and remembers what it got."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Got:
    """One request. headers: by name in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> None:
        Webhook(secret).verify(self.body, self.headers)


Reply: TypeAlias = bytes
Answering: TypeAlias = Callable[[Got], Awaitable[Reply]]


def reply(status: int, body: str = "", **headers: str) -> Reply:
    lines = [f"HTTP/1.1 {status} So"] + [
        f"{name.replace('_', '-')}: {value}" for name, value in headers.items()
    ]
    return ("\r\n".join([*lines, f"Content-Length: {len(body.encode())}", "", ""]) + body).encode()


@dataclass
class Receiver:
    """answers: by path; else 204. lingers: the connection stays open after the answer"""

    port: int = 0
    lingers: bool = False
    got: list[Got] = field(default_factory=list)
    answers: dict[str, Answering] = field(default_factory=dict)
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def always(self, path: str, *replies: Reply) -> None:
        """These replies in turn, the last one for ever."""
        left = list(replies)

        async def answer(_: Got) -> Reply:
            return left.pop(0) if len(left) > 1 else left[0]

        self.answers[path] = answer

    def at(self, path: str) -> list[Got]:
        return [one for one in self.got if one.path == path]

    async def until(self, path: str, count: int) -> list[Got]:
        """Wait until so many came to a path."""
        async with asyncio.timeout(20), self._more:
            await self._more.wait_for(lambda: len(self.at(path)) >= count)
        return self.at(path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            got = Got(head[0].split(" ")[1], headers, body)
            async with self._more:
                self.got.append(got)
                self._more.notify_all()
            answer = self.answers.get(got.path)
            writer.write(await answer(got) if answer else reply(204))
            await writer.drain()
            if self.lingers:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other side has gone, or the test has
        finally:
            writer.close()

    async def leave(self) -> None:
        """Drop whoever is still connected."""
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await receiver.leave()
