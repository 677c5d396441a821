"""The network's side: trunks that call in, numbers they call, and callers who say something."""

from __future__ import annotations

import json
import math
import struct
import wave
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx

from bridge.api.auth import create_key
from bridge.api.fields import show_id
from bridge.database import Connection
from bridge.partners.store import add_partner
from bridge.sandbox.process import Deadline
from bridge.sandbox.seed import SeedRate, seed_deck
from tests.asterisk.onnet.users import User
from tests.asterisk.scene import ENDED_S, Scene
from tests.asterisk.sipp import Caller, Peer

HOME_HOST: Final = "127.0.0.6"
ABROAD_HOST: Final = "127.0.0.7"
APPLIED_S: Final = 10.0

_serial = count(1)
_number = count(1)


class Carrier:
    """A trunk that calls in from `host`, of a partner who listens, made through the API."""

    def __init__(self, scene: Scene, host: str, **settings: Any) -> None:
        self.scene, self.host, self.name = scene, host, f"calling_{next(_serial)}"
        self.key, self.partner_id, deck_id = scene.ask(self._prepare)
        self.http = httpx.Client(
            base_url=scene.stack.api_url, headers={"Authorization": f"Bearer {self.key}"}, timeout=10
        )
        body = {
            "name": self.name,
            "host": "127.0.0.1",
            "deck_id": show_id("deck", deck_id),
            "partner_id": show_id("prt", self.partner_id),
            "enabled": True,
            "allowed_ips": [f"{host}/32"],
            **settings,
        }
        made = self.http.post("/v1/trunks", json=body, headers={"Idempotency-Key": str(uuid4())})
        assert made.status_code == 201, made.text
        self.path = made.headers["location"]
        self._wait_applied()
        self.wait_book()

    async def _prepare(self, conn: Connection) -> tuple[str, UUID, UUID]:
        async with conn.transaction():
            partner_id = (await add_partner(conn, self.name, "EUR"))["partner_id"]
            await conn.execute("UPDATE partner SET keeps_events = true WHERE partner_id = $1", partner_id)
            deck = await seed_deck(conn, f"buy {self.name}", "buy", [SeedRate("999", "nowhere", 6_000, 1, 1)])
            return await create_key(conn, self.name), partner_id, UUID(str(deck))

    def change(self, **changes: Any) -> None:
        etag = self.http.get(self.path).headers["etag"]
        changed = self.http.patch(self.path, json=changes, headers={"If-Match": etag})
        assert changed.status_code == 200, changed.text
        self._wait_applied()
        self.wait_book()

    def wait_book(self) -> None:
        """Return when the bridge goes by what was changed: the second book from now on was begun after it."""
        log = self.scene.stack.bridge_log
        before, deadline = log.stat().st_size, Deadline(APPLIED_S)
        while log.read_bytes()[before:].count(b'"book loaded"') < 2:
            self.scene.value("SELECT pg_notify('callbridge_config', 'trunk')")
            assert deadline.pause(), "the bridge reads no book"

    def _wait_applied(self) -> None:
        deadline = Deadline(APPLIED_S)
        while True:
            answer = self.http.get(self.path)
            applied = answer.json()["applied"]
            if applied["error"] is None and f'"{applied["edition"]}"' == answer.headers["etag"]:
                return
            assert deadline.pause(), answer.text

    def calls(self, scenario: str, *, host: str = "", call_id: str = "") -> Peer:
        return self.scene.calls(scenario, host=host or self.host, call_id=call_id)

    def has(self, user: User) -> None:
        """From now on it is a subscriber of this partner."""
        sql = "UPDATE subscriber SET partner_id = $2 WHERE subscriber_id = $1 RETURNING account_id"
        account_id = self.scene.value(sql, user.subscriber_id, self.partner_id)
        self.scene.value(
            "UPDATE account SET partner_id = $2 WHERE account_id = $1", account_id, self.partner_id
        )

    def number(self, user: User) -> str:
        """A new number, given to a subscriber."""
        e164 = f"+4930222{next(_number):05d}"
        self.scene.value(
            "INSERT INTO number (partner_id, e164, country, kind, state, subscriber_id, assigned_at) "
            "SELECT partner_id, $2, 'DE', 'geographic', 'assigned', subscriber_id, now() FROM subscriber "
            "WHERE subscriber_id = $1",
            user.subscriber_id,
            e164,
        )
        return e164

    def close(self) -> None:
        self.change(enabled=False, allowed_ips=[])
        self.http.close()


def call_of(scene: Scene, call: Peer) -> dict[str, Any]:
    """Its row, once it has ended."""

    async def closed(conn: Connection) -> dict[str, Any]:
        deadline = Deadline(ENDED_S)
        while True:
            row = await conn.fetchrow("SELECT * FROM call WHERE sip_call_id = $1", call.call_id)
            if row is not None and row["state"] != "live":
                return dict(row)
            assert deadline.pause(), f"the call is {row['state'] if row else 'unknown'}"

    return scene.ask(closed)


def message_of(scene: Scene, row: dict[str, Any]) -> dict[str, Any]:
    """The message that was left in a call, once it is there."""

    async def left(conn: Connection) -> dict[str, Any]:
        deadline = Deadline(ENDED_S)
        while True:
            found = await conn.fetchrow("SELECT * FROM voice_message WHERE call_id = $1", row["call_id"])
            if found is not None:
                return dict(found)
            assert deadline.pause(), "no message"

    return scene.ask(left)


def event_data(scene: Scene, kind: str, partner_id: UUID) -> list[dict[str, Any]]:
    sql = "SELECT coalesce(json_agg(data ORDER BY event_id), '[]') FROM event WHERE kind = $1 AND partner_id = $2"
    found: list[dict[str, Any]] = json.loads(scene.value(sql, kind, partner_id))
    return found


def voice(path: Path, seconds: float) -> Path:
    """A tone in A-law, as it goes over the wire."""
    path.write_bytes(
        bytes(
            _alaw(int(8_000 * math.sin(n * 2 * math.pi * 440 / 8_000))) for n in range(int(8_000 * seconds))
        )
    )
    return path


def _alaw(sample: int) -> int:
    """G.711."""
    sign, magnitude = (0x80, sample) if sample >= 0 else (0, -sample - 1)
    exponent = max(magnitude.bit_length() - 8, 0)
    mantissa = (magnitude >> (exponent + 3 if exponent else 4)) & 0x0F
    return (sign | exponent << 4 | mantissa) ^ 0x55


def frames(sound: bytes) -> tuple[int, int]:
    """Frames of a WAV file, and the loudest."""
    with wave.open(BytesIO(sound), "rb") as read:
        assert (read.getframerate(), read.getsampwidth(), read.getnchannels()) == (8_000, 2, 1)
        raw = read.readframes(read.getnframes())
    return len(raw) // 2, max(abs(one) for (one,) in struct.iter_unpack("<h", raw)) if raw else 0


def caller(user: User | str, a_number: str = "+493023125000", **more: str) -> Caller:
    """Who calls a subscriber, or a number."""
    return Caller(a_number, user if isinstance(user, str) else user.a_number, **more)
