"""What docs/billing.md tells people to type works: each of its commands in turn, on a database with our plans.

Those of a month, for which there must be one with partners in it, are understood; docs/month.md is where each is run.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from openpyxl import Workbook
from typer import Context
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from bridge.cli.main import app
from bridge.database import transaction
from bridge.observe import log
from bridge.sandbox.seed import SeedSubscriber, ensure_plans, seed_subscriber
from bridge.sandbox.shipped import shipped_plans
from tests.seeded import Who, ended, seeded

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "billing.md"
CALLER = "+498999998100"
ROWS = ("prefix", "destination", "rate"), ("4930", "Berlin", "0.007")
# A name in capitals stands for an id; what an earlier command has printed as such is meant.
PLACEHOLDERS = re.compile(r"\b(CALL|SUBSCRIBER|IMPORT|RUN)\b")
ANY_ID = re.compile(r"\b(STM|RUN|DSP)\b")
PRINTED = re.compile(r"^(Import|Run) ([0-9a-f-]{36})", re.MULTILINE)


def commands(text: str) -> Iterator[str]:
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        yield from (line for line in lines if line.startswith("callbridge "))


def guide() -> tuple[str, str]:
    """Up to a month, and from there on."""
    whole = GUIDE.read_text(encoding="utf-8")
    before, heading, after = whole.partition("\n## A month\n")
    assert heading
    return before, after


async def prepare(dsn: str) -> dict[str, str]:
    """A caller with a plan, money and one call; what the guide's placeholders stand for."""
    async with seeded(dsn) as house:
        async with transaction(house.pool) as conn:
            plans = await ensure_plans(conn, shipped_plans())
            whose = SeedSubscriber(CALLER, 30_000_000)
            who = Who(CALLER, await seed_subscriber(conn, house.app_id, plans["eplus"], whose))
        await house.reload()
        call_id = (await house.admitted(who)).frozen.call_id
        await house.end(ended(call_id, talk_ms=61_000))
        subscriber = await house.value("SELECT subscriber_id FROM subscriber WHERE a_number = $1", CALLER)
        return {"CALL": str(call_id), "SUBSCRIBER": str(subscriber)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the guide's files lie."""
    (tmp_path / "rates.csv").write_text("prefix,destination,rate\n49,Germany,0.012\n")
    plan = GUIDE.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "evening.toml").write_text(plan)
    (tmp_path / "terms.toml").write_text('rounding = "up"\n')
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in ROWS:
        sheet.append(row)
    book.save(tmp_path / "changes.xlsx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_guide(dsn: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The log would go on to the runner's stream after that is closed.
    monkeypatch.setattr(log, "configure", lambda _: None)
    monkeypatch.setenv("CALLBRIDGE__DATABASE__DSN", dsn)
    known = asyncio.run(prepare(dsn))
    told = set()
    for command in commands(guide()[0]):
        line = PLACEHOLDERS.sub("{\\1}", command).format_map(known)
        ran = CliRunner().invoke(app, shlex.split(line)[1:], prog_name="callbridge")
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        assert ran.exit_code == 0, f"{line}\n{ran.output}"
        known |= {name.upper(): value for name, value in PRINTED.findall(ran.stdout)}
        told.add(command.split()[1])
    assert CliRunner().invoke(app, ["audit"], prog_name="callbridge").exit_code == 0
    assert told >= {"deck", "quote", "explain", "call", "bundle", "rerate"}


@pytest.mark.parametrize("line", [*commands(guide()[1])])
def test_a_months_commands_are_understood(line: str, folder: Path) -> None:
    (folder / "theirs.csv").touch()
    words = shlex.split(ANY_ID.sub(str(UUID(int=1)), line), comments=True)[1:]
    command = get_command(app)
    while isinstance(command, TyperGroup):
        found = command.get_command(Context(command), words[0])
        assert found is not None, words[0]
        command, words = found, words[1:]
    command.make_context(line, words)  # raises UsageError
