"""ClickToDial as its published contract has it: shapes, statuses and errors, without a switch."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from httpx import Response

from bridge import queries
from bridge.api.camara import BASE
from bridge.api.fields import read_id
from bridge.database import connection
from tests.api.scene import Api, Client
from tests.seeded import GERMANY, Who

CALLS = f"{BASE}/calls"
SINK = "https://sink.example/events"


@pytest.fixture
async def who(api: Api) -> Who:
    """A subscriber of alpha's, with money; and a worker has been here once."""
    async with connection(api.house.pool) as conn:
        await queries.switch.register.value(conn, name=api.services.settings.switch.name)
    made = await api.house.subscriber(1_000_000)
    await api.own("subscriber", api.alpha, a_number=made.a_number)
    await api.own("account", api.alpha, account_id=made.account_id)
    return made


def wanted(who: Who, callee: str = GERMANY, **more: Any) -> dict[str, Any]:
    return {"caller": {"number": who.a_number}, "callee": {"number": callee}, **more}


def credential(**more: Any) -> dict[str, Any]:
    return {
        "credentialType": "ACCESSTOKEN",
        "accessToken": "sesame-4711",
        "accessTokenExpiresUtc": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "accessTokenType": "bearer",
        **more,
    }


async def post(client: Client, body: Any, **headers: str) -> Response:
    """As the contract has it: without an Idempotency-Key."""
    given = {"Authorization": f"Bearer {client.key}", **headers}
    return await client.http.post(CALLS, json=body, headers=given)


def error(response: Response, status: int, code: str) -> str:
    """The error that a response must be, and nothing beside it. Returns its message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"status", "code", "message"}
    assert (body["status"], body["code"]) == (status, code), body
    assert 0 < len(body["message"]) <= 512
    assert "x-correlator" in response.headers
    return str(body["message"])


async def test_created_read_and_terminated(api: Api, who: Who) -> None:
    made = await post(api.alpha, wanted(who), **{"x-correlator": "b4333c46-49c0"})
    told = made.json()
    assert (made.status_code, made.headers["content-type"]) == (201, "application/json")
    assert made.headers["x-correlator"] == "b4333c46-49c0"
    assert told == {
        "callId": told["callId"],
        "caller": {"number": who.a_number},
        "callee": {"number": GERMANY},
        "status": "initiating",
        "createdAt": told["createdAt"],
        "recordingEnabled": False,
    }
    path = f"{CALLS}/{told['callId']}"
    assert made.headers["location"] == path
    assert (await api.alpha.get(path)).json() == told
    gone = await api.alpha.ask("DELETE", path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await api.alpha.get(path)).json()["status"] == "disconnected"
    error(await api.alpha.ask("DELETE", path), 409, "ALREADY_EXISTS")


@pytest.mark.parametrize(
    ("state", "reason", "status"),
    [
        ("initiating", None, "initiating"),
        ("calling_a", None, "callingCaller"),
        ("calling_b", None, "callingCallee"),
        ("connected", None, "connected"),
        ("ended", "hang_up", "disconnected"),
        ("failed", "a_busy", "disconnected"),
        ("failed", "b_no_answer", "disconnected"),
        ("failed", "a_refused", "failed"),
        ("failed", "not_placed", "failed"),
    ],
)
async def test_its_status_in_the_contracts_words(
    api: Api, who: Who, state: str, reason: str | None, status: str
) -> None:
    call_id = (await post(api.alpha, wanted(who))).json()["callId"]
    await api.house.rows(
        "UPDATE origination SET state = $1, reason = $2, ended_at = CASE WHEN $3 THEN now() END",
        state,
        reason,
        state in ("ended", "failed"),
    )
    assert (await api.alpha.get(f"{CALLS}/{call_id}")).json()["status"] == status


async def test_a_body_of_another_shape(api: Api, who: Who) -> None:
    whole = wanted(who)
    bodies: tuple[Any, ...] = (
        {"callee": whole["callee"]},
        {"caller": whole["caller"]},
        whole | {"unknownProperty": "someValue"},
        whole | {"caller": whole["caller"] | {"name": "x"}},
        whole | {"caller": {"number": 49}},
        whole | {"recordingEnabled": "perhaps"},
        whole | {"sink": "not a url"},
        whole | {"sink": "http://sink.example/"},
        whole | {"sink": "https://user@sink.example/"},
        whole | {"sink": "https://sink.example/" + "x" * 2048},
        whole | {"sink": "https://sink.example/\r\nHost: y"},
        whole | {"sinkCredential": credential()},
        whole | {"sink": SINK, "sinkCredential": credential(accessTokenType="mac")},
        whole | {"sink": SINK, "sinkCredential": credential(accessToken="a\r\nb: c")},
        whole | {"sink": SINK, "sinkCredential": credential(accessTokenExpiresUtc="2020-01-01T00:00:00Z")},
        whole | {"sink": SINK, "sinkCredential": credential(accessTokenExpiresUtc="2999-01-01T00:00:00")},
        whole | {"sink": SINK, "sinkCredential": {"credentialType": "PRIVATE_KEY_JWT"}},
        whole | {"sink": SINK, "sinkCredential": credential(more=1)},
        [],
    )
    for body in bodies:
        error(await post(api.alpha, body), 400, "INVALID_ARGUMENT")
    error(
        await api.client.post(
            CALLS,
            content=b"{",
            headers={"Authorization": f"Bearer {api.alpha.key}", "Content-Type": "application/json"},
        ),
        400,
        "INVALID_ARGUMENT",
    )
    assert await api.house.value("SELECT count(*) FROM origination") == 0


async def test_numbers_that_cannot_be_connected(api: Api, who: Who) -> None:
    other = await api.house.subscriber(1_000_000)
    for body, code in (
        (wanted(who, "030 23125000"), "INVALID_PHONE_NUMBER"),
        (wanted(who, "112"), "INVALID_PHONE_NUMBER"),
        (wanted(who, "+49112"), "INVALID_PHONE_NUMBER"),
        (wanted(who, "+49110"), "INVALID_PHONE_NUMBER"),
        (wanted(who, "+999999999999"), "INVALID_PHONE_NUMBER"),
        (wanted(who) | {"caller": {"number": "112"}}, "INVALID_PHONE_NUMBER"),
        (wanted(who, who.a_number), "SAME_CALLER_CALLEE"),
        (wanted(who, recordingEnabled=True), "RECORDING_NOT_SUPPORTED"),
        (wanted(other), "CALLER_NOT_AVAILABLE"),
        (wanted(Who("+4989999989999", "")), "CALLER_NOT_AVAILABLE"),
    ):
        error(await post(api.alpha, body), 422, code)
    await api.house.rows("UPDATE subscriber SET state = 'suspended' WHERE a_number = $1", who.a_number)
    error(await post(api.alpha, wanted(who)), 422, "CALLER_NOT_AVAILABLE")
    assert await api.house.value("SELECT count(*) FROM switch_order") == 0


async def test_a_call_in_progress_is_not_made_twice(api: Api, who: Who) -> None:
    assert (await post(api.alpha, wanted(who))).status_code == 201
    error(await post(api.alpha, wanted(who)), 409, "ALREADY_EXISTS")


async def test_an_idempotency_key_counts_where_one_is_sent(api: Api, who: Who) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    first, again = [await post(api.alpha, wanted(who), **key) for _ in range(2)]
    assert (again.status_code, again.content) == (201, first.content)


async def test_its_events_go_to_the_sink(api: Api, who: Who) -> None:
    told = (await post(api.alpha, wanted(who, sink=SINK, sinkCredential=credential()))).json()
    row = await api.house.row("SELECT * FROM sink JOIN origination ON origination_id = subject_id")
    assert (row["url"], row["sink_url"], row["bearer"]) == (SINK, SINK, "sesame-4711")
    assert row["valid_until"] > datetime.now(UTC)
    await api.alpha.ask("DELETE", f"{CALLS}/{told['callId']}")
    rows = await api.house.rows("SELECT seq, subject_id, data FROM event ORDER BY seq")
    assert {row["subject_id"] for row in rows} == {read_id("org", told["callId"])}
    events = [json.loads(row["data"])["click_to_dial"] for row in rows]
    shared = {"callId": told["callId"], "caller": who.a_number, "callee": GERMANY}
    for event in events:
        assert datetime.fromisoformat(event.pop("timestamp")).tzinfo is not None
    assert events == [
        shared | {"status": {"state": "initiating"}},
        shared | {"status": {"state": "disconnected", "reason": "hangUp"}, "callDuration": "0"},
    ]
    kept = repr(
        [
            dict(one)
            for table in ("audit_log", "event", "idempotency")
            for one in await api.house.rows(f"SELECT * FROM {table}")
        ]
    )
    assert "sesame" not in kept


async def test_a_call_of_anothers_or_of_nobodys(api: Api, who: Who) -> None:
    call_id = (await post(api.alpha, wanted(who))).json()["callId"]
    for key in (call_id, f"org_{uuid4().hex}", "call_550e8400-e29b-41d4-a716-446655440000", "x"):
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/recording")):
            error(await api.beta.ask(method, f"{CALLS}/{key}{path}"), 404, "NOT_FOUND")
    for key in ("a%20b", "x" * 257, "%00", "a,b"):
        error(await api.alpha.get(f"{CALLS}/{key}"), 400, "INVALID_ARGUMENT")
    error(await api.alpha.get(f"{CALLS}/{call_id}/recording"), 404, "NOT_FOUND")
    assert not await api.house.value("SELECT cancelled FROM origination")


async def test_who_may_not(api: Api, who: Who) -> None:
    nobody = Client(api.client, "cb_00000000_" + "A" * 43)
    error(await post(nobody, wanted(who)), 401, "UNAUTHENTICATED")
    error(await nobody.get(f"{CALLS}/x"), 401, "UNAUTHENTICATED")
    native = await api.key("calls:read", "calls:write", partner_id=api.alpha.partner_id)
    error(await post(native, wanted(who)), 403, "PERMISSION_DENIED")
    for method, path in (("GET", "/x"), ("DELETE", "/x"), ("GET", "/x/recording")):
        error(await native.ask(method, CALLS + path), 403, "PERMISSION_DENIED")
    creator = await api.key("click-to-dial:calls:create", partner_id=api.alpha.partner_id)
    assert (await post(creator, wanted(who))).status_code == 201
    error(await creator.get(f"{CALLS}/x"), 403, "PERMISSION_DENIED")


async def test_what_the_guard_refuses_is_told_in_this_form_too(api: Api, who: Who) -> None:
    error(await post(api.alpha, wanted(who), **{"x-correlator": "a b"}), 400, "INVALID_ARGUMENT")
    error(await api.alpha.get(f"{CALLS}/x", colour="blue"), 400, "INVALID_ARGUMENT")
    error(await api.alpha.get(f"{BASE}/nothing"), 404, "NOT_FOUND")
    error(await api.alpha.ask("PUT", CALLS), 405, "METHOD_NOT_ALLOWED")
    plain = {"Authorization": f"Bearer {api.alpha.key}", "Content-Type": "text/plain"}
    error(await api.client.post(CALLS, content=b"x", headers=plain), 415, "UNSUPPORTED_MEDIA_TYPE")
    plain["Content-Type"] = "application/json"
    error(await api.client.post(CALLS, content=b" " * (2 << 20), headers=plain), 413, "PAYLOAD_TOO_LARGE")
