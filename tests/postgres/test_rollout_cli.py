"""Rollouts at the command line: each command with and without --json."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bridge.cli.main import app
from bridge.config import Database
from bridge.database import connect, open_pool
from bridge.errors import Conflict, NotFound
from bridge.observe import log
from bridge.rollout.store.trials import Trials
from bridge.sandbox.seed import APP
from tests.postgres.rollouts import rolled_out
from tests.seeded import seeded


class Line:
    """The command line on a database with a rollout, Ada who may call, and Bob who waits."""

    def run(self, *words: str) -> Result:
        ran = CliRunner().invoke(app, ["rollout", *words], prog_name="callbridge")
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return ran

    def told(self, *words: str) -> Any:
        ran = self.run(*words, "--json")
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)

    def text(self, *words: str) -> str:
        ran = self.run(*words)
        assert ran.exit_code == 0, ran.output
        return ran.stdout


ADA, BOB = "+498999998000", "+498999998001"


@pytest.fixture
def line(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setattr(log, "configure", lambda _: None)
    monkeypatch.setenv("CALLBRIDGE__DATABASE__DSN", dsn)

    async def prepare() -> None:
        async with seeded(dsn) as house:
            rolling = await rolled_out(house)
            numbers = [await rolling.number_of(await make()) for make in (rolling.enabled, rolling.person)]
            assert numbers == [ADA, BOB]
            await rolling.wave(platform="ios", server_key=False)
            await rolling.wave(country="DE")

    asyncio.run(prepare())
    return Line()


def test_a_rollout_from_its_first_window_to_its_launch(line: Line) -> None:
    [listed] = line.told("list")
    assert (listed["app"], listed["state"]) == (APP, "closed")
    assert "spring" in line.text("list")
    assert line.told("show", listed["rollout_id"])["windows"] == []
    with pytest.raises(Conflict, match="there is none"):
        line.run("open", APP)
    opened = line.told("open", APP, "--new", "evening", "--quota", "5")
    assert (opened["state"], opened["quota"]) == ("open", 5)
    assert line.told("pause", APP)["state"] == "paused"
    assert "evening" in line.text("open", APP, "--window", "evening")
    with pytest.raises(NotFound):
        line.run("close", APP, "--window", "morning")
    code = line.told("invite", APP, ADA, BOB)["code"]
    assert len(code) == 22
    with pytest.raises(Conflict, match="oneself"):
        line.run("invite", APP, ADA, ADA)
    assert "nobody was brought in" in line.text("tree", APP)
    assert line.told("forecast", APP, "--hours", "5")["active"] == 1
    assert "can call now" in line.text("forecast", APP)
    assert [one["server_key"] for one in line.told("key", APP, "give", "--platform", "ios")] == [True]
    assert "withheld" in line.text("key", APP, "withhold")
    assert "5" in line.text("show", APP)
    assert line.told("close", APP)["cause"] == "operator"
    assert line.told("launch", APP)["state"] == "launched"
    with pytest.raises(Conflict, match="stays so"):
        line.run("kill", APP)
    assert line.told("replay", APP)["problems"] == []
    assert "the events lead to what the tables say" in line.text("replay", APP)


def test_a_replay_that_differs_exits_with_one(line: Line, dsn: str) -> None:
    async def touch() -> None:
        async with connect(dsn) as conn:
            await conn.execute("UPDATE rollout SET state = 'running'")

    asyncio.run(touch())
    ran = line.run("replay", APP)
    assert (ran.exit_code, "by its events closed" in ran.stdout) == (1, True)


def test_what_makes_no_sense_is_refused(line: Line) -> None:
    assert line.run("key", APP, "steal").exit_code == 2
    assert line.run("open", APP, "--quota", "5").exit_code == 2
    assert line.run("open", APP, "--new", "w", "--quota", "0").exit_code == 2
    with pytest.raises(NotFound):
        line.run("show", "nobodys")
    assert line.told("kill", APP)["state"] == "killed"
    with pytest.raises(Conflict):
        line.run("open", APP, "--new", "late")


def test_the_report_of_a_trial(line: Line, dsn: str) -> None:
    opened = line.told("open", APP, "--new", "evening")
    with pytest.raises(NotFound, match="No trial"):
        line.run("trial", "evening")
    with pytest.raises(NotFound, match="no window"):
        line.run("trial", "morning")

    async def watched() -> None:
        pool = await open_pool(Database(), dsn)
        try:
            await pool.execute("""UPDATE rollout_window SET thresholds = '{"cps_max": 5}', trial_s = 60""")
            await Trials(pool).step()
            await pool.execute("UPDATE trial SET sampled_at = sampled_at - interval '1 second'")
            await Trials(pool).step()
        finally:
            await pool.close()

    asyncio.run(watched())
    for name in ("evening", opened["window_id"]):
        told = line.told("trial", name)
        assert (told["window_id"], told["verdict"], told["trial_s"]) == (opened["window_id"], "running", 60)
    text = line.text("trial", "evening")
    assert "Trial of evening: running" in text
    assert "calls a second" in text
