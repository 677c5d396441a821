"""Which users' phones are registered, told to the database; for the worker that keeps the switch.

The switch keeps contacts itself and says nothing when one comes or goes. So a user who had no phone and has just proved
who they are is looked up at once, and the whole list is read every few seconds. What the database says can therefore be
that old for a phone that has gone, and a few milliseconds for a user's first one that has come.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NoReturn
from uuid import UUID

import asyncpg
import structlog

from bridge import queries
from bridge.asterisk.ami import Ami, AmiRefused
from bridge.database import connection
from bridge.errors import BridgeError
from bridge.telephony.endpoint import subscriber_of

GONE: Final = "callbridge_contact_gone"  # channel of notices: who may no longer be reached
FAMILY: Final = "registrar/contact"  # where sorcery.conf has contacts in the switch's own database
LIST_S: Final = 2.0
LIST_SHARE: Final = 20  # the list is read again after so many times as long as reading took
SETTLE_S: Final = 0.02  # the proof comes just before the contact is stored
LOOKS_MAX: Final = 3
PENDING_MAX: Final = 500  # whoever comes then is found in the list
_CONTACT_CHARS_MAX: Final = 1000

log = structlog.get_logger("phones")

Contacts = dict[str, str]  # URI by id, which is `endpoint;@hash`


class Phones:
    """Keeps asterisk.ps_contacts of one switch equal to what the switch has."""

    def __init__(self, pool: asyncpg.Pool, switch_id: UUID) -> None:
        self._pool, self._switch_id = pool, switch_id
        self._known: Contacts | None = None  # None: not read yet
        self._pending: dict[str, int] = {}  # endpoints to look at, and how often that was done
        self._gone: set[str] = set()
        self._wake = asyncio.Event()

    def proved(self, endpoint: str) -> None:
        """A phone has registered, or is about to; or its user calls."""
        if subscriber_of(endpoint) is not None and len(self._pending) < PENDING_MAX:
            self._pending[endpoint] = 0
            self._wake.set()

    def gone(self, contact_id: object) -> None:
        """The notice that the switch shall forget a phone."""
        self._gone.add(str(contact_id))
        self._wake.set()

    def again(self) -> None:
        """The switch may be another than before."""
        self._known = None
        self._wake.set()

    async def run(self, ami: Ami) -> NoReturn:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        list_at = took_s = 0.0
        while True:
            try:
                async with asyncio.timeout_at(list_at):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if ami.state != "up":
                list_at = loop.time() + LIST_S
                continue
            try:
                await self._forget(ami)
                await self._look(ami)
                began_at = loop.time()
                if began_at >= list_at or self._known is None:
                    list_at = began_at + LIST_S
                    await self._list(ami)
                    before_s, took_s = took_s, loop.time() - began_at
                    list_at = max(list_at, loop.time() + rest_s(took_s, before_s))
            except BridgeError as error:
                log.info("phones not read", error=str(error))
                list_at = loop.time() + LIST_S

    async def _forget(self, ami: Ami) -> None:
        while self._gone:
            contact_id = self._gone.pop()
            with suppress(AmiRefused):  # it has gone by itself
                await ami.action("DBDel", Family=FAMILY, Key=contact_id)
            if self._known is not None:
                self._known.pop(contact_id, None)

    async def _look(self, ami: Ami) -> None:
        """At those who have just proved who they are, for their first phone. Whoever has one has mostly registered
        again, and all of a user's phones ring, whichever are known here. Only the list says that one has gone.
        """
        while self._pending and self._known is not None:
            for endpoint in self._pending.keys() & {_endpoint(key) for key in self._known}:
                del self._pending[endpoint]
            await asyncio.sleep(SETTLE_S if self._pending else 0)
            for endpoint, looks in list(self._pending.items()):
                found = await _contacts(ami, endpoint)
                if not found and looks + 1 < LOOKS_MAX:
                    self._pending[endpoint] = looks + 1
                    continue
                self._pending.pop(endpoint)
                await self._tell(found, set())

    async def _list(self, ami: Ami) -> None:
        if self._known is None:
            async with connection(self._pool) as conn:
                rows = await queries.credentials.contacts.all(conn, switch_id=self._switch_id)
            self._known = {row["id"]: row["uri"] for row in rows}
        found = await _contacts(ami)
        await self._tell(found, self._known.keys() - found.keys())
        async with connection(self._pool) as conn:
            for row in await queries.credentials.contacts_ended.all(conn, switch_id=self._switch_id):
                self._known.pop(row["id"], None)

    async def _tell(self, found: Contacts, gone: set[str]) -> None:
        assert self._known is not None
        new = {key: uri for key, uri in found.items() if self._known.get(key) != uri}
        if not new and not gone:
            return
        async with connection(self._pool) as conn:
            if gone:
                await queries.credentials.contacts_gone.run(conn, ids=list(gone))
            if new:
                kept = await queries.credentials.contacts_put.all(
                    conn,
                    switch_id=self._switch_id,
                    ids=list(new),
                    endpoints=[_endpoint(key) for key in new],
                    uris=list(new.values()),
                )
                new = {row["id"]: new[row["id"]] for row in kept}
        for key in gone:
            self._known.pop(key, None)
        self._known.update(new)
        log.info("phones", come=len(new), gone=len(gone), registered=len(self._known))


def rest_s(took_s: float, before_s: float) -> float:
    """How long the list is left alone, by how long it took now and before: once slow is the switch busy with something
    else, such as a reload; twice slow is the list long.
    """
    return LIST_SHARE * min(took_s, before_s)


def _endpoint(contact_id: str) -> str:
    return contact_id.partition(";@")[0]


async def _contacts(ami: Ami, endpoint: str = "") -> Contacts:
    """Of one user, or of all."""
    # The switch takes a key for the whole of a branch, and puts it into a LIKE as it is.
    key = f"{endpoint};@%" if endpoint else ""
    try:
        reply = await ami.action("DBGetTree", Family=FAMILY, Key=key)
    except AmiRefused:  # there is none
        return {}
    return read_contacts(reply.events)


def read_contacts(events: tuple[Mapping[str, str], ...]) -> Contacts:
    """The contacts of users in an answer to DBGetTree; others, and what is none, are left out."""
    found: Contacts = {}
    for event in events:
        contact_id = event.get("key", "").removeprefix(f"/{FAMILY}/")
        if subscriber_of(_endpoint(contact_id)) is None:
            continue
        try:
            uri = json.loads(event.get("val", ""))["uri"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(uri, str) and len(contact_id) + len(uri) <= _CONTACT_CHARS_MAX and "\0" not in uri:
            found[contact_id] = uri
    return found
