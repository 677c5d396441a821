"""Webhooks: what a partner may do with its endpoints, what another may not, and that what happens is told."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from bridge.database import connection
from bridge.errors import StoreError
from bridge.events import store
from bridge.events.deliver import EACH_MAX
from bridge.events.schedule import WAITS_S
from tests.api.receiver import Got, reply
from tests.api.scene import Api, problem
from tests.api.telling import Telling, telling

NEW = {"url": "https://93.184.215.14/hook", "kinds": ["call.ended"], "description": "Ends"}


@pytest.fixture
async def house(api: Api, dsn: str) -> AsyncIterator[Telling]:
    async with telling(api, dsn) as made:
        yield made


# ---------------------------------------------------------------- the resource


async def test_made_read_changed_and_deleted(api: Api) -> None:
    made = await api.alpha.post("/v1/webhooks", NEW)
    assert made.status_code == 201, made.text
    path = made.headers["location"]
    content = made.json()
    assert content.pop("secret").startswith("whsec_")
    read = await api.alpha.get(path)
    assert read.json() == content
    assert (await api.alpha.get("/v1/webhooks")).json() == {"data": [content], "next": None}
    changed = await api.alpha.patch(path, {"kinds": [], "enabled": False})
    assert changed.json() == content | {"kinds": [], "enabled": False}
    problem(await api.alpha.patch(path, {"description": "x"}, read.headers["etag"]), 412, "stale")
    problem(await api.alpha.delete(path, read.headers["etag"]), 412, "stale")
    assert (await api.alpha.delete(path)).status_code == 204
    problem(await api.alpha.get(path), 404, "not_found")
    assert (await api.alpha.get("/v1/webhooks")).json()["data"] == []
    assert await api.house.value("SELECT count(*) FROM webhook_secret") == 0
    said = await api.house.rows("SELECT action, partner_id, detail::text FROM audit_log ORDER BY audit_id")
    assert [row["action"] for row in said] == ["webhook.create", "webhook.change", "webhook.delete"]
    assert {row["partner_id"] for row in said} == {api.alpha.partner_id}
    assert not any("whsec_" in row["detail"] for row in said)


async def test_the_secret_is_told_once(api: Api) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    first = (await api.alpha.post("/v1/webhooks", NEW, headers=key)).json()
    again = (await api.alpha.post("/v1/webhooks", NEW, headers=key)).json()
    assert first == again | {"secret": first["secret"]}
    assert "secret" not in again
    kept = await api.house.rows("SELECT convert_from(body, 'UTF8') AS body FROM idempotency")
    assert kept
    assert not any("whsec_" in row["body"] for row in kept)


async def test_operators_name_whose_it_is(api: Api) -> None:
    body = problem(await api.operator.post("/v1/webhooks", NEW), 422, "invalid_request")
    assert body["errors"][0]["pointer"] == "#/partner_id"
    made = await api.operator.post("/v1/webhooks", NEW | {"partner_id": api.beta.id})
    assert made.json()["partner_id"] == api.beta.id
    assert (await api.beta.get(made.headers["location"])).status_code == 200
    problem(
        await api.operator.post("/v1/webhooks", NEW | {"partner_id": f"prt_{uuid4().hex}"}), 404, "not_found"
    )
    listed = await api.operator.get("/v1/webhooks", partner_id=api.alpha.id)
    assert listed.json()["data"] == []


async def test_anothers_is_not_there(house: Telling) -> None:
    api = house.api
    endpoint = await house.endpoint()
    await house.add(UUID(int=1))
    await (await house.deliverer()).fan_out()
    path = f"/v1/webhooks/{endpoint['webhook_id']}"
    [delivery] = (await api.alpha.get(f"{path}/deliveries")).json()["data"]
    one = f"{path}/deliveries/{delivery['delivery_id']}"
    asked = [
        await api.beta.get(path),
        await api.beta.patch(path, {"enabled": False}, '"1"'),
        await api.beta.delete(path, '"1"'),
        await api.beta.post(f"{path}/rotate-secret"),
        await api.beta.post(f"{path}/test"),
        await api.beta.post(f"{path}/replay", {"since": "2020-01-01T00:00:00Z"}),
        await api.beta.get(f"{path}/deliveries"),
        await api.beta.get(one),
        await api.beta.post(f"{one}/replay"),
        await api.beta.get(f"/v1/events/{delivery['event_id']}"),
        await api.beta.post("/v1/webhooks", NEW | {"partner_id": api.alpha.id}),
        await api.beta.get("/v1/events", partner_id=api.alpha.id),
        await api.beta.get("/v1/events/stream", partner_id=api.alpha.id),
    ]
    for answer in asked:
        problem(answer, 404, "not_found")
    # A delivery of ours below an endpoint of theirs is not there, either.
    own = await house.endpoint(partner=api.beta)
    problem(
        await api.beta.get(f"/v1/webhooks/{own['webhook_id']}/deliveries/{delivery['delivery_id']}"),
        404,
        "not_found",
    )
    assert (await api.beta.get("/v1/webhooks", partner_id=api.alpha.id)).json()["data"] == []
    assert (await api.beta.get("/v1/events")).json()["data"] == []
    assert (await api.alpha.get(path)).json()["enabled"] is True


async def test_the_partners_role_reads_no_secret_and_writes_nothing(api: Api) -> None:
    await api.alpha.post("/v1/webhooks", NEW)

    async def ask(sql: str) -> list[asyncpg.Record]:
        async with connection(api.services.asking) as conn, conn.transaction():
            await conn.execute("SELECT set_config('bridge.partner_id', $1, true)", str(api.alpha.partner_id))
            return list(await conn.fetch(sql))

    assert len(await ask("SELECT * FROM webhook_endpoint")) == 1
    for sql in (
        "SELECT * FROM webhook_secret",
        "SELECT * FROM sink",
        "UPDATE webhook_endpoint SET url = ''",
        "DELETE FROM delivery",
        "INSERT INTO event (partner_id, kind, subject_id, data) SELECT partner_id, 'a.b', partner_id, '{}' FROM event",
        "SELECT sink_add_v1(partner_id, partner_id, 'https://a.example', 'x', now()) FROM partner",
        "SELECT event_add_v1(partner_id, 'call.ended', partner_id, 1, '{}') FROM partner",
        "SELECT event_fan_out_v1(1)",
        "SELECT * FROM delivery_claim_v1(false, 1, 1, 1)",
    ):
        with pytest.raises(StoreError, match="permission denied"):
            await ask(sql)


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.215.14/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://10.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://localhost/",
        "https://user@93.184.215.14/",
        "https://93.184.215.14:25/",
        "https://bücher.example/",
        "https://nowhere.invalid/",
        "x",
    ],
)
async def test_addresses_nothing_is_sent_to(api: Api, url: str) -> None:
    body = problem(await api.alpha.post("/v1/webhooks", {"url": url}), 422, "url_refused")
    assert [one["pointer"] for one in body["errors"]] == ["#/url"]
    made = await api.alpha.post("/v1/webhooks", NEW)
    problem(await api.alpha.patch(made.headers["location"], {"url": url}), 422, "url_refused")
    assert await api.house.value("SELECT count(*) FROM webhook_endpoint") == 1


async def test_bodies_that_are_none(api: Api) -> None:
    for wrong in (
        {},
        {"url": ""},
        {"url": "https://a.example/" + "a" * 2048},
        {"url": "https://a.example/\u0000"},
        NEW | {"kinds": ["call.everything"]},
        NEW | {"kinds": ["call.ended"] * 100},
        NEW | {"secret": "whsec_mine"},
        NEW | {"description": "a\nb"},
    ):
        problem(await api.alpha.post("/v1/webhooks", wrong), 422, "invalid_request")
    made = await api.alpha.post("/v1/webhooks", NEW)
    path = made.headers["location"]
    for since in ("yesterday", "2020-01-01T00:00:00", None):
        problem(await api.alpha.post(f"{path}/replay", {"since": since}), 422, "invalid_request")
    problem(await api.alpha.get(f"{path}/deliveries", state="lost"), 400, "bad_request")
    problem(await api.alpha.get(f"{path}/deliveries/dlv_7"), 404, "not_found")


async def test_a_partner_has_so_many_and_no_more_however_it_asks(api: Api) -> None:
    async def one(_: int) -> int:
        return (await api.alpha.post("/v1/webhooks", NEW)).status_code

    for _ in range(store.ENDPOINTS_MAX - 2):
        assert await one(0) == 201
    assert sorted(await asyncio.gather(*map(one, range(4)))) == [201, 201, 409, 409]
    assert (await api.beta.post("/v1/webhooks", NEW)).status_code == 201


async def test_scopes(api: Api) -> None:
    reader = await api.key("webhooks:read", partner_id=api.alpha.partner_id)
    assert (await reader.get("/v1/webhooks")).status_code == 200
    problem(await reader.post("/v1/webhooks", NEW), 403, "scope_missing")
    problem(await reader.get("/v1/events"), 403, "scope_missing")


# ---------------------------------------------------------------- what happens is told


async def test_a_call_is_told_in_order_and_signed(house: Telling) -> None:
    endpoint = await house.endpoint()
    some = await house.endpoint("/ends", kinds=["call.ended", "balance.low"])
    await house.start()
    who = await house.caller()
    calls = [await house.call(who) for _ in range(3)]
    stranger = await house.caller(house.api.beta)
    await house.call(stranger)
    got = await house.receiver.until("/hook", 12)
    for one in got:
        one.verified(endpoint["secret"])
    for call_id in calls:
        mine = [one.json for one in got if one.json["subject_id"] == f"call_{call_id.hex}"]
        assert [one["seq"] for one in mine] == [1, 2, 3, 9]
    ends = await house.receiver.until("/ends", 3)
    assert {one.json["type"] for one in ends} == {"call.ended"}
    ends[0].verified(some["secret"])
    assert {one.id for one in ends} < {one.id for one in got}
    await house.until(15)
    assert len(house.receiver.got) == 15
    event = (await house.api.alpha.get(f"/v1/events/{got[-1].id}")).json()
    assert event == got[-1].json
    listed = await house.api.alpha.get("/v1/events", subject_id=f"call_{calls[0].hex}")
    assert [one["seq"] for one in listed.json()["data"]] == [9, 3, 2, 1]
    page = (await house.api.alpha.get("/v1/events", kind="call.ended", limit=2)).json()
    rest = (await house.api.alpha.get("/v1/events", kind="call.ended", limit=2, cursor=page["next"])).json()
    assert [one["subject_id"] for one in page["data"] + rest["data"]] == [
        f"call_{one.hex}" for one in calls[::-1]
    ]


async def test_while_the_secret_changes_both_sign(house: Telling) -> None:
    endpoint = await house.endpoint()
    path = f"/v1/webhooks/{endpoint['webhook_id']}"
    rotated = await house.api.alpha.post(f"{path}/rotate-secret")
    assert rotated.status_code == 200, rotated.text
    ends_at = datetime.fromisoformat(rotated.json()["previous_until"])
    assert timedelta(hours=23) < ends_at - datetime.now(UTC) < timedelta(hours=25)
    await house.start()
    await house.add(UUID(int=1))
    [got] = await house.receiver.until("/hook", 1)
    got.verified(endpoint["secret"])
    got.verified(rotated.json()["secret"])
    await house.api.house.rows("UPDATE webhook_secret SET valid_until = now() WHERE valid_until IS NOT NULL")
    await house.add(UUID(int=2))
    _, got = await house.receiver.until("/hook", 2)
    got.verified(rotated.json()["secret"])
    with pytest.raises(Exception, match="No matching signature"):
        got.verified(endpoint["secret"])
    for _ in range(store.SECRETS_MAX - 1):
        assert (await house.api.alpha.post(f"{path}/rotate-secret")).status_code == 200
    problem(await house.api.alpha.post(f"{path}/rotate-secret"), 409, "conflict")


async def test_what_is_not_taken_is_sent_again_by_the_schedule(house: Telling) -> None:
    endpoint = await house.endpoint()
    house.receiver.always(
        "/hook", reply(500, "not now"), reply(503, retry_after="120"), reply(302), reply(200, "thanks")
    )
    await house.start()
    before = datetime.now(UTC)
    await house.add(UUID(int=1))
    path = f"/v1/webhooks/{endpoint['webhook_id']}"
    for tries, wait_s in ((1, WAITS_S[1]), (2, WAITS_S[2]), (3, WAITS_S[3])):
        await house.until(1, f"tries = {tries}")
        row = await house.api.house.row("SELECT * FROM delivery")
        assert row["state"] == "pending"
        left = row["due_at"] - before
        assert timedelta(seconds=wait_s) <= left < timedelta(seconds=wait_s * 1.1 + 15)
        assert (await house.api.alpha.get(path)).json()["failing_since"] is not None
        await house.due()
    await house.until(1)
    got = house.receiver.got
    assert len({one.id for one in got}) == 1
    assert len({one.body for one in got}) == 1
    for one in got:
        one.verified(endpoint["secret"])
    [told] = (await house.api.alpha.get(f"{path}/deliveries", state="done")).json()["data"]
    story = (await house.api.alpha.get(f"{path}/deliveries/{told['delivery_id']}")).json()
    assert [(one["attempt_no"], one["status"], one["answer"]) for one in story["attempts"]] == [
        (4, 200, "thanks"), (3, 302, ""), (2, 503, ""), (1, 500, "not now"),
    ]  # fmt: skip
    assert (story["tries"], story["next_try_at"], story["last_error"]) == (4, None, None)
    assert (await house.api.alpha.get(path)).json()["failing_since"] is None


async def test_retry_after_is_honoured(house: Telling) -> None:
    await house.endpoint()
    house.receiver.always("/hook", reply(429, retry_after="3600"))
    await house.start()
    await house.add(UUID(int=1))
    await house.until(1, "tries = 1")
    due_at = await house.api.house.value("SELECT due_at FROM delivery")
    assert timedelta(minutes=59) < due_at - datetime.now(UTC) <= timedelta(minutes=61)


async def test_dead_letters_are_listed_and_replayed(house: Telling) -> None:
    endpoint = await house.endpoint()
    house.receiver.always("/hook", reply(500), reply(500), reply(204))
    await house.start()
    await house.add(UUID(int=1))
    await house.until(1, "tries = 1")
    await house.api.house.rows("UPDATE delivery SET tries = 9")
    await house.due()
    await house.until(1, "state = 'failed'")
    path = f"/v1/webhooks/{endpoint['webhook_id']}"
    [dead] = (await house.api.alpha.get(f"{path}/deliveries", state="failed")).json()["data"]
    assert (dead["tries"], dead["next_try_at"], dead["last_status"]) == (10, None, 500)
    again = await house.api.alpha.post(f"{path}/deliveries/{dead['delivery_id']}/replay")
    assert (again.status_code, again.json()["state"], again.json()["tries"]) == (202, "pending", 0)
    await house.until(1)
    assert {one.id for one in house.receiver.got} == {dead["event_id"]}
    assert (await house.api.alpha.get(f"{path}/deliveries", state="failed")).json()["data"] == []


async def test_gone_is_gone_until_it_is_enabled_and_replayed(house: Telling) -> None:
    since = datetime.now(UTC).isoformat()
    endpoint = await house.endpoint()
    house.receiver.always("/hook", reply(410), reply(204))
    await house.start()
    await house.add(UUID(int=1))
    await house.until(1, "state = 'failed'")
    path = f"/v1/webhooks/{endpoint['webhook_id']}"
    told = (await house.api.alpha.get(path)).json()
    assert (told["enabled"], told["disabled_why"]) == (False, "gone")
    noted = await house.api.house.row("SELECT * FROM audit_log WHERE action = 'webhook.disable'")
    assert (noted["partner_id"], noted["subject"]) == (house.api.alpha.partner_id, endpoint["webhook_id"])
    problem(await house.api.alpha.post(f"{path}/test"), 409, "conflict")
    await house.add(UUID(int=2))
    await house.numbered()
    assert len(house.receiver.got) == 1
    enabled = (await house.api.alpha.patch(path, {"enabled": True})).json()
    assert (enabled["enabled"], enabled["disabled_why"], enabled["failing_since"]) == (True, None, None)
    problem(await house.api.beta.post(f"{path}/replay", {"since": since}), 404, "not_found")
    none = await house.api.alpha.post(f"{path}/replay", {"since": since, "kinds": ["call.ended"]})
    assert none.json() == {"events": 0, "next": None}
    replayed = await house.api.alpha.post(f"{path}/replay", {"since": since})
    assert (replayed.status_code, replayed.json()) == (202, {"events": 2, "next": None})
    await house.until(2)
    again = {one.json["subject_id"] for one in house.receiver.got[1:]}
    assert again == {f"trk_{1:032x}", f"trk_{2:032x}"}


async def test_a_large_replay_goes_in_parts(house: Telling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "REPLAY_MAX", 2)
    endpoint = await house.endpoint()
    for place in range(5):
        await house.add(UUID(int=place))
    await (await house.deliverer()).fan_out()
    await house.api.house.rows("UPDATE delivery SET state = 'done'")
    path, wish, parts = f"/v1/webhooks/{endpoint['webhook_id']}/replay", {"since": "2020-01-01T00:00:00Z"}, []
    while True:
        told = (await house.api.alpha.post(path, wish)).json()
        parts.append(told["events"])
        if told["next"] is None:
            break
        wish["after"] = told["next"]
    assert parts == [2, 2, 1]
    assert await house.api.house.value("SELECT count(*) FROM delivery WHERE state = 'pending'") == 5


async def test_only_failures_for_days_and_it_is_told_no_more(house: Telling) -> None:
    endpoint = await house.endpoint()
    house.receiver.always("/hook", reply(500))
    await house.start()
    await house.add(UUID(int=1))
    await house.until(1, "tries = 1")
    await house.api.house.rows("UPDATE webhook_endpoint SET failing_since = now() - interval '4.9 days'")
    await house.due()
    await house.until(1, "tries = 2")
    path = f"/v1/webhooks/{endpoint['webhook_id']}"
    assert (await house.api.alpha.get(path)).json()["enabled"] is True
    await house.api.house.rows("UPDATE webhook_endpoint SET failing_since = now() - interval '5.1 days'")
    await house.due()
    await house.until(1, "tries = 3")
    assert (await house.api.alpha.get(path)).json()["disabled_why"] == "failing"


async def test_a_test_goes_to_this_endpoint_alone(house: Telling) -> None:
    endpoint = await house.endpoint(kinds=["call.ended"])
    await house.endpoint("/other")
    await house.start()
    tested = await house.api.alpha.post(f"/v1/webhooks/{endpoint['webhook_id']}/test")
    assert tested.status_code == 202
    [got] = await house.receiver.until("/hook", 1)
    assert got.json == tested.json()
    got.verified(endpoint["secret"])
    await house.add(UUID(int=1))
    await house.receiver.until("/other", 1)
    assert [one.json["type"] for one in house.receiver.at("/other")] == ["trunk.up"]


async def test_a_sink_is_told_as_camara_has_it(house: Telling) -> None:
    subject, whose = UUID(int=77), house.api.alpha.partner_id
    url, until = house.receiver.url("/sink"), datetime.now(UTC) + timedelta(hours=1)
    await house.api.house.rows("SELECT sink_add_v1($1, $2, $3, 'a-token', $4)", whose, subject, url, until)
    data = (
        '{"state": "connected", "camara": {"type": "org.example.changed", "source": "/s", "data": {"a": 1}}}'
    )
    await house.start()
    await house.api.house.rows(
        "SELECT event_add_v1($1, 'origination.changed', $2, 1, $3)", whose, subject, data
    )
    # Of another subject, and of another partner with the same subject: not for this sink.
    for partner_id, other in ((whose, UUID(int=78)), (house.api.beta.partner_id, subject)):
        await house.api.house.rows(
            "SELECT event_add_v1($1, 'origination.changed', $2, 1, $3)", partner_id, other, data
        )
    [got] = await house.receiver.until("/sink", 1)
    assert (got.json["specversion"], got.json["source"]) == ("1.0", "/s")
    assert got.headers["authorization"] == "Bearer a-token"
    assert got.headers["content-type"] == "application/cloudevents+json"
    assert (got.json["type"], got.json["data"]) == ("org.example.changed", {"a": 1})
    await house.until(1)
    assert len(house.receiver.got) == 1


# ---------------------------------------------------------------- in order, at least once, and nobody in the way


async def test_the_next_waits_for_the_one_before_unless_that_has_failed(house: Telling) -> None:
    await house.endpoint()
    release, subject = asyncio.Event(), UUID(int=1)

    async def answer(got: Got) -> bytes:
        if got.json["subject_id"] == f"trk_{1:032x}" and got.json["seq"] == 1:
            await release.wait()
            return reply(500)
        return reply(204)

    house.receiver.answers["/hook"] = answer
    for seq in (1, 2, 3):
        await house.add(subject, seq)
    await house.start()
    await house.receiver.until("/hook", 1)
    await house.add(UUID(int=2))
    await house.until(1)  # of another subject: it need not wait
    assert [one.json["seq"] for one in house.receiver.got] == [1, 1]
    release.set()
    await house.until(3)
    assert [one.json["seq"] for one in house.receiver.got] == [1, 1, 2, 3]


async def test_an_endpoint_that_hangs_holds_up_nobody(house: Telling) -> None:
    await house.endpoint("/hangs")
    await house.endpoint("/works", partner=house.api.beta)
    for_ever = asyncio.Event()

    async def hang(_: Got) -> bytes:
        await for_ever.wait()
        return reply(204)

    house.receiver.answers["/hangs"] = hang
    for place in range(200):
        await house.add(UUID(int=place))
    await house.start()
    await house.receiver.until("/hangs", 1)
    for place in range(60):
        await house.add(UUID(int=place), partner=house.api.beta)
    await house.until(60)
    assert 1 <= len(house.receiver.at("/hangs")) <= EACH_MAX
    assert len({one.id for one in house.receiver.at("/works")}) == 60


async def test_two_workers_deliver_each_once(house: Telling) -> None:
    await house.endpoint()
    for _ in range(2):
        await house.start()
    for place in range(150):
        await house.add(UUID(int=place % 50), 1 + place // 50)
    await house.until(150)
    assert len(house.receiver.got) == 150
    assert len({one.id for one in house.receiver.got}) == 150
    for place in range(50):
        mine = [
            one.json["seq"] for one in house.receiver.got if one.json["subject_id"] == f"trk_{place:032x}"
        ]
        assert mine == [1, 2, 3]


WORKER = """
import asyncio, sys
from bridge.config import Database, Events
from bridge.database import open_pool
from bridge.events.deliver import Deliverer
from bridge.events.send import Sender
from bridge.events.wake import Hub

async def main():
    settings = Events(allow_networks="127.0.0.0/8")
    pool = await open_pool(Database(pool_max=2), sys.argv[1])
    await Deliverer(pool, settings, Hub(), Sender(settings.allow_networks)).run()

asyncio.run(main())
"""


async def test_a_worker_killed_before_it_could_note_means_the_same_message_again(house: Telling) -> None:
    endpoint = await house.endpoint()
    killed = asyncio.Event()

    async def answer(_: Got) -> bytes:
        await killed.wait()
        return reply(204)

    house.receiver.answers["/hook"] = answer
    await house.add(UUID(int=1))
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, house.dsn)
    try:
        await house.receiver.until("/hook", 1)
    finally:
        worker.send_signal(signal.SIGKILL)
        await worker.wait()
    killed.set()
    row = await house.api.house.row("SELECT * FROM delivery")
    assert (row["state"], row["tries"]) == ("pending", 0)
    assert row["claimed_until"] > datetime.now(UTC)
    await house.start()
    await house.due()
    first, second = await house.receiver.until("/hook", 2)
    assert (first.id, first.body) == (second.id, second.body)
    second.verified(endpoint["secret"])
    await house.until(1)
    assert len(house.receiver.got) == 2


async def test_a_worker_that_stops_lets_go(house: Telling) -> None:
    await house.endpoint()
    for_ever = asyncio.Event()

    async def hang(_: Got) -> bytes:
        await for_ever.wait()
        return reply(204)

    house.receiver.answers["/hook"] = hang
    await house.add(UUID(int=1))
    task = await house.start()
    await house.receiver.until("/hook", 1)
    task.cancel()
    await asyncio.wait({task})
    row = await house.api.house.row("SELECT * FROM delivery")
    assert (row["state"], row["claimed_until"], row["tries"]) == ("pending", None, 0)
    house.receiver.always("/hook", reply(204))
    await house.start()
    await house.until(1)


async def test_an_address_that_became_ours_is_not_sent_to(house: Telling) -> None:
    """It was fine when it was given to us."""
    endpoint = await house.endpoint()
    await house.api.house.rows("UPDATE webhook_endpoint SET url = 'https://10.0.0.1:8443/'")
    await house.start()
    await house.add(UUID(int=1))
    await house.until(1, "tries = 1")
    path = f"/v1/webhooks/{endpoint['webhook_id']}/deliveries"
    [told] = (await house.api.alpha.get(path)).json()["data"]
    assert told["last_error"] == "address refused: Its host is no public address."


async def test_a_partner_that_never_listened_has_no_events(house: Telling) -> None:
    """No endpoint ever: nothing is written."""
    who = await house.caller()
    await house.call(who)
    assert await house.api.house.value("SELECT count(*) FROM event") == 0
