"""What the carriers of a simulated month would send is reconciled, and just what was drawn to be wrong is found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from bridge.database import Connection
from bridge.exports.sequence import seal
from bridge.partners.month import month as month_of
from bridge.partners.recon_mapping import FileMapping
from bridge.partners.store import reconcile
from bridge.sandbox.simulate import Simulation, simulate
from bridge.sandbox.simulate_world import PARTNERS

CALLS = 3_000
MONTH = f"{datetime.now(UTC).replace(day=1) - timedelta(days=2):%Y-%m}"
WHOSE = {"rheinfunk": PARTNERS[0], "nordlicht": PARTNERS[1], "transit": "carrier transit"}


async def test_reconciliation_finds_what_was_drawn_and_no_more(conn: Connection, tmp_path: Path) -> None:
    asked = Simulation(MONTH, CALLS)
    await simulate(conn, asked, their_files=tmp_path)
    await seal(conn, datetime.now(UTC) - timedelta(minutes=1), thorough=True)
    expected = json.loads((tmp_path / "expected.json").read_text())
    assert set(expected) == set(WHOSE)
    for trunk, drawn in expected.items():
        found = await _reconciled(conn, tmp_path / drawn["file"], WHOSE[trunk], drawn["mapping"], asked)
        assert found == {
            "only_ours": set(drawn["only_ours"]),
            "duration": set(drawn["duration"]),
            "rate": set(drawn["rate"]),
            "only_theirs": set(drawn["only_theirs"]),
        }, trunk
        assert all(found.values())


async def _reconciled(
    conn: Connection, path: Path, whose: str, mapping: Mapping[str, Any], asked: Simulation
) -> dict[str, set[str]]:
    """Our call ids by class; of those only theirs, their references."""
    from_at, to_at = month_of(asked.month, asked.zone)
    party = await reconcile.counterparty(conn, whose)
    with path.open("rb") as file:
        given = reconcile.TheirFile(
            file, path.name, "termination", from_at, to_at, FileMapping.from_json(mapping), "tests"
        )
        said = await reconcile.import_file(conn, party, given)
    assert said["state"] == "imported", said
    await reconcile.match(conn, UUID(said["run_id"]))
    found: dict[str, set[str]] = {name: set() for name in ("only_ours", "duration", "rate", "only_theirs")}
    for row in await reconcile.matches(conn, UUID(said["run_id"]), tuple(found), 10_000):
        key = row["their_id"] if row["class"] == "only_theirs" else row["call_id"].hex
        found[row["class"]].add(key)
    return found
