"""See story.md."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.sandbox.process import Deadline
from tests.generated import generated

HOUSE = Path(__file__).resolve().parents[3]
GUIDE = HOUSE / "docs" / "partners.md"
BIN = Path(sys.executable).parent
SHELL = ("bash", "-eu", "-o", "pipefail")


def blocks() -> list[str]:
    """The guide's commands; the last ones end the house."""
    return re.findall(r"^```bash\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def environ(tmp_path):
    """A house of our own that does not outlive the test."""
    given = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    yield given
    subprocess.run(("callbridge", "down"), env=given, check=False, capture_output=True, timeout=60)


def shell(script: str, folder: Path, environ: dict[str, str], **more: str) -> str:
    ran = subprocess.run(
        SHELL, input=script, cwd=folder, env=environ | more, text=True, capture_output=True, check=False, timeout=100
    )  # fmt: skip
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout


def call_with_a_generated_client(folder: Path, api: str, key: str, subscriber: str) -> None:
    """Typed all the way: ordered, answered by both, hung up."""
    with generated(folder) as of, of("client").AuthenticatedClient(base_url=api, token=key) as client:

        def asked(name: str, *given: object, **more: object) -> Any:
            return of(f"api.originations.{name}").sync(*given, client=client, **more)

        order = of("models").NewOrigination(subscriber_id=subscriber, b_number="+493023125000")
        placed = asked("create_origination", body=order, idempotency_key="generated-1")
        for state in ("connected", "ended"):
            deadline = Deadline(20)
            while str(asked("read_origination", placed.origination_id).state) != state:
                assert deadline.pause(), f"not {state}"
            asked("cancel_origination", placed.origination_id)


@pytest.mark.timeout(240)
def test_every_command_of_the_guide(tmp_path, environ):
    *steps, down = blocks()
    keep = 'printf "%s\\n" "$API" "$KEY" "$ORIGINATION" "$ACCOUNT" "$SUBSCRIBER" > facts'
    shell("\n".join([*steps, keep]), tmp_path, environ)
    api, key, origination, account, subscriber = (tmp_path / "facts").read_text().split()
    told = json.loads(
        shell(
            f"curl --silent -H 'Authorization: Bearer {key}' {api}/v1/originations/{origination};"
            f"echo ,; curl --silent -H 'Authorization: Bearer {key}' {api}/v1/accounts/{account}",
            tmp_path,
            environ,
        ).join("[]")
    )
    assert told[0]["state"] == "ended"
    assert told[0]["a_call_id"] and told[0]["b_call_id"]
    assert float(told[1]["balance"]) < 10, "both legs were paid"
    call_with_a_generated_client(tmp_path, api, key, subscriber)
    root = json.loads(shell("callbridge up --json", tmp_path, environ))["root"]
    shell("callbridge audit", tmp_path, environ, CALLBRIDGE_CONFIG=f"{root}/callbridge.toml")
    assert "stopped" in shell(down, tmp_path, environ)
