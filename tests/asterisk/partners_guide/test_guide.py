"""See story.md."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.sandbox.process import Deadline
from tests.generated import generated
from tests.guides import blocks, down, own_house, shell


@pytest.fixture
def environ(tmp_path):
    """A house of our own that does not outlive the test."""
    given = own_house(tmp_path)
    yield given
    down(given)


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
    *steps, last = blocks("partners.md")
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
    assert "stopped" in shell(last, tmp_path, environ)
