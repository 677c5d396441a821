"""Exports, numbered files and who gets them: made by a job, fetched by whose they are, and by nobody else."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge.api.fields import read_id
from bridge.database import connect
from bridge.exports import extract
from bridge.exports.cdr_files import run as run_files
from bridge.exports.store import export as store
from bridge.exports.store.cdr_files import recipient_by_id
from bridge.jobs.work import WORK, Task
from tests.api.scene import Api, Partner, problem
from tests.seeded import ended

PATH = "/v1/exports"
FILES = "/v1/cdr-files"
RECIPIENTS = "/v1/cdr-recipients"
LAG_S = 5


def at(days: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def asked(**given: Any) -> dict[str, Any]:
    return {"type": "cdr", "since": at(-1), "until": at(), "format": "csv"} | given


async def called(api: Api, partner: Partner, talk_ms: int = 61_000) -> UUID:
    """A call of a partner's subscriber that ended a minute ago."""
    who = await api.house.subscriber(10_000_000)
    await api.own("subscriber", partner, account_id=who.account_id)
    await api.own("account", partner, account_id=who.account_id)
    call_id = (await api.house.admitted(who)).frozen.call_id
    await api.house.end(ended(call_id, talk_ms))
    return call_id


async def work(api: Api, kind: str, dsn: str, **payload: str) -> Mapping[str, Any]:
    """What a job's process does, in this one."""
    async with connect(dsn) as conn:
        return await WORK[kind].do(Task(api.services.settings, conn, payload))


async def made(api: Api, dsn: str, partner: Partner, **given: Any) -> dict[str, Any]:
    """An export that is done."""
    response = await partner.post(PATH, asked(**given))
    assert response.status_code == 202, response.text
    export_id = response.json()["export_id"]
    await api.house.rows(
        "UPDATE export SET until_at = least(until_at, now() - make_interval(secs => $1))", LAG_S
    )
    await work(api, "extract", dsn, export_id=str(read_id("exp", export_id)))
    found: dict[str, Any] = (await partner.get(f"{PATH}/{export_id}")).json()
    assert found["state"] == "done", found
    return found


async def test_asked_for_made_fetched(api: Api, dsn: str) -> None:
    webhook = await api.alpha.post("/v1/webhooks", {"url": "https://hooks.example.com/"})
    assert webhook.status_code in (201, 422)
    mine, theirs = await called(api, api.alpha), await called(api, api.beta)
    await api.house.rows("UPDATE call SET ended_at = ended_at - interval '1 minute'")
    done = await made(api, dsn, api.alpha)
    assert done["rows"] == done["totals"]["rows"] == 1
    file = await api.alpha.get(done["url"])
    assert file.status_code == 200, file.text
    assert hashlib.sha256(file.content).hexdigest() == done["sha256"] == file.headers["x-content-sha256"]
    assert file.headers["etag"] == f'"{done["sha256"]}"'
    assert file.headers["content-disposition"] == f'attachment; filename="{done["name"]}"'
    assert len(file.content) == done["bytes"] == int(file.headers["content-length"])
    text = gzip.decompress(file.content).decode()
    assert mine.hex in text and theirs.hex not in text
    assert (await api.alpha.get(PATH)).json()["data"] == [done]


async def test_a_download_goes_on_where_it_broke_off(api: Api, dsn: str) -> None:
    done = await made(api, dsn, api.alpha)
    whole = (await api.alpha.get(done["url"])).content
    for given, status, content in (
        ("bytes=10-", 206, whole[10:]),
        ("bytes=0-9", 206, whole[:10]),
        (f"bytes={len(whole)}-", 200, whole),
        ("bytes=9-3", 200, whole),
        ("bytes=0-1,3-4", 200, whole),
        ("bytes=-5", 200, whole),
        ("lines=1-2", 200, whole),
    ):
        part = await api.alpha.ask("GET", done["url"], headers={"Range": given})
        assert (part.status_code, part.content) == (status, content), given
    etag = {"If-None-Match": f'"{done["sha256"]}"'}
    assert (await api.alpha.ask("GET", done["url"], headers=etag)).status_code == 304
    other = {"Range": "bytes=10-", "If-Range": '"another"'}
    assert (await api.alpha.ask("GET", done["url"], headers=other)).content == whole


async def test_another_partners_are_not_there(api: Api, dsn: str) -> None:
    done = await made(api, dsn, api.alpha)
    for path in (f"{PATH}/{done['export_id']}", done["url"]):
        problem(await api.beta.get(path), 404, "not_found")
        problem(await (await api.key("cdrs:read")).get(path), 403, "scope_missing")
    assert (await api.beta.get(PATH)).json()["data"] == []
    problem(await api.beta.post(PATH, asked(partner_id=api.alpha.id)), 404, "not_found")
    assert (await api.operator.get(done["url"])).status_code == 200
    for trick in ("exp_..%2f..%2fetc", "exp_" + "0" * 31 + "/", f"{done['export_id']}%00", "../cdr-files"):
        assert (await api.alpha.get(f"{PATH}/{trick}/file")).status_code in (400, 404)


async def test_absurd_requests_are_refused(api: Api) -> None:
    for wrong in (
        {"since": at(), "until": at(-1)},
        {"since": at(-1), "until": at(-1)},
        {"since": at(-401)},
        {"until": at(1)},
        {"since": "1970-01-01T00:00:00Z"},
        {"since": "yesterday"},
        {"since": "2026-10-01T00:00:00"},
        {"type": "calls"},
        {"format": "tap3"},
        {"format": "../csv"},
        {"folder": "/etc"},
    ):
        problem(await api.alpha.post(PATH, asked(**wrong)), 422, "invalid_request")
    problem(await api.operator.post(PATH, asked(partner_id=f"prt_{uuid4().hex}")), 404, "not_found")
    assert await api.house.value("SELECT count(*) FROM export") == 0


async def test_three_are_waited_for_at_a_time(api: Api) -> None:
    for _ in range(store.WAITED_FOR_MAX):
        assert (await api.alpha.post(PATH, asked())).status_code == 202
    problem(await api.alpha.post(PATH, asked()), 409, "conflict")
    assert (await api.beta.post(PATH, asked())).status_code == 202, "each has its own"
    assert await api.house.value("SELECT count(*) FROM job WHERE kind = 'extract'") == 4


async def test_one_key_is_one_export(api: Api) -> None:
    key = {"Idempotency-Key": "once"}
    body = asked()
    first = await api.alpha.post(PATH, body, headers=key)
    again = await api.alpha.post(PATH, body, headers=key)
    assert first.json() == again.json()
    assert first.headers["location"] == f"{PATH}/{first.json()['export_id']}"
    assert await api.house.value("SELECT count(*) FROM job") == 1


async def test_what_is_not_done_is_not_there_yet(api: Api, dsn: str) -> None:
    asked_for = (await api.alpha.post(PATH, asked())).json()
    problem(await api.alpha.get(f"{PATH}/{asked_for['export_id']}/file"), 409, "conflict")
    async with connect(dsn) as conn:
        await store.failed(conn, read_id("exp", asked_for["export_id"]), "There are too many rows.")
    failed = (await api.alpha.get(f"{PATH}/{asked_for['export_id']}")).json()
    assert (failed["state"], failed["problem"], failed["url"]) == ("failed", "There are too many rows.", None)
    problem(await api.alpha.get(f"{PATH}/{asked_for['export_id']}/file"), 409, "conflict")


async def test_files_are_kept_for_some_days(api: Api, dsn: str) -> None:
    done = await made(api, dsn, api.alpha)
    home = extract.home(api.services.settings, read_id("exp", done["export_id"]))
    assert (await work(api, "tidy", dsn)) == {"removed": 0}
    await api.house.rows("UPDATE export SET expires_at = now() - interval '1 second'")
    assert (await work(api, "tidy", dsn)) == {"removed": 1}
    assert not home.exists()
    problem(await api.alpha.get(f"{PATH}/{done['export_id']}/file"), 410, "gone")
    assert (await api.alpha.get(f"{PATH}/{done['export_id']}")).json()["url"] is None


async def test_a_file_that_is_not_there_or_not_ours_is_gone(api: Api, dsn: str, tmp_path: Path) -> None:
    done = await made(api, dsn, api.alpha)
    path = extract.home(api.services.settings, read_id("exp", done["export_id"])) / done["name"]
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * done["bytes"])
    path.unlink()
    problem(await api.alpha.get(done["url"]), 410, "gone")
    path.symlink_to(secret)
    problem(await api.alpha.get(done["url"]), 410, "gone")


async def test_whoever_listens_is_told(api: Api, dsn: str) -> None:
    await api.house.rows("UPDATE partner SET keeps_events = true")
    done = await made(api, dsn, api.alpha)
    [event] = await api.house.rows("SELECT * FROM event WHERE kind LIKE 'export.%'")
    assert (event["kind"], event["partner_id"]) == ("export.done", api.alpha.partner_id)
    told = json.loads(event["data"])
    assert told["export_id"] == done["export_id"]
    assert (told["sha256"], told["url"], told["rows"]) == (done["sha256"], done["url"], 0)
    other = (await api.alpha.post(PATH, asked())).json()
    export_id = read_id("exp", other["export_id"])
    given_up = WORK["extract"].given_up
    assert given_up is not None
    async with connect(dsn) as conn:
        await given_up(conn, {"export_id": str(export_id)}, "It took too long.")
        await given_up(conn, {"export_id": str(export_id)}, "It took too long.")
    [failed] = await api.house.rows("SELECT * FROM event WHERE kind = 'export.failed'")
    assert json.loads(failed["data"])["problem"] == "It took too long."


# ---------------------------------------------------------------- recipients and their files


def recipient(**given: Any) -> dict[str, Any]:
    return {"code": "alpha", "types": ["cdr"], "target": {"kind": "api"}, "since": at(-2)} | given


async def filed(api: Api, dsn: str, partner: Partner) -> dict[str, Any]:
    """A recipient with files of two hours and more."""
    body = recipient(
        partner_id=partner.id, code=f"r{partner.partner_id.hex[-8:]}", period="hourly", since=at(-0.1)
    )
    response = await api.operator.post(RECIPIENTS, body)
    assert response.status_code == 201, response.text
    kept: dict[str, Any] = response.json()
    await work(api, "cdr_files", dsn, recipient_id=str(read_id("rcp", kept["recipient_id"])))
    return kept


async def test_numbered_files_are_fetched_by_whose_they_are(api: Api, dsn: str) -> None:
    kept = await filed(api, dsn, api.alpha)
    [newest, *older] = (await api.alpha.get(FILES)).json()["data"]
    assert [one["file_no"] for one in (newest, *older)] == list(range(len(older) + 1, 0, -1))
    assert (newest["recipient"], newest["state"], newest["rows"]) == (kept["code"], "delivered", 0)
    file = await api.alpha.get(newest["url"])
    assert hashlib.sha256(file.content).hexdigest() == newest["sha256"]
    manifest = (await api.alpha.get(f"{FILES}/{newest['file_id']}/manifest")).json()
    assert (manifest["file"], manifest["sha256"]) == (newest["name"], newest["sha256"])
    by_recipient = await api.alpha.get(FILES, recipient_id=kept["recipient_id"], type="cdr", limit=1)
    assert by_recipient.json()["data"] == [newest]
    for path in ("", "/file", "/manifest"):
        problem(await api.beta.get(f"{FILES}/{newest['file_id']}{path}"), 404, "not_found")
    assert (await api.beta.get(FILES)).json()["data"] == []
    problem(await api.beta.get(FILES, recipient_id=kept["recipient_id"]), 404, "not_found")
    assert (await api.operator.get(FILES)).json()["data"][0] == newest


async def test_a_partner_reads_its_recipients_but_not_where_files_go(api: Api) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    sftp = {"kind": "sftp", "host": "sftp.example.com", "user": "us", "folder": "in", "host_key": key}
    body = recipient(partner_id=api.alpha.id, target=sftp)
    made = await api.operator.post(RECIPIENTS, body)
    assert made.status_code == 201, made.text
    path = made.headers["location"]
    assert made.json()["target"] == sftp | {"port": None, "path": None}
    assert (await api.operator.get(path)).json() == made.json()
    mine = (await api.alpha.get(path)).json()
    assert mine == made.json() | {"target": None}
    assert (await api.alpha.get(RECIPIENTS)).json()["data"] == [mine]
    problem(await api.beta.get(path), 404, "not_found")
    problem(await api.alpha.post(RECIPIENTS, body), 403, "not_allowed")
    problem(await api.alpha.patch(path, {"enabled": False}), 403, "not_allowed")
    changed = await api.operator.patch(path, {"enabled": False, "period": "monthly"}, made.headers["etag"])
    assert changed.json() == made.json() | {"enabled": False, "period": "monthly"}
    problem(await api.operator.patch(path, {"enabled": True}, made.headers["etag"]), 412, "stale")
    problem(await api.operator.post(RECIPIENTS, body | {"code": "ALPHA"}), 409, "conflict")


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": "../x"},
        {"code": "a" * 21},
        {"types": []},
        {"types": ["cdr", "margin"]},
        {"time_zone": "Mars/Olympus"},
        {"time_zone": "../../etc/passwd"},
        {"target": {"kind": "directory", "path": "/etc/cron.d"}},
        {"target": {"kind": "directory", "path": "relative"}},
        {
            "target": {
                "kind": "sftp",
                "host": "h",
                "user": "u",
                "folder": "../x",
                "host_key": "ssh-ed25519 AAAA",
            }
        },
        {"target": {"kind": "sftp", "host": "h", "user": "-oProxyCommand=x", "folder": "x", "host_key": "x"}},
        {"target": {"kind": "api", "path": "/tmp"}},
        {"target": {"kind": "ftp"}},
    ],
)
async def test_targets_that_lead_elsewhere_are_refused(api: Api, wrong: dict[str, Any]) -> None:
    problem(await api.operator.post(RECIPIENTS, recipient(**wrong)), 422, "invalid_request")


async def test_a_directory_below_ours_may_be_named(api: Api) -> None:
    ours = api.services.settings.exports.folder
    for path, status in ((ours / "out", 201), (ours, 422), (ours / ".." / "out", 422)):
        body = recipient(code=f"d{status}{len(str(path))}", target={"kind": "directory", "path": str(path)})
        assert (await api.operator.post(RECIPIENTS, body)).status_code == status, path


async def test_a_worker_makes_files_by_itself(api: Api, dsn: str) -> None:
    """Whoever gets files has a job with the rhythm of its periods."""
    kept = await filed(api, dsn, api.alpha)
    async with connect(dsn) as conn:
        one = await recipient_by_id(conn, read_id("rcp", kept["recipient_id"]))
        again = await run_files(conn, api.services.settings, one, datetime.now(UTC))
    assert (again.planned, again.delivered, again.problem) == (0, [], None)
