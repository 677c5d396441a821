"""The stream of a partner's events. While nothing happens it holds no connection to the database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final
from uuid import UUID

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from bridge.api.desk import Desk, principal_of
from bridge.errors import BridgeError
from bridge.events import store
from bridge.events.message import event_of, told

SCOPE: Final = "events:read"
HEARTBEAT_S: Final = 15.0
SEND_S: Final = 20.0  # a reader that takes nothing for so long is dropped; it can come back and miss nothing
ROWS: Final = 200
COME_BACK_MS: Final = 2000


@dataclass(slots=True)
class Place:
    """Where a reader is. kinds: none means all; after: the number of the last event it has."""

    partner_id: UUID
    kinds: tuple[str, ...]
    after: int


class EventStream(Response):
    """resumed   the reader named a number: it is told when events after it are no longer kept"""

    media_type = "text/event-stream"

    def __init__(self, desk: Desk, place: Place, *, resumed: bool, heartbeat_s: float = HEARTBEAT_S) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._desk, self._place, self._resumed, self._heartbeat_s = desk, place, resumed, heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(body: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(SEND_S):
                await send({"type": "http.response.body", "body": body, "more_body": more})

        async def serve() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async for part in self._parts():
                    await tell(part)
                await tell(b"", more=False)
            except TimeoutError:
                pass  # it reads too slowly

        del scope
        serving = asyncio.create_task(serve())
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (serving, leaving):
                task.cancel()
            await asyncio.wait({serving, leaving})
        if not serving.cancelled():
            serving.result()

    async def _parts(self) -> AsyncIterator[bytes]:
        """What is sent, until the reader may no longer read, the worker stops or the database is lost."""
        hub = self._desk.services.hub
        yield f"retry: {COME_BACK_MS}\n: callbridge\n\n".encode()
        look_again_at = monotonic() + self._heartbeat_s
        try:
            with hub.waiting(self._place.partner_id) as happened:
                if self._resumed and (gap := await self._gap()):
                    yield gap
                while not hub.closed:
                    happened.clear()
                    while rows := await self._next():
                        yield b"".join(map(_written, rows))
                    if monotonic() >= look_again_at:
                        if not await self._may_read():
                            return
                        look_again_at = monotonic() + self._heartbeat_s
                        yield b": still here\n\n"
                    try:
                        async with asyncio.timeout(max(look_again_at - monotonic(), 0)):
                            await happened.wait()
                    except TimeoutError:
                        pass  # time for a sign of life
        except BridgeError:
            return  # it comes back, and goes on where it was

    async def _next(self) -> list[store.Row]:
        """The next events; none when there are none now. The connection is given back at once."""
        place = self._place
        async with self._desk.reading() as conn:
            upto = await store.last_no(conn, place.partner_id)
            if upto <= place.after:
                return []
            rows = await store.stream(conn, place.partner_id, place.after, upto, place.kinds, ROWS)
        place.after = rows[-1]["stream_no"] if len(rows) == ROWS else upto
        return rows

    async def _gap(self) -> bytes | None:
        """Says which events after the reader's last one are gone."""
        place = self._place
        async with self._desk.reading() as conn:
            upto = await store.last_no(conn, place.partner_id)
            first = await store.first_no(conn, place.partner_id)
        first = upto + 1 if first is None else first
        if place.after == 0 or place.after + 1 >= first:
            return None
        content = {"from": place.after + 1, "to": first - 1}
        return f"event: stream.gap\ndata: {json.dumps(content)}\n\n".encode()

    async def _may_read(self) -> bool:
        """Whether the key is still valid and for this."""
        _, _, credentials = self._desk.request.headers.get("authorization", "").partition(" ")
        principal = await principal_of(self._desk.services, credentials.strip())
        return principal.may(SCOPE) and principal.partner_id == self._desk.principal.partner_id


def _written(row: Any) -> bytes:
    event = event_of(row)
    data = json.dumps(told(event), separators=(",", ":"), ensure_ascii=False)
    return f"id: {row['stream_no']}\nevent: {event.kind}\ndata: {data}\n\n".encode()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
