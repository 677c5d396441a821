"""Calls that have ended, written as if they had been made, numbered by the product, and files of the other side."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from bridge.database import Connection
from bridge.exports.sequence import seal
from bridge.partners.recon_mapping import FileMapping
from bridge.partners.store import add_partner
from bridge.partners.store import reconcile as store
from bridge.sandbox.seed import SeedTrunk, seed_trunk
from tests.seeded import BUY

FROM = datetime(2026, 10, 1, tzinfo=UTC)
TO = datetime(2026, 11, 1, tzinfo=UTC)
HEADER = ("id", "a_number", "b_number", "answer_at", "duration", "amount")


@dataclass(frozen=True)
class Call:
    """One answered call over a trunk, at the prices both sides say."""

    b: int
    answer_at: datetime
    talk_ms: int
    micro: int
    a: int = 4915112345678
    id: str = ""

    @property
    def row(self) -> tuple[Any, ...]:
        """As a file of theirs has it."""
        at, talk_s = self.answer_at.isoformat().replace("+00:00", "Z"), self.talk_ms / 1000
        return self.id, f"+{self.a}", f"+{self.b}", at, f"{talk_s:g}", f"{self.micro / 1e6:.6f}"

    def moved(self, **to: Any) -> Call:
        return replace(self, **to)


def calls(count: int, seed: int = 1, numbers: int = 1_000_000) -> list[Call]:
    """So many, all over the month."""
    chance = random.Random(seed)
    return [
        Call(
            493023000000 + chance.randrange(numbers),
            FROM + timedelta(milliseconds=chance.randrange(60_000, 30 * 86_400_000)),
            chance.randrange(1_000, 600_000),
            chance.randrange(100, 500_000),
            4915110000000 + chance.randrange(10_000),
            f"x{n}",
        )
        for n in range(count)
    ]


@dataclass
class Scene:
    """carrier: its account's name. partner: one that has a trunk, too"""

    conn: Connection
    carrier: str
    carrier_trunk: str
    partner_id: UUID
    partner_trunk: str

    async def record(
        self, made: Sequence[Call], trunk_id: str | None = None, currency: str = "EUR"
    ) -> list[UUID]:
        """Calls over a trunk, numbered. Returns their ids."""
        rows = await self.conn.fetch("SELECT uuidv7() AS id FROM generate_series(1, $1)", len(made))
        ids = [row["id"] for row in rows]
        await self.conn.executemany(
            """INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, a_number, dialled, b_number, state, sell,
                                 routes, admitted_at, answered_at, ended_at, talk_ms, ended_by)
               VALUES ($1, uuidv7(), $1::uuid::text, 'sip-' || $1::uuid::text, '+' || $2::bigint, '+' || $3::bigint,
                       '+' || $3::bigint, 'answered', '{"destination": "Germany", "prefix": "49"}',
                       '{"routes": [], "left_out": {}}', $4::timestamptz, $4,
                       $4 + make_interval(secs => $5::bigint / 1000.0), $5, 'journal')""",
            [(key, one.a, one.b, one.answer_at, one.talk_ms) for key, one in zip(ids, made, strict=True)],
        )
        await self.conn.executemany(
            """INSERT INTO attempt (call_id, attempt_no, trunk_id, outcome, fault, ended_at, billed_s, cost_micro,
                                    currency, buy)
               VALUES ($1, 1, $2, 'answered', 'unknown', $3, $4, $5, $6,
                       '{"destination": "Germany", "prefix": "49"}')""",
            [
                (key, trunk_id or self.carrier_trunk, one.answer_at, one.talk_ms // 1000, one.micro, currency)
                for key, one in zip(ids, made, strict=True)
            ],
        )
        return ids

    async def sealed(self, until: datetime = TO + timedelta(days=2)) -> None:
        await seal(self.conn, until, thorough=True)

    async def read(
        self, content: bytes, mapping: FileMapping | None = None, *, party: str = "", leg: str = "termination"
    ) -> dict[str, Any]:
        """Import a file of the carrier."""
        given = store.TheirFile(
            io.BytesIO(content), "theirs.csv", leg, FROM, TO, mapping or FileMapping(), "tests"
        )
        return await store.import_file(
            self.conn, await store.counterparty(self.conn, party or self.carrier), given
        )

    async def matched(self, theirs: Iterable[Call], **more: Any) -> dict[str, Any]:
        """Import and match. Returns the run."""
        said = await self.read(written(theirs), **more)
        assert said["state"] == "imported", said
        return await store.match(self.conn, UUID(said["run_id"]))

    async def pairs(self, run: dict[str, Any]) -> list[Any]:
        return list(await self.conn.fetch("SELECT * FROM recon_match WHERE run_id = $1", UUID(run["run_id"])))


def written(theirs: Iterable[Call], header: Sequence[str] = HEADER, mark: str = ",") -> bytes:
    lines = [header, *(one.row for one in theirs)]
    return "".join(mark.join(map(str, line)) + "\n" for line in lines).encode()


def counts(run: dict[str, Any]) -> dict[str, int]:
    """Calls by class, those without any left out."""
    return {name: sums["calls"] for name, sums in run["classes"].items() if sums["calls"]}


async def scene(conn: Connection) -> Scene:
    async with conn.transaction():
        carrier = await seed_trunk(conn, SeedTrunk("alpha", 5060, BUY))
        theirs = await seed_trunk(conn, SeedTrunk("beta", 5062, BUY))
        partner = await add_partner(conn, "E-Plus", "EUR")
        await conn.execute(
            "UPDATE trunk SET partner_id = $1 WHERE trunk_id = $2", partner["partner_id"], UUID(theirs)
        )
        name = await conn.fetchval(
            "SELECT a.name FROM account a JOIN trunk t USING (account_id) WHERE t.trunk_id = $1",
            UUID(carrier),
        )
        await conn.execute("SELECT partition_ensure_v1(3)")
    return Scene(conn, name, carrier, partner["partner_id"], theirs)
