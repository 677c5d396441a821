"""The script for partners, on the very files that they are sent, and on the house's."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from uuid import UUID

import pytest

from bridge import queries
from bridge.database import Connection
from bridge.exports.cdr_files import run
from bridge.exports.sequence import HOUSE
from tests.exporting import Laid, lay, recipient, settings

SCRIPT = Path(__file__).parents[2] / "docs" / "verify_completeness.py"
TYPES = ("cdr", "quality", "correction")


@pytest.fixture
async def laid(conn: Connection) -> Laid:
    return await lay(conn, 150)


async def chain(conn: Connection, owner: UUID) -> str:
    """As GET /v1/completeness tells it."""
    rows = await queries.sequence.days.all(
        conn, partner_id=owner, since=date(2026, 10, 1), until=date(2026, 12, 1)
    )
    days = [
        {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
        | {"day": row["day"].isoformat()}
        for row in rows
    ]
    return json.dumps({"sealed_until": None, "days": days})


def verify(folder: Path, told: Path) -> tuple[int, str]:
    argv = (sys.executable, str(SCRIPT), str(folder), str(told))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


async def test_files_as_they_are_sent_are_complete(conn: Connection, laid: Laid, tmp_path: Path) -> None:
    owners = {"ACME": laid.ours, "BETA": laid.carrier, "HOUSE": None}
    for code, partner_id in owners.items():
        outcome = await run(
            conn, settings(tmp_path), await recipient(conn, code, partner_id, types=TYPES), laid.until
        )
        assert outcome.problem is None
        told = tmp_path / f"{code}.json"
        told.write_text(await chain(conn, partner_id or HOUSE))
        code_said, said = verify(tmp_path / code, told)
        assert (code_said, said.startswith("complete: ")) == (0, True), said
    files = sorted((tmp_path / "ACME").glob("CDR_*.csv.gz"))
    longest = max(files, key=lambda path: len(gzip.decompress(path.read_bytes())))
    lines = gzip.decompress(longest.read_bytes()).splitlines(keepends=True)
    longest.write_bytes(gzip.compress(b"".join([*lines[:3], *lines[4:]])))
    missing = lines[3].partition(b",")[0].decode()
    code_said, said = verify(tmp_path / "ACME", tmp_path / "ACME.json")
    assert (code_said, f"record {missing} of" in said) == (1, True), said
