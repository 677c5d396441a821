"""See story.md."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

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
    assert (story["billed_s"], story["charge"], story["currency"]) == (60, "0.09", "EUR")
    assert (story["hold"]["state"], story["hold"]["settled"], story["hold"]["released"]) == (
        "settled",
        "0.09",
        "0.09",
    )
    assert [one["amount"] for one in story["entries"]] == ["-0.09", "0.09", "-0.0011", "0.0011"]
    assert story["cdr"]["ended_by"] == "journal"
    text = tell(story)
    for said in ("talked 3.00", "alpha", "503", "left out: gamma", "60/60", "sum to zero", "the cheapest"):
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
    busy = callbridge("dial", "+493023125001", **home)
    assert "unanswered, busy" in busy.stdout, busy.stderr
    said = [json.loads(line) for line in (Path(facts["root"]) / "bridge.log").read_text().splitlines()]
    told = [line for line in said if line["event"] in ("call admitted", "attempt ended", "call ended")]
    assert len(told) == 3
    assert len({(line["call"], line["sip_call_id"]) for line in told}) == 1
    wrong = callbridge("dial", "not a number", **home)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)
    audit = callbridge("audit", "--config", f"{facts['root']}/callbridge.toml", **home)
    assert (audit.returncode, "BROKEN" in audit.stdout) == (0, False), audit.stdout
    place_call(
        Path(facts["root"]) / "carriers" / "spool",
        AppUser(facts["a_number"], facts["sip_user"], facts["sip_password"]),
        facts["sip"],
        "+493023125000",
        60,
    )
    call_id = wait_until_answered(facts["root"], home)
    assert (
        "hung up"
        in callbridge("hangup", call_id, "--config", f"{facts['root']}/callbridge.toml", **home).stdout
    )
    gone = callbridge(
        "hangup", call_id.replace("0", "1"), "--config", f"{facts['root']}/callbridge.toml", **home
    )
    assert (gone.returncode, "is in progress" in gone.stderr) == (1, True)
    render = callbridge("conf", "render", "--reload", "--config", f"{facts['root']}/callbridge.toml", **home)
    assert render.stdout.strip() == "nothing changed", render.stderr
    (Path(facts["root"]) / "etc" / "callbridge" / "pjsip.conf").write_text("")
    render = callbridge("conf", "render", "--reload", "--config", f"{facts['root']}/callbridge.toml", **home)
    assert "reloaded pbx_config, res_pjsip" in render.stdout, render.stderr
    request = urllib.request.Request(
        f"{facts['api']}/v1/calls", headers={"Authorization": f"Bearer {facts['api_key']}"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert [call["state"] for call in json.load(answer)["calls"]] == ["answered", "unanswered"]
    assert "callbridge is running" in callbridge("up", **home).stdout  # a second time finds it
    assert "stopped" in callbridge("down", **home).stdout
    assert "not running" in callbridge("dial", "+493023125001", **home).stderr
