"""See story.md."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bridge.sandbox.carriers import AppUser, place_call
from bridge.sandbox.process import Deadline
from bridge.telling import tell

FACTS = {
    "call_id",
    "a_number",
    "b_number",
    "attempts",
    "talk_ms",
    "billed_s",
    "charge",
    "currency",
    "cost",
    "hold",
}


def callbridge(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "bridge", *words)
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=120, check=False, env=os.environ | environ
    )


def test_the_demo_tells_one_call_from_app_to_ledger():
    ran = callbridge("demo", "--json")
    assert ran.returncode == 0, ran.stderr
    assert "calling +493023125010" in ran.stderr  # progress, apart from the answer
    story = json.loads(ran.stdout)
    assert story.keys() >= FACTS | {"entries", "cdr"}
    assert [(one["trunk"], one["outcome"], one["sip_code"]) for one in story["attempts"]] == [
        ("alpha", "congested", 503),
        ("beta", "answered", 200),
    ]
    assert 3000 <= story["talk_ms"] < 4000
    assert (story["billed_s"], story["covered_s"], story["charge"]) == (0, 60, "0.00")
    (bundle,) = story["bundles"]
    assert (bundle["bundle"], bundle["held"], bundle["burnt"], bundle["released"]) == ("600 units", 2, 1, 1)
    assert (bundle["left_now"], bundle["units"]) == (599, 600)
    assert story["without_bundles"]["charge"] == "0.09"
    assert (story["hold"]["state"], story["hold"]["opened"], story["hold"]["held"]) == (
        "released",
        "0.00",
        "0.00",
    )
    assert [one["amount"] for one in story["entries"]] == [
        "-0.0011",
        "0.0011",
    ]  # the purchase is another booking
    assert story["cdr"]["ended_by"] == "journal"
    text = tell(story)
    for said in (
        "talked 3.00",
        'paid by 1 unit of "600 units"',
        "599 of 600",
        "Without a bundle: 0.09 EUR (60/60",
        "no money beside the units",
        "alpha",
        "503",
        "left out: gamma",
        "sum to zero",
        "the cheapest",
    ):
        assert said in text


@pytest.fixture
def home(tmp_path):
    """A house of our own that does not outlive the test."""
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    yield environ
    callbridge("down", **environ)


def wait_until_answered(root: str, home: dict[str, str]) -> str:
    deadline = Deadline(20)
    while deadline.pause():
        live = json.loads(callbridge("live", "--json", "--config", f"{root}/callbridge.toml", **home).stdout)
        if live and live[0]["answered_at"]:
            return str(live[0]["call_id"])
    raise AssertionError("nobody answered")


def test_up_dial_hangup_audit_api_down(home):
    up = callbridge("up", "--json", **home)
    assert up.returncode == 0, up.stderr
    facts = json.loads(up.stdout)
    assert [one["bundle"] for one in facts["bundles"]] == ["messenger", "600 units"]
    config_file = ("--config", f"{facts['root']}/callbridge.toml")
    show = callbridge("bundle", "show", facts["account"], "--json", *config_file, **home)
    assert [(one["bundle"], one["used"], one["units"]) for one in json.loads(show.stdout)] == [
        ("messenger", 0, None),
        ("600 units", 0, 600),
    ]
    # Ten hours and ten minutes are 610 units.
    longer = ("quote", "--from", facts["a_number"], "--to", "+493023125010", "--seconds", "36600", "--json")
    quote = json.loads(callbridge(*longer, *config_file, **home).stdout)
    assert (quote["bundles"][0]["units"], quote["charge"]) == (600, "0.90")
    busy = callbridge("dial", "+493023125001", **home)
    assert "unanswered, busy" in busy.stdout, busy.stderr
    assert "600 of 600" in busy.stdout, "its units came back"
    said = [json.loads(line) for line in (Path(facts["root"]) / "bridge.log").read_text().splitlines()]
    told = [line for line in said if line["event"] in ("call admitted", "attempt ended", "call ended")]
    assert len(told) == 3
    assert len({(line["call"], line["sip_call_id"]) for line in told}) == 1
    wrong = callbridge("dial", "not a number", **home)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)
    audit = callbridge("audit", *config_file, **home)
    assert (audit.returncode, "BROKEN" in audit.stdout) == (0, False), audit.stdout
    place_call(
        Path(facts["root"]) / "carriers" / "spool",
        AppUser(facts["a_number"], facts["sip_user"], facts["sip_password"]),
        facts["sip"],
        "+493023125000",
        60,
    )
    call_id = wait_until_answered(facts["root"], home)
    assert "hung up" in callbridge("hangup", call_id, *config_file, **home).stdout
    gone = callbridge("hangup", call_id.replace("0", "1"), *config_file, **home)
    assert (gone.returncode, "is in progress" in gone.stderr) == (1, True)
    render = callbridge("conf", "render", "--reload", *config_file, **home)
    assert render.stdout.strip() == "nothing changed", render.stderr
    (Path(facts["root"]) / "etc" / "callbridge" / "pjsip.conf").write_text("")
    render = callbridge("conf", "render", "--reload", *config_file, **home)
    assert "reloaded pbx_config, res_pjsip" in render.stdout, render.stderr
    cdrs = httpx.get(f"{facts['api']}/v1/cdrs", headers={"Authorization": f"Bearer {facts['partner_key']}"})
    assert [call["state"] for call in cdrs.json()["data"]] == ["answered", "unanswered"]
    assert "callbridge is running" in callbridge("up", **home).stdout  # a second time finds it
    assert "stopped" in callbridge("down", **home).stdout
    assert "not running" in callbridge("dial", "+493023125001", **home).stderr
