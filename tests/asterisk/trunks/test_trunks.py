from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from bridge.api.auth import create_key
from bridge.api.fields import show_id
from bridge.asterisk import conf
from bridge.asterisk.applying import NOT_TAKEN, NOT_VALID
from bridge.database import Connection
from bridge.partners.store import add_partner
from bridge.sandbox.ports import free_ports
from bridge.sandbox.process import Deadline
from bridge.sandbox.seed import SeedRate, seed_deck
from bridge.sandbox.stack import Stack
from tests.asterisk.scene import Scene, well
from tests.asterisk.sipp import Caller, Peer, answers

MUNICH: Final = "+498999998000"  # cheaper over the trunk of the test than over beta
APPLIED_S: Final = 10.0

_serial = count(1)


class Trunk:
    """A trunk of the test's own, made and changed through the API. It belongs to a partner who listens."""

    def __init__(self, stack: Stack, **settings: Any) -> None:
        self.name = f"moving_{next(_serial)}"
        key, self.partner_id, deck_id = stack.database_call(self._prepare)
        self._http = httpx.Client(
            base_url=stack.api_url, headers={"Authorization": f"Bearer {key}"}, timeout=10
        )
        body = {
            "name": self.name,
            "host": "127.0.0.1",
            "deck_id": show_id("deck", UUID(deck_id)),
            "partner_id": show_id("prt", self.partner_id),
            "enabled": True,
            **settings,
        }
        made = self._http.post("/v1/trunks", json=body, headers={"Idempotency-Key": str(uuid4())})
        assert made.status_code == 201, made.text
        self.path = made.headers["location"]
        self.wait(_applied)

    async def _prepare(self, conn: Connection) -> tuple[str, UUID, str]:
        async with conn.transaction():
            partner = await add_partner(conn, self.name, "EUR")
            await conn.execute(
                "UPDATE partner SET keeps_events = true WHERE partner_id = $1", partner["partner_id"]
            )
            deck_id = await seed_deck(
                conn, f"buy {self.name}", "buy", [SeedRate("4989", "Munich", 6_000, 1, 1)]
            )
            return await create_key(conn, self.name), partner["partner_id"], deck_id

    def change(self, **changes: Any) -> None:
        etag = self._http.get(self.path).headers["etag"]
        changed = self._http.patch(self.path, json=changes, headers={"If-Match": etag})
        assert changed.status_code == 200, changed.text

    def post(self, what: str) -> None:
        assert self._http.post(f"{self.path}/{what}").status_code == 200

    def wait(
        self, wanted: Callable[[dict[str, Any], str], bool], deadline_s: float = APPLIED_S
    ) -> dict[str, Any]:
        """The trunk as the API tells it, once it is as wanted."""
        deadline = Deadline(deadline_s)
        while True:
            answer = self._http.get(self.path)
            told: dict[str, Any] = answer.json()
            if wanted(told, answer.headers["etag"]):
                return told
            assert deadline.pause(), told

    def close(self) -> None:
        self.change(enabled=False)
        self.wait(_applied)
        self._http.close()


def _applied(told: dict[str, Any], etag: str) -> bool:
    return f'"{told["applied"]["edition"]}"' == etag and told["applied"]["error"] is None


def _health(status: str) -> Callable[[dict[str, Any], str], bool]:
    return lambda told, _: bool(told["health"]["status"] == status)


@pytest.fixture
def new_trunk(scene: Scene) -> Iterator[Callable[..., Trunk]]:
    made: list[Trunk] = []

    def make(**settings: Any) -> Trunk:
        made.append(Trunk(scene.stack, **settings))
        return made[-1]

    yield make
    for trunk in made:
        trunk.close()


def talks(scene: Scene, talk_s: float) -> Peer:
    return scene.calls(Caller(scene.subscriber(), MUNICH).talks(talk_s))


def test_a_trunk_moves_under_a_call_that_goes_on(scene: Scene, new_trunk: Callable[..., Trunk]) -> None:
    trunk = new_trunk(port=scene.world.alpha_port, numbers={"b_format": "e164", "tech_prefix": "77"})
    before = scene.alpha(answers())
    staying = talks(scene, 2.5)
    scene.wait_live(staying, answered=True)
    trunk.change(
        port=scene.world.beta_port,
        numbers={"b_format": "international", "a_format": "national"},
        codecs=["g722", "alaw"],
        auth={"username": "cb", "secret": "correct.horse"},
    )
    trunk.wait(_applied)
    after = scene.beta(answers())
    moved = talks(scene, 0.3)
    _, _, old_saw, new_saw = well(staying, moved, before, after)
    assert old_saw.invites()[0].startswith(f"INVITE sip:77{MUNICH[1:]}@")
    assert new_saw.invites()[0].startswith(f"INVITE sip:00{MUNICH[1:]}@127.0.0.1:{scene.world.beta_port}")
    assert re.search(r"<sip:0151\d+@", new_saw.header("From"))
    offered = re.search(r"^m=audio \d+ RTP/AVP (.*)$", new_saw.received[0], re.MULTILINE)
    assert offered is not None
    assert offered[1].split()[:2] == ["8", "9"]  # what the app speaks, then G.722
    assert scene.story(staying)["talk_ms"] == pytest.approx(2500, abs=300)
    trunk.post("drain")
    after = scene.beta(answers())
    drained = talks(scene, 0.3)
    _, saw = well(drained, after)
    told = scene.story(drained)
    assert [each["trunk"] for each in told["attempts"]] == ["beta"]
    assert told["left_out"][trunk.name] == "draining"
    assert saw.invites()[0].startswith(f"INVITE sip:{MUNICH}@")


def test_what_the_switch_does_not_take_leaves_it_as_it_was(
    scene: Scene, new_trunk: Callable[..., Trunk]
) -> None:
    trunk = new_trunk(port=scene.world.alpha_port)
    generated = scene.stack.conf_dir / conf.FOLDER / conf.PJSIP_CONF
    ours = scene.stack.conf_dir / "pjsip.conf"
    good, included = generated.read_text(), ours.read_text()
    ours.write_text(included.replace("#include", ";include"))
    try:
        trunk.change(port=scene.world.beta_port)
        told = trunk.wait(lambda told, _: told["applied"]["error"] is not None)
        assert told["applied"]["error"] == NOT_TAKEN
        assert generated.read_text() == good
    finally:
        ours.write_text(included)
    scene.value("UPDATE trunk SET name = 'messenger' WHERE name = $1", trunk.name)  # as no API would let one
    trunk.wait(lambda told, _: bool(told["applied"]["error"] == NOT_VALID))
    assert generated.read_text() == good
    scene.value("UPDATE trunk SET name = $1 WHERE name = 'messenger'", trunk.name)
    trunk.wait(_applied)
    after = scene.beta(answers())
    well(talks(scene, 0.3), after)


def test_a_trunk_over_tcp(scene: Scene, new_trunk: Callable[..., Trunk]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as carrier:
        carrier.settimeout(APPLIED_S)
        new_trunk(port=carrier.getsockname()[1], transport="tcp")
        beta = scene.beta(answers())
        call = talks(scene, 0.3)
        link, _ = carrier.accept()
        with link:
            link.settimeout(APPLIED_S)
            asked = link.recv(65536)
            link.sendall(reply(asked, b"503 Service Unavailable"))
            well(call, beta)
    assert asked.startswith(b"INVITE sip:" + MUNICH.encode())
    assert b"SIP/2.0/TCP" in asked
    told = scene.story(call)
    assert [each["sip_code"] for each in told["attempts"]] == [503, 200]


def reply(asked: bytes, status: bytes) -> bytes:
    kept = re.findall(rb"^(?:Via|From|To|Call-ID|CSeq):.*\r\n", asked, re.MULTILINE)
    return b"SIP/2.0 " + status + b"\r\n" + b"".join(kept) + b"Content-Length: 0\r\n\r\n"


class Answering:
    """A carrier that is there, but takes no calls: it answers OPTIONS with 200, and INVITE with 503."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            asked, peer = self._socket.recvfrom(4096)
            if asked == b"end":
                return
            if not asked.startswith(b"ACK "):
                busy = asked.startswith(b"INVITE ")
                self._socket.sendto(reply(asked, b"503 Service Unavailable" if busy else b"200 OK"), peer)

    def stop(self) -> None:
        self._socket.sendto(b"end", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


def test_a_silent_carrier_is_left_out_until_it_answers(scene: Scene, new_trunk: Callable[..., Trunk]) -> None:
    port = free_ports(1)[0]
    carrier = Answering(port)
    try:
        trunk = new_trunk(port=port, qualify_s=1)
        trunk.wait(_health("up"))
    finally:
        carrier.stop()
    trunk.wait(_health("down"))
    beta = scene.beta(answers())
    call = talks(scene, 0.3)
    well(call, beta)
    told = scene.story(call)
    assert [each["trunk"] for each in told["attempts"]] == ["beta"]
    assert told["left_out"][trunk.name] == "down"
    carrier = Answering(port)
    try:
        trunk.wait(_health("up"))
        beta = scene.beta(answers())
        call = talks(scene, 0.3)
        well(call, beta)
    finally:
        carrier.stop()
    path = [(each["trunk"], each["sip_code"]) for each in scene.story(call)["attempts"]]
    assert path == [(trunk.name, 503), ("beta", 200)]
    kinds = "SELECT string_agg(kind, ' ' ORDER BY seq) FROM event WHERE partner_id = $1"
    assert scene.value(kinds, trunk.partner_id) == "trunk.down trunk.up"
