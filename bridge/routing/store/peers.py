"""Trunks and apps as workers and the switch need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.rating.deck import Deck
from bridge.routing.trunk import CODECS, Trunk
from bridge.telephony.writing import AS_IS, Writing


@dataclass(frozen=True, slots=True)
class TrunkPeer:
    """A trunk with what only the dial string and the ledger need of it, and calls that come in over it.

    origin   where its carrier is: domestic or foreign
    """

    trunk: Trunk
    carrier_account_id: str
    host: str
    port: int
    writing: Writing = AS_IS
    origin: str = "domestic"


@dataclass(frozen=True, slots=True)
class Peer:
    """A trunk as the switch knows it.

    edition           counts its changes
    applied_edition   the one the switch has; None: none yet
    qualify_s         it is asked so often whether it lives; None: never
    allowed_ips       where the carrier calls from, as CIDR
    kind              carrier, or whatsapp: then a WhatsApp Business number, E.164, with Meta behind it
    """

    trunk_id: UUID
    name: str
    host: str
    port: int
    transport: str = "udp"
    codecs: tuple[str, ...] = CODECS[:2]
    auth_username: str | None = None
    auth_secret: str | None = field(default=None, repr=False)
    allowed_ips: tuple[str, ...] = ()
    qualify_s: int | None = None
    enabled: bool = True
    kind: str = "carrier"
    business_number: str | None = None
    health: str = "unknown"
    edition: int = 1
    applied_edition: int | None = None
    apply_error: str | None = None


@dataclass(frozen=True, slots=True)
class App:
    """A messenger's gateway: calls come from sip_host (address, or address:port); with a secret also by digest."""

    name: str
    sip_host: str
    sip_secret: str | None


async def load_trunks(conn: Connection, decks: Mapping[str, Deck]) -> tuple[TrunkPeer, ...]:
    """Every trunk, by name."""
    return tuple(
        TrunkPeer(
            Trunk(
                trunk_id=str(row["trunk_id"]),
                name=row["name"],
                carrier=row["carrier"],
                deck=decks[str(row["deck_id"])],
                capacity=row["capacity"],
                priority=row["priority"],
                ring_s=row["ring_s"],
                enabled=row["enabled"],
                policy_class=row["policy_class"],
                cps=row["cps"],
                draining=row["state"] == "draining",
                down=row["health"] == "down",
            ),
            str(row["account_id"]),
            row["host"],
            row["port"],
            Writing(row["b_format"], row["a_format"], row["tech_prefix"]),
            row["origin"],
        )
        for row in await queries.book.trunks.all(conn)
    )


async def load_peers(conn: Connection) -> tuple[Peer, ...]:
    """Every trunk, by name. No deck is read for it."""
    return tuple(
        Peer(
            **{
                **row,
                "codecs": tuple(row["codecs"]),
                "allowed_ips": tuple(map(str, row["allowed_ips"])),
            }
        )
        for row in await queries.trunks.peers.all(conn)
    )


async def load_apps(conn: Connection) -> tuple[App, ...]:
    """Every app, by name."""
    return tuple(
        App(row["name"], row["sip_host"], row["sip_secret"]) for row in await queries.book.apps.all(conn)
    )
