"""Bans as they are in force: kept in the database, told to the switch as an access list, ended by their time.

An address is banned by `callbridge/bans.conf`, which the switch reads without interrupting calls; a user by the view in
which the switch looks users up, which needs no telling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Final, NoReturn
from uuid import UUID

import asyncpg
import structlog

from bridge import queries
from bridge.asterisk import conf, conf_users
from bridge.asterisk.ami import Ami
from bridge.asterisk.ami_events import Stranger
from bridge.asterisk.security import Address, Ban, Failures, Network
from bridge.config import Settings
from bridge.database import connection
from bridge.errors import BridgeError, SwitchUnavailable
from bridge.routing.store import App, Peer, load_apps, load_peers

APPLY_S: Final = 1.0  # the list is read by the switch no more often
REFRESH_S: Final = (
    30.0  # gateways and carriers may have got other addresses; an operator may have lifted a ban
)
BANNED_MAX: Final = 500  # addresses at a time, the newest: each request is held against all of them
WAITING_MAX: Final = 200  # bans to be written

log = structlog.get_logger("bans")


class Bans:
    """For the worker that keeps the switch."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, switch_id: UUID) -> None:
        self._settings, self._pool, self._switch_id = settings, pool, switch_id
        users = settings.users
        self._failures = Failures(users.ban_after, users.ban_s, self._spared)
        self._peers: frozenset[Network] = frozenset()
        self._new: list[Ban] = []
        self._text: str | None = None  # as the switch has read it
        self._wake = asyncio.Event()

    def failed(self, event: Stranger) -> None:
        """Somebody could not prove who they are."""
        ban = self._failures.failed(event.address, event.endpoint, datetime.now(UTC))
        if ban is None:
            return
        log.warning("banned", **_said(ban), failures=ban.failures, until=ban.until.isoformat())
        if len(self._new) < WAITING_MAX:
            self._new.append(ban)
            self._wake.set()

    def again(self) -> None:
        """The switch may be another than before."""
        self._text = None
        self._wake.set()

    async def run(self, ami: Ami) -> NoReturn:
        """Until cancelled."""
        loop, look_at = asyncio.get_running_loop(), 0.0
        while True:
            try:
                async with asyncio.timeout_at(look_at):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            look_at = loop.time() + REFRESH_S
            try:
                ends_at = await self._apply(ami)
                if ends_at is not None:
                    look_at = min(look_at, loop.time() + (ends_at - datetime.now(UTC)).total_seconds())
            except (BridgeError, OSError) as error:
                log.warning("bans not applied", error=str(error))
                look_at = loop.time() + APPLY_S
            await asyncio.sleep(APPLY_S)

    async def _apply(self, ami: Ami) -> datetime | None:
        """Write what is new, and bring the switch's list up to date. Returns when the next ban ends."""
        async with connection(self._pool) as conn:
            self._peers = _addresses(await load_peers(conn), await load_apps(conn))
            while self._new:
                ban = self._new[0]
                await queries.credentials.ban.run(
                    conn,
                    switch_id=self._switch_id,
                    address=ban.network,
                    subscriber_id=ban.subscriber_id,
                    failures=ban.failures,
                    until=ban.until,
                )
                self._new.pop(0)
            rows = await queries.credentials.banned.all(conn, switch_id=self._switch_id, rows=BANNED_MAX)
        text = conf_users.bans(row["address"] for row in rows)
        if text != self._text:
            conf_dir = self._settings.switch.conf_dir
            changed = await asyncio.to_thread(conf.write, conf_dir, {conf_users.BANS_CONF: text})
            if self._text is None and not text and not changed:
                self._text = text  # no bans, as when the switch began
                return None
            if ami.state != "up":
                raise SwitchUnavailable("the switch is told of bans when it is back")
            await ami.reload("res_pjsip")
            log.info("bans applied", addresses=len(rows))
            self._text = text
        return min((row["expires_at"] for row in rows), default=None)

    def _spared(self, address: Address) -> bool:
        return any(
            address.version == network.version and address in network
            for network in (*self._settings.users.spared, *self._peers)
        )


def _addresses(peers: Iterable[Peer], apps: Iterable[App]) -> frozenset[Network]:
    """Where carriers and gateways send from, as far as it is written as an address."""
    words = [word for peer in peers for word in (peer.host, *peer.allowed_ips)]
    words += [app.sip_host for app in apps]
    found = set()
    for word in words:
        try:
            found.add(ip_network(word, strict=False))
        except ValueError:
            try:
                found.add(ip_network(ip_address(word.rpartition(":")[0].strip("[]"))))
            except ValueError:
                continue  # a name: the switch itself knows it by the addresses it had when it was read
    return frozenset(found)


def _said(ban: Ban) -> dict[str, str]:
    return {"address": str(ban.network)} if ban.network else {"subscriber": str(ban.subscriber_id)}
