"""App users with credentials, and their phones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import UUID

import pytest

from bridge.database import Connection
from bridge.partners.store.credential import Credential, Media, add_credential
from bridge.sandbox.process import Deadline
from tests.asterisk.scene import Scene
from tests.asterisk.users.phone import Phone, WebSocketWire, Wire

REACHED_S = 5.0


class Users:
    """The app's side of one scene."""

    def __init__(self, scene: Scene, stack: ExitStack) -> None:
        self.scene, self._open = scene, stack
        host, _, port = scene.stack.sip_address.partition(":")
        self.sip = (host, int(port))
        self.ws = (scene.stack.settings.users.ws_host, scene.stack.settings.users.ws_port)

    def subscriber_id(self, a_number: str) -> UUID:
        found = self.scene.value("SELECT subscriber_id FROM subscriber WHERE a_number = $1", a_number)
        assert isinstance(found, UUID)
        return found

    def credential(self, subscriber_id: UUID, lasts_s: int = 600, media: Media = "rtp") -> Credential:
        async def work(conn: Connection) -> Credential:
            async with conn.transaction():
                return await add_credential(conn, subscriber_id, lasts_s, media=media)

        return self.scene.ask(work)

    def user(self, **given: object) -> tuple[str, Credential]:
        """A new subscriber's number, and what its phone registers with."""
        a_number = self.scene.subscriber(**given)  # type: ignore[arg-type]
        return a_number, self.credential(self.subscriber_id(a_number))

    def phone(
        self,
        known: Credential,
        *,
        ws: bool = False,
        host: str = "127.0.0.1",
        password: str = "",
        caller: str = "",
    ) -> Phone:
        wire = WebSocketWire(self.ws, host) if ws else Wire(self.sip, host)
        return self._open.enter_context(
            Phone(wire, known.username, password or known.password, caller=caller)
        )

    def contacts(self, known: Credential) -> int:
        found = self.scene.value(
            "SELECT count(*) FROM asterisk.ps_contacts WHERE endpoint = $1", known.username
        )
        assert isinstance(found, int)
        return found

    def wait_contacts(self, known: Credential, count: int) -> None:
        deadline = Deadline(REACHED_S)
        while self.contacts(known) != count:
            assert deadline.pause(), f"{self.contacts(known)} phones are known, not {count}"

    def wait_addresses(self, known: Credential, addresses: set[str]) -> None:
        """Until the user's phones are known at exactly these, as HOST:PORT."""
        asked = (
            "SELECT string_agg(split_part(uri, '@', 2), ' ') FROM asterisk.ps_contacts WHERE endpoint = $1"
        )
        deadline = Deadline(REACHED_S)
        while (found := set((self.scene.value(asked, known.username) or "").split())) != addresses:
            assert deadline.pause(), f"phones are known at {sorted(found)}, not at {sorted(addresses)}"


@pytest.fixture
def users(scene: Scene) -> Iterator[Users]:
    with ExitStack() as stack:
        yield Users(scene, stack)


@pytest.fixture
def new_user(users: Users) -> Callable[..., tuple[str, Credential]]:
    return users.user
