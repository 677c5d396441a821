"""Calls by order on the real switch: asked for over HTTP, watched in the database."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from bridge.api.auth import create_key
from bridge.api.fields import read_id
from bridge.database import Connection
from bridge.sandbox.process import Deadline
from tests.asterisk.scene import BERLIN, ENDED_S, Scene

OVER: Final = ("ended", "failed")


@dataclass
class Clicks:
    """A client of the API with a key of its own."""

    scene: Scene
    key: str

    def ask(self, method: str, path: str, body: object = None, *, once: str = "") -> tuple[int, Any]:
        """Status and reply. once: the idempotency key, one of its own unless given."""
        request = urllib.request.Request(
            self.scene.stack.api_url + path,
            None if body is None else json.dumps(body).encode(),
            {
                "Authorization": f"Bearer {self.key}",
                "Content-Type": "application/json",
                "Idempotency-Key": once or str(uuid4()),
            },
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def order(self, a_number: str, b_number: str = BERLIN, *, once: str = "") -> str:
        """The id of a new origination."""
        status, told = self.ask(
            "POST", "/v1/originations", {"a_number": a_number, "b_number": b_number}, once=once
        )
        assert (status, told["state"]) == (201, "initiating"), told
        return str(told["origination_id"])

    def read(self, origination_id: str) -> dict[str, Any]:
        status, told = self.ask("GET", f"/v1/originations/{origination_id}")
        assert status == 200, told
        return dict(told)

    def wait(self, origination_id: str, *states: str, within_s: float = ENDED_S) -> dict[str, Any]:
        """The origination as soon as it is in one of these states.

        raises   AssertionError: it is over, and in another
        """
        deadline = Deadline(within_s)
        while (told := self.read(origination_id))["state"] not in states:
            assert told["state"] not in OVER and deadline.pause(), told
        return told

    def status(self, origination_id: str) -> str:
        """What the CAMARA contract says of it."""
        status, told = self.ask("GET", f"/click-to-dial/v0.2/calls/{origination_id}")
        assert status == 200, told
        return str(told["status"])

    def leg(self, told: dict[str, Any], leg: str) -> dict[str, Any]:
        """The story of a leg, which is over."""
        return self.scene.story_of(str(read_id("call", told[f"{leg}_call_id"])))

    def calls_of(self, a_number: str) -> int:
        """How many calls, refused ones included, its subscriber has made."""
        return int(self.scene.value("SELECT count(*) FROM call WHERE a_number = $1", a_number))


def clicks(scene: Scene) -> Clicks:
    async def work(conn: Connection) -> str:
        return await create_key(conn, f"clicks {uuid4()}")

    return Clicks(scene, scene.ask(work))
