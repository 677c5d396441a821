"""App users with phones: registered at the switch by digest, over UDP, each call in a thread of its own."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final
from uuid import UUID

from bridge.database import Connection
from bridge.partners.store.credential import Credential, add_credential
from bridge.sandbox.process import Deadline
from tests.asterisk.scene import ENDED_S, Scene
from tests.asterisk.users.phone import SDP, Message, Phone, Wire

ANSWERED_S = 15.0  # waiting for a phone, ringing it out
CONTACT: Final = "SELECT count(*) FROM asterisk.ps_contacts WHERE endpoint = $1 AND uri LIKE $2"
_cseq = count(1)


@dataclass(frozen=True)
class User:
    """A subscriber of the app whose users have phones."""

    scene: Scene
    a_number: str
    subscriber_id: UUID
    credential: Credential

    def phone(self, *, more: str = "") -> UserPhone:
        """One that is not registered yet. more: headers of its INVITE."""
        host, _, port = self.scene.stack.sip_address.rpartition(":")
        return UserPhone(self, Wire((host, int(port))), more)


class UserPhone(Phone):
    """It calls and is called. lure: the address it registers, where that is not its own."""

    def __init__(self, user: User, wire: Wire, more: str) -> None:
        super().__init__(wire, user.credential.username, user.credential.password)
        self.user, self.lure, self._more = user, "", more
        self._threads = ThreadPoolExecutor(2)
        wire.socket.settimeout(ANSWERED_S)

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(wait=True)
        super().__exit__(*error)

    @property
    def contact(self) -> str:
        return self.lure or super().contact

    def on(self) -> None:
        """Register, and return when the bridge knows."""
        answer = self.register()
        assert answer.status == 200, answer.first
        deadline = Deadline(ENDED_S)
        while not self.user.scene.value(CONTACT, self.username, f"%@{self.wire.local}%"):
            assert deadline.pause(), f"{self.contact} is not known to be registered"

    def dials(self, number: str) -> Future[Message]:
        """Call; the final answer."""
        uri = f"sip:{number}@{self.wire.remote}"
        more = f"Contact: {self.contact}\r\n{self._more}"
        return self._threads.submit(self.ask, "INVITE", uri, f"<{uri}>", more, SDP)

    def rings(self) -> Message:
        """The INVITE that came, answered with 180."""
        invite = self.wait_for("INVITE")
        self.answer(invite, "180 Ringing")
        return invite

    def takes(self, invite: Message) -> None:
        """Answer it, and wait for the ACK."""
        self.answer(invite, "200 OK", SDP)
        self.wait_for("ACK")

    def is_cancelled(self, invite: Message) -> None:
        """Somebody else took it, or nobody wants it any more."""
        cancel = self.wait_for("CANCEL")
        self.answer(cancel, "200 OK")
        self.answer(invite, "487 Request Terminated")
        self.wait_for("ACK")

    def leaves(self, invite: Message) -> None:
        """Hang up the call that came with this INVITE and was taken."""
        target = re.search(r"<([^>]+)>", invite.header("Contact"))
        assert target is not None
        to, cseq = invite.header("From"), next(_cseq)
        via = f"SIP/2.0/{self.wire.via} {self.wire.local};branch=z9hG4bK{secrets.token_hex(6)};rport"
        self.wire.send(
            f"BYE {target[1]} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n"
            f"From: {invite.header('To')};tag={self.tag}\r\nTo: {to}\r\n"
            f"Call-ID: {invite.header('Call-ID')}\r\nCSeq: {cseq} BYE\r\nContent-Length: 0\r\n\r\n"
        )

    def is_hung_up(self) -> None:
        self.answer(self.wait_for("BYE"), "200 OK")


class Users:
    """Makes them, and closes their phones in the end."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self._open = scene, ExitStack()

    def user(self, **given: object) -> User:
        a_number = self.scene.subscriber(app="phones", **given)  # type: ignore[arg-type]

        async def credential(conn: Connection) -> tuple[UUID, Credential]:
            subscriber_id = await conn.fetchval(
                "SELECT subscriber_id FROM subscriber WHERE a_number = $1", a_number
            )
            async with conn.transaction():
                return subscriber_id, await add_credential(conn, subscriber_id, 600, media="rtp")

        return User(self.scene, a_number, *self.scene.ask(credential))

    def phone(self, user: User, *, on: bool = True, more: str = "") -> UserPhone:
        made = self._open.enter_context(user.phone(more=more))
        if on:
            made.on()
        return made

    def close(self) -> None:
        self._open.close()


@contextmanager
def users_of(scene: Scene) -> Iterator[Users]:
    made = Users(scene)
    try:
        yield made
    finally:
        made.close()


def calls_of(scene: Scene, a_number: str, least: int = 1) -> list[dict[str, object]]:
    """The rows of somebody's calls in order, once there are as many and none is live."""

    async def rows(conn: Connection) -> list[dict[str, object]]:
        deadline = Deadline(ENDED_S)
        while True:
            found = await conn.fetch("SELECT * FROM call WHERE a_number = $1 ORDER BY call_id", a_number)
            if len(found) >= least and all(row["state"] != "live" for row in found):
                return [dict(row) for row in found]
            assert deadline.pause(), (
                f"{[(row['state'], row['direction']) for row in found]} after {ENDED_S:g} s"
            )

    return scene.ask(rows)
