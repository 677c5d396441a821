"""`callbridge deck` as an operator meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.database import Connection

RATES = "prefix;destination;rate\n49;Germany;0,09\n4930;Berlin [city];0,05\n"


class Cli:
    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder = folder
        (folder / "callbridge.toml").write_text(f"[database]\ndsn = '{dsn}'\n")
        (folder / "rates.csv").write_text(RATES)

    def __call__(self, *words: str, code: int = 0) -> str:
        ran = self.run(*words, code=code)
        return ran.stdout + (ran.stderr if code else "")

    def run(self, *words: str, code: int) -> subprocess.CompletedProcess[str]:
        argv = (sys.executable, "-m", "bridge", "deck", *words)
        ran = subprocess.run(
            argv,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert ran.returncode == code, ran.stderr
        assert "Traceback" not in ran.stderr
        return ran

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", code=code).stdout)


@pytest.fixture
def cli(tmp_path: Path, conn: Connection, dsn: str) -> Cli:
    return Cli(tmp_path, dsn)


def test_a_deck_from_its_file_to_the_way_back(cli: Cli) -> None:
    new = ("import", "rates.csv", "--deck", "sell a", "--side", "sell", "--currency", "EUR")
    told = cli(*new)
    assert "2 new" in told and "staged, not applied" in told and "Berlin [city]" in told
    assert cli.json(*new, "--yes")["version"] == 2
    assert "same" in cli("import", "rates.csv", "--deck", "sell a", "--yes")
    (cli.folder / "rates.csv").write_text(RATES.replace("0,09", "0,10"))
    staged = cli.json("import", "rates.csv", "--deck", "sell a", "--mode", "replace", "--dry-run")
    (change,) = staged["changes"]
    assert (staged["state"], change["kind"], change["before"]["rate"], change["after"]["rate"]) == (
        "staged", "increase", "0.09", "0.10",
    )  # fmt: skip
    assert "1 increase" in cli("diff", staged["import_id"])
    assert cli.json("apply", staged["import_id"])["version"] == 3
    assert "0.10" in cli("show", "sell a")
    assert cli.json("rollback", "sell a")["version"] == 4
    history = cli.json("history", "sell a")
    assert [one["origin"] for one in history["versions"]] == ["rollback", "import", "import"]
    assert "back to version 2" in cli("history", "sell a")
    assert [(one["name"], one["version"], one["rates"]) for one in cli.json("list")] == [("sell a", 4, 2)]
    assert "sell a" in cli("list")
    cli("export", "sell a", "out.csv")
    assert cli.json("import", "out.csv", "--deck", "sell a", "--mode", "replace")["state"] == "same"


def test_errors_are_told_and_nothing_is_applied(cli: Cli) -> None:
    (cli.folder / "rates.csv").write_text(RATES.replace("49;", "049;").replace("0,05", "-1"))
    words = ("import", "rates.csv", "--deck", "a", "--side", "buy", "--currency", "EUR", "--yes")
    told = cli(*words, code=1)
    assert "row 2, prefix: '049' begins with 0" in told
    assert "row 3, rate: '-1' is negative" in told
    assert "2 errors. Nothing was changed." in told
    assert [one["row"] for one in cli.json(*words, code=1)["errors"]] == [2, 3]
    (cli.folder / "rates.csv").write_text(RATES + "4a;X;1\n" * 60)
    assert "and 10 more" in cli(*words, code=1)
    refused = cli.json(*words, code=1)
    assert len(refused["errors"]) == 60 and refused["import_id"] is None
    assert cli.json("list") == []
    (cli.folder / "rates.csv").write_text("no header\n")
    cli(*words, code=1)
    assert cli.json("list") == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("import", "none.csv", "--deck", "a"), "none.csv: No such file or directory"),
        (("import", "rates.csv", "--deck", "a"), "there is no deck 'a'"),
        (("import", "rates.csv", "--deck", "a", "--side", "buy"), "needs both --side and --currency"),
        (("import", "rates.csv", "--deck", "a", "--side", "buy", "--currency", "EURO"), "is not a currency"),
        (("show", "a"), "there is no deck 'a'"),
        (("export", "a", "out.csv"), "there is no deck 'a'"),
        (("origin", "EU", "33"), "is no name of an origin set"),
        (("origin", "eu", "+33"), "Write 1 to 15 digits"),
    ],
)
def test_a_mistake_is_one_line_with_its_fix(cli: Cli, words: tuple[str, ...], says: str) -> None:
    assert says in cli(*words, code=1)
    assert not (cli.folder / "out.csv").exists()


def test_origin_sets(cli: Cli) -> None:
    assert cli("origin").strip() == "no origin sets"
    assert cli("origin", "eu", "33", "43").strip() == "eu: 33 43"
    assert cli.json("origin") == {"eu": ["33", "43"]}
