"""`callbridge reconcile` and `callbridge dispute`, from a file to a booked outcome."""

from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bridge.cli.main import app
from bridge.database import Connection
from tests.command import Callbridge
from tests.reconciled import calls, scene, written

MAPPING = 'zone = "UTC"\n[columns]\nb_number = "Called"\na_number = "Caller"\nanswer_at = "Begin"\n'


async def test_from_a_file_to_a_booked_outcome(
    conn: Connection, callbridge: Callbridge, tmp_path: Path
) -> None:
    books = await scene(conn)
    made = calls(12)
    await books.record(made)
    await books.sealed()
    file = tmp_path / "october.csv"
    header = ("id", "Caller", "Called", "Begin", "duration", "amount")
    file.write_bytes(written([made[0].moved(micro=900_000), *made[1:]], header, mark="|"))
    (tmp_path / "how.toml").write_text(MAPPING)
    carrier = ("--with", books.carrier, "--author", "Eva")

    def work() -> None:
        saved = callbridge("reconcile", "map", *carrier, "--mapping", str(tmp_path / "how.toml"))
        assert saved[0]["mapping"]["columns"]["b_number"] == ["Called"]
        period = ("--from", "2026-10-01", "--to", "2026-11-01")
        found = callbridge("reconcile", "import", str(file), *carrier, *period)
        assert (found["state"], found["rows"]) == ("imported", 12)
        run_id = found["run_id"]
        run = callbridge("reconcile", "run", run_id)
        assert run["classes"]["matched"]["calls"] == 11
        assert run["classes"]["rate"]["their_amount"] == "0.90"
        assert run_id in callbridge("reconcile", "list", text=True)
        assert "11" in callbridge("reconcile", "show", run_id, text=True)
        rows = list(csv.DictReader(io.StringIO(callbridge("reconcile", "show", run_id, "--csv", text=True))))
        assert [(row["class"], row["their_amount"], row["b_number"]) for row in rows] == [
            ("rate", "0.90", f"'+{made[0].b}")
        ]
        sums = callbridge("reconcile", "show", run_id, "--by", "destination")
        assert (sums[0]["destination"], sums[0]["calls"]) == ("Germany", 1)
        opened = callbridge(
            "dispute", "open", "Rate to Germany", "--author", "Eva", "--run", run_id, "--class", "rate"
        )
        one = opened["dispute_id"]
        (tmp_path / "bill.pdf").write_bytes(b"%PDF-1.7")
        told = callbridge("dispute", "attach", one, str(tmp_path / "bill.pdf"), "--author", "Eva")
        assert told["evidence"][0]["name"] == "bill.pdf"
        copy = tmp_path / "copy.pdf"
        callbridge("dispute", "fetch", one, told["evidence"][0]["evidence_id"], "--to", str(copy), text=True)
        assert copy.read_bytes() == b"%PDF-1.7"
        callbridge("dispute", "comment", one, "--author", "Eva", "--text", "They agree to half")
        decided = callbridge("dispute", "decide", one, "settled", "--amount", "0.40", "--author", "Eva")
        assert (decided["state"], decided["agreed"]) == ("settled", "0.40")
        assert "0.40" in callbridge("dispute", "list", text=True)
        assert callbridge("dispute", "list", "--overdue") == []
        assert "They agree to half" in callbridge("dispute", "show", one, text=True)

    await asyncio.to_thread(work)


def test_what_is_wrong_is_told_and_exits_with_1(
    dsn: str, callbridge: Callbridge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callbridge("partner", "create", "E-Plus", "EUR")
    file = tmp_path / "bad.csv"
    file.write_text("b_number,answer_at,duration\n+4930,03/04/2026,1:2\n")
    words = ("reconcile", "import", str(file), "--with", "E-Plus", "--author", "Eva", "--month", "2026-10")
    ran: Any = CliRunner().invoke(app, words, prog_name="callbridge")
    assert ran.exit_code == 1
    assert "refused: 2 things are wrong, and nothing was imported" in ran.stdout
    assert "--time-format" in ran.stdout
