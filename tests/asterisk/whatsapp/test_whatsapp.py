"""See story.md."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from bridge.database import Connection
from bridge.sandbox.meta import Meta
from bridge.sandbox.process import Deadline
from tests.asterisk.onnet.users import User, Users
from tests.asterisk.scene import APP_HOST, ENDED_S, STRANGER_HOST, Scene, well
from tests.asterisk.sipp import Caller, rejects
from tests.asterisk.users.phone import SDP, Phone, Wire
from tests.asterisk.whatsapp.conftest import OTHER, WhatsappWorld
from tests.whatsapp import BUSINESS, SECRET

USER = "+4917612345678"


class Deaf:
    """Both carriers' ports: whatever comes there is one packet too many."""

    def __init__(self, world: WhatsappWorld) -> None:
        self.sockets = []
        for port in (world.alpha_port, world.beta_port):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.bind(("127.0.0.1", port))
            one.setblocking(False)
            self.sockets.append(one)

    def heard(self) -> list[bytes]:
        found = []
        for one in self.sockets:
            with suppress(BlockingIOError):
                found.append(one.recv(65536))
        return found


@pytest.fixture
def carriers(world: WhatsappWorld) -> Iterator[Deaf]:
    made = Deaf(world)
    yield made
    assert made.heard() == []
    for one in made.sockets:
        one.close()


def has_number(user: User, number: str = BUSINESS) -> None:
    """From now on it is this user's, and nobody else's."""
    sql = """INSERT INTO number (partner_id, e164, country, kind, state, subscriber_id, assigned_at)
             SELECT p.partner_id, $2, 'DE', 'geographic', 'assigned', $1, now() FROM partner p LIMIT 1"""

    async def give(conn: Connection) -> None:
        async with conn.transaction():
            await conn.execute("DELETE FROM number WHERE e164 = $1", number)
            await conn.execute(sql, user.subscriber_id, number)

    user.scene.ask(give)


def calls(scene: Scene) -> int:
    return int(scene.value("SELECT count(*) FROM call"))


def newest(scene: Scene, before: int) -> dict[str, Any]:
    """The one call there was since, when it has ended."""

    async def row(conn: Connection) -> dict[str, Any]:
        deadline = Deadline(ENDED_S)
        while True:
            found = await conn.fetch("SELECT * FROM call ORDER BY call_id DESC LIMIT 1")
            count = await conn.fetchval("SELECT count(*) FROM call")
            if count == before + 1 and found[0]["state"] != "live":
                return dict(found[0])
            assert deadline.pause(), f"{count - before} calls, {found[0]['state'] if found else None}"

    return scene.ask(row)


def kept(scene: Scene, call_id: UUID) -> tuple[Any, ...] | None:
    async def row(conn: Connection) -> tuple[Any, ...] | None:
        found = await conn.fetchrow(
            "SELECT wacid, cta_payload FROM whatsapp_call WHERE call_id = $1", call_id
        )
        return tuple(found) if found else None

    return scene.ask(row)


def test_a_whatsapp_user_reaches_an_app_user(scene: Scene, meta: Meta, users: Users, carriers: Deaf) -> None:
    bea, before = users.user(), calls(scene)
    has_number(bea)
    phone = users.phone(bea)
    meta.call(USER, BUSINESS[1:], talk_s=3, wacid="wacid.HBgLMTIz==", cta="order=42")
    invite = phone.rings()
    assert USER in invite.header("From")
    phone.takes(invite)
    phone.is_hung_up()
    assert meta.wait_seen("dial")[0][1] == "ANSWER"
    ((endpoint, secure, codec, sent, received),) = meta.wait_seen("ended")
    assert (endpoint, secure, codec) == (f"b{BUSINESS[1:]}", "1", "(opus)")
    assert int(sent) > 50
    assert int(received) > 0  # the phone said nothing: Meta hears of us all the same, and keeps the call
    call = newest(scene, before)
    assert (call["state"], call["direction"], call["leg_class"]) == ("answered", "in", "voip_only")
    assert (call["a_number"], call["b_number"], call["callee_id"]) == (USER, BUSINESS, bea.subscriber_id)
    assert call["trunk_in_id"] == scene.value("SELECT trunk_id FROM trunk WHERE name = 'business'")
    told = scene.story_of(str(call["call_id"]))
    assert (told["charge"], told["cost"], told["attempts"], told["entries"]) == ("0.00", "0.00", [], [])
    assert scene.paid_nothing(bea.a_number)
    assert kept(scene, call["call_id"]) == ("wacid.HBgLMTIz==", "order=42")


def test_whatever_stands_in_metas_headers_is_kept_as_text(
    scene: Scene, meta: Meta, users: Users, carriers: Deaf
) -> None:
    bea, before = users.user(), calls(scene)
    has_number(bea)
    phone = users.phone(bea)
    evil = """a,b|c"d" ${SHELL(id)} %2C%0d%0a $[1+1] 'x' \\n <&PJSIP/1@alpha>"""
    meta.call(USER, BUSINESS[1:], wacid="w" * 400, cta=evil + "x" * 600)
    invite = phone.rings()
    phone.answer(invite, "486 Busy Here")
    phone.wait_for("ACK")
    meta.wait_seen("dial")
    call = newest(scene, before)
    assert call["leg_class"] == "voip_only"
    wacid, payload = kept(scene, call["call_id"]) or ("", "")
    assert wacid == "w" * 256
    assert payload.startswith("a,b|c") and len(payload) <= 512
    assert "uid=" not in payload


def test_nobody_is_there_and_it_goes_over_no_carrier(
    scene: Scene, meta: Meta, users: Users, carriers: Deaf
) -> None:
    """On a plan that lets calls among users go on over a carrier."""
    away, before = users.user(plan="fallback"), calls(scene)
    has_number(away)
    meta.call(USER, BUSINESS[1:], talk_s=2)
    meta.wait_seen("dial")
    call = newest(scene, before)
    assert (call["direction"], call["leg_class"]) == ("in", "voip_only")
    assert scene.story_of(str(call["call_id"]))["attempts"] == []
    assert scene.paid_nothing(away.a_number)


def test_a_business_number_that_is_nobodys(scene: Scene, meta: Meta, carriers: Deaf) -> None:
    before = calls(scene)
    scene.value("DELETE FROM number WHERE e164 = $1", BUSINESS)
    meta.call(USER, BUSINESS[1:])
    assert meta.wait_seen("dial")[0][1] != "ANSWER"
    call = newest(scene, before)
    assert (call["refuse_reason"], call["leg_class"]) == ("unknown_number", "voip_only")


@pytest.mark.parametrize("to", ["493023125000", "110", "112", "493012345678000"])
def test_a_telephone_number_at_once(scene: Scene, meta: Meta, carriers: Deaf, to: str) -> None:
    """An INVITE of Meta's, by its address, over its TLS connection, for anything but a business number of ours."""
    before = calls(scene)
    meta.call(USER, BUSINESS[1:], to=to)
    assert meta.wait_seen("dial")[0][1] in ("CONGESTION", "CHANUNAVAIL")
    assert calls(scene) == before


def test_meta_without_the_password(scene: Scene, meta: Meta, users: Users, carriers: Deaf) -> None:
    before = calls(scene)
    has_number(users.user(), OTHER)
    meta.call(USER, OTHER[1:])
    assert meta.wait_seen("dial")[0][1] in ("CONGESTION", "CHANUNAVAIL")
    assert calls(scene) == before


@pytest.mark.parametrize("host", [STRANGER_HOST, "127.0.0.1"])
@pytest.mark.parametrize(
    "from_", [f"<sip:{USER}@wa.meta.vc>", "<sip:business@wa.meta.vc>", f"<sip:{BUSINESS[1:]}@x>"]
)
def test_whoever_calls_without_tls_is_not_meta(
    scene: Scene, users: Users, carriers: Deaf, host: str, from_: str
) -> None:
    """Over UDP, from an address of Meta's too: nothing of what they write makes them Meta."""
    before = calls(scene)
    has_number(users.user())
    well(scene.calls(Caller(USER, BUSINESS, from_).hears(401), host=host))
    assert calls(scene) == before


@pytest.mark.parametrize("host", [STRANGER_HOST, "127.0.0.1"])
def test_the_password_makes_up_for_neither_tls_nor_address(
    scene: Scene, users: Users, carriers: Deaf, host: str
) -> None:
    before = calls(scene)
    has_number(users.user())
    address, _, port = scene.stack.sip_address.rpartition(":")
    with Phone(Wire((address, int(port)), host), BUSINESS[1:], SECRET) as phone:
        uri = f"sip:{BUSINESS}@{scene.stack.sip_address}"
        answer = phone.ask("INVITE", uri, f"<{uri}>", f"Contact: {phone.contact}\r\n", SDP)
        # By its address it is somebody: then the password is right, and what is wrong is that it is no TLS.
        assert (answer.status == 401) is (host == STRANGER_HOST)
        assert answer.status >= 400
    assert calls(scene) == before


def test_an_app_does_not_dial_its_way_to_meta(scene: Scene, meta: Meta) -> None:
    """A WhatsApp number is a trunk, but none that calls of an app are ever routed over."""
    who = scene.subscriber()
    both = [carrier(rejects("503 Service Unavailable")) for carrier in (scene.alpha, scene.beta)]
    told = scene.calls(Caller(who, "+4930999999999").hears(503), host=APP_HOST)
    well(told, *both)
    assert meta.seen("invite") == []
    assert "business" in scene.story(told)["left_out"]
