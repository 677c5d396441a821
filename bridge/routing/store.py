"""Trunks and apps as they stand in the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridge import queries
from bridge.database import Connection
from bridge.rating.deck import Deck
from bridge.routing.trunk import Trunk


@dataclass(frozen=True, slots=True)
class TrunkPeer:
    """A trunk with what only the switch and the ledger need of it."""

    trunk: Trunk
    carrier_account_id: str
    host: str
    port: int


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
            ),
            str(row["account_id"]),
            row["host"],
            row["port"],
        )
        for row in await queries.book.trunks.all(conn)
    )


async def load_apps(conn: Connection) -> tuple[App, ...]:
    """Every app, by name."""
    return tuple(
        App(row["name"], row["sip_host"], row["sip_secret"]) for row in await queries.book.apps.all(conn)
    )
