"""Trunks and apps as they were changed, put into the running switch. Calls in progress go on.

Only `callbridge/pjsip.conf` is written here, checked first and by rename; what does not come from the database is left
to `callbridge conf render`. When the switch does not show what was asked of it, the file before is put back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn
from uuid import UUID

import asyncpg
import structlog

from bridge.asterisk import conf
from bridge.asterisk.ami import Ami, AmiRefused
from bridge.config import Settings
from bridge.database import connection
from bridge.errors import BridgeError, ConfigError
from bridge.routing.store import Peer, applied, load_apps, load_peers, not_applied, trunk_seen

HEARD: Final = ("trunk", "app")  # tables whose notice means a new configuration
SETTLE_S: Final = 0.1  # a change is rarely one statement
RETRY_S: Final = 30.0  # after a failure: the operator may have rendered by hand
SOON_S: Final = 1.0
_HEALTH: Final = {"Reachable": "up", "Unreachable": "down"}  # others mean: not known yet

log = structlog.get_logger("switch")


# What is told of a failure, to partners too: no path, and no name of another carrier's trunk. The log says more.
NOT_WRITTEN: Final = (
    "the bridge cannot write the switch's files; an operator runs `callbridge conf render --reload`"
)
NOT_VALID: Final = "the configuration would not be valid; the bridge's log says why"
NOT_TAKEN: Final = "the switch did not take it; the switch's log says why"
NOT_ALONE: Final = "the switch did not take another change that was made with it"


class NotTaken(BridgeError):
    """The configuration is as it was before. trunk_ids: whose fault it was, if that is known."""

    def __init__(self, message: str, trunk_ids: frozenset[UUID] = frozenset()) -> None:
        super().__init__(message)
        self.trunk_ids = trunk_ids


class Applying:
    """Brings the switch up to the newest edition of every trunk, for the worker that keeps it."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool) -> None:
        self._settings, self._pool = settings, pool
        self._due = asyncio.Event()
        self._before: str | None = None  # the file that was replaced by one the switch has not read yet
        self._failed: str | None = None
        self._health: dict[UUID, str] = {}  # of the trunks that are asked whether they live
        self._asked: Sequence[Peer] = ()

    def heard(self, table: object) -> None:
        """The notice that a table has changed."""
        if table in HEARD:
            self._due.set()

    async def run(self, ami: Ami) -> NoReturn:
        """Apply what is there, and then every change, until cancelled."""
        self._due.set()
        while True:
            try:
                async with asyncio.timeout(RETRY_S if self._failed else None):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            await asyncio.sleep(SETTLE_S)
            try:
                await self.apply(ami)
            except BridgeError as error:  # no switch or no database; both come back
                log.info("trunks not applied yet", error=str(error))
                self._due.set()
                await asyncio.sleep(SOON_S)

    async def apply(self, ami: Ami) -> None:
        """raises   SwitchUnavailable · StoreError: ask again"""
        async with connection(self._pool) as conn:
            peers, apps = await load_peers(conn), await load_apps(conn)
        self._watch(peers)
        pending = [peer for peer in peers if peer.edition != peer.applied_edition or peer.apply_error]
        try:
            text = conf.render_pjsip(self._settings, peers, apps)
            before = await asyncio.to_thread(conf.replace_pjsip, self._settings.switch.conf_dir, text)
            if self._before is None:
                self._before = before
            if self._before is not None or pending:
                await self._reload(ami, pending)
        except (ConfigError, OSError, NotTaken) as error:
            await self._not_applied(pending, error)
            return
        self._before = self._failed = None
        async with connection(self._pool) as conn:
            for peer in peers:
                if peer.health != "unknown" and peer.trunk_id not in self._health:
                    await trunk_seen(conn, peer.trunk_id, "unknown")
            if pending:
                await applied(conn, {peer.trunk_id: peer.edition for peer in pending})
                log.info("trunks applied", trunks=[peer.name for peer in pending])

    async def look(self, ami: Ami) -> None:
        """Ask the switch which of the trunks that it probes have answered, and keep what is new."""
        if not self._asked or ami.state != "up":
            return
        for peer in self._asked:
            found = await self._shown(ami, peer.name)
            health = _HEALTH.get(found.get("status", ""))
            if health is not None and health != self._health.get(peer.trunk_id):
                async with connection(self._pool) as conn:
                    if await trunk_seen(conn, peer.trunk_id, health):
                        log.warning("trunk health changed", trunk=peer.name, health=health)
                self._health[peer.trunk_id] = health

    def _watch(self, peers: Sequence[Peer]) -> None:
        self._asked = [peer for peer in peers if peer.enabled and peer.qualify_s]
        known = self._health
        self._health = {peer.trunk_id: known.get(peer.trunk_id, peer.health) for peer in self._asked}

    async def _reload(self, ami: Ami, pending: Sequence[Peer]) -> None:
        """raises   NotTaken: and the old configuration stands · SwitchUnavailable"""
        try:
            await ami.reload("res_pjsip")
            wrong = [
                peer
                for peer in pending
                if peer.enabled and (await self._shown(ami, peer.name)).get("uri") != conf.contact(peer)
            ]
            if wrong:
                names = ", ".join(peer.name for peer in wrong)
                raise NotTaken(
                    f"the switch does not show {names}", frozenset(peer.trunk_id for peer in wrong)
                )
        except (AmiRefused, NotTaken) as error:
            if self._before is not None:
                await asyncio.to_thread(conf.replace_pjsip, self._settings.switch.conf_dir, self._before)
                await ami.reload("res_pjsip")
                self._before = None
            raise error if isinstance(error, NotTaken) else NotTaken(str(error)) from None

    async def _shown(self, ami: Ami, endpoint: str) -> Mapping[str, str]:
        """The status of an endpoint's contact, empty when it has none."""
        try:
            reply = await ami.action("PJSIPShowEndpoint", Endpoint=endpoint)
        except AmiRefused:
            return {}
        return next((one for one in reply.events if one.get("event") == "ContactStatusDetail"), {})

    async def _not_applied(self, pending: Sequence[Peer], error: ConfigError | OSError | NotTaken) -> None:
        if str(error) != self._failed:  # once, however often it is tried
            log.error("trunks not applied, the switch goes on as it was", error=str(error))
        self._failed = str(error)
        told: dict[str, list[UUID]] = {}
        for peer in pending:
            told.setdefault(_told(error, peer.trunk_id), []).append(peer.trunk_id)
        async with connection(self._pool) as conn:
            for said, trunk_ids in told.items():
                await not_applied(conn, trunk_ids, said)


def _told(error: ConfigError | OSError | NotTaken, trunk_id: UUID) -> str:
    match error:
        case OSError():
            return NOT_WRITTEN
        case ConfigError():
            return NOT_VALID
        case NotTaken():
            return NOT_TAKEN if trunk_id in error.trunk_ids else NOT_ALONE
