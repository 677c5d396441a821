"""Voice messages over the API: each its own, the sound as a file, and deleted for good."""

from __future__ import annotations

import asyncio
import io
import wave
from pathlib import Path
from uuid import uuid4

import pytest
from httpx import Response

from bridge.api.fields import show_id
from tests.api.recording import PATH, left, subscriber
from tests.api.scene import Api, problem
from tests.network import Network
from tests.seeded import ended


@pytest.fixture
def folder(api: Api) -> Path:
    return api.services.settings.messages.folder


def sounds(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.wav"))


async def test_left_listed_heard_and_deleted(api: Api, folder: Path) -> None:
    path = await left(api, folder, api.alpha, ms=2_500)
    told = (await api.alpha.get(path)).json()
    caller = await api.house.value("SELECT a_number FROM call WHERE direction = 'in'")
    assert told | {"call_id": "", "subscriber_id": "", "left_at": ""} == {
        "message_id": path.removeprefix(f"{PATH}/"), "call_id": "", "partner_id": api.alpha.id, "subscriber_id": "",
        "from": caller, "duration_ms": 2_500, "left_at": "", "url": f"{path}/audio",
    }  # fmt: skip
    listed = await api.alpha.get(PATH)
    assert listed.json() == {"data": [told], "next": None}
    assert (await api.operator.get(PATH)).json() == listed.json()
    assert (await api.alpha.get(PATH, subscriber_id=told["subscriber_id"])).json() == listed.json()
    heard = await api.alpha.get(told["url"])
    assert (heard.status_code, heard.headers["content-type"]) == (200, "audio/wav")
    assert int(heard.headers["content-length"]) == len(heard.content) == 44 + 40_000
    assert heard.headers["content-disposition"] == f'attachment; filename="{told["message_id"]}.wav"'
    with wave.open(io.BytesIO(heard.content), "rb") as read:
        assert (read.getnframes(), read.getframerate()) == (20_000, 8_000)
    assert len(sounds(folder)) == 1
    gone = await api.alpha.ask("DELETE", path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert sounds(folder) == []
    for request in (api.alpha.get(path), api.alpha.get(told["url"]), api.alpha.ask("DELETE", path)):
        problem(await request, 404, "not_found")
    assert (await api.alpha.get(PATH)).json()["data"] == []
    audit = (await api.alpha.get("/v1/audit-log")).json()["data"][0]
    assert (audit["action"], audit["subject"]) == ("voice_message.delete", told["message_id"])


async def test_what_is_anothers_is_not_there(api: Api, folder: Path) -> None:
    mine, theirs, ours = [await left(api, folder, owner) for owner in (api.alpha, api.beta, None)]
    for path in (theirs, ours):
        for asked in (api.alpha.get(path), api.alpha.get(f"{path}/audio"), api.alpha.ask("DELETE", path)):
            problem(await asked, 404, "not_found")
    of = (await api.beta.get(theirs)).json()["subscriber_id"]
    problem(await api.alpha.get(PATH, subscriber_id=of), 404, "not_found")
    assert len(sounds(folder)) == 3
    assert [one["url"] for one in (await api.alpha.get(PATH)).json()["data"]] == [f"{mine}/audio"]
    assert len((await api.operator.get(PATH)).json()["data"]) == 3
    assert (await api.operator.get(f"{ours}/audio")).status_code == 200


async def test_pages_go_on_where_the_one_before_ended(api: Api, folder: Path) -> None:
    to = await subscriber(api, api.alpha)
    paths = [await left(api, folder, api.alpha, to=to) for _ in range(5)]
    for query in ({}, {"subscriber_id": show_id("sub", to)}):
        seen, cursor = [], None
        while True:
            page = (
                await api.alpha.get(PATH, limit=2, **query, **({"cursor": cursor} if cursor else {}))
            ).json()
            seen += [one["url"].removesuffix("/audio") for one in page["data"]]
            if (cursor := page["next"]) is None:
                break
        assert seen == paths[::-1]


async def test_scopes(api: Api, folder: Path) -> None:
    path = await left(api, folder, api.alpha)
    reader = await api.key("messages:read", partner_id=api.alpha.partner_id)
    other = await api.key("calls:read", "cdrs:read", partner_id=api.alpha.partner_id)
    assert (await reader.get(f"{path}/audio")).status_code == 200
    problem(await reader.ask("DELETE", path), 403, "scope_missing")
    for asked in (other.get(PATH), other.get(path), other.get(f"{path}/audio")):
        problem(await asked, 403, "scope_missing")
    assert len(sounds(folder)) == 1


@pytest.mark.parametrize(
    "name",
    [
        "..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "msg_" + "g" * 32, "msg_" + "A" * 32, "msg_",
        "msg_" + "0" * 31 + "%2f..", "msg_" + "0" * 33, "call_" + "0" * 32, "%00", "msg_%00", "kept",
    ],
)  # fmt: skip
async def test_no_name_leads_out_of_the_folder(api: Api, folder: Path, name: str) -> None:
    (folder.parent / "secret.wav").write_bytes(b"x" * 1000)
    for path in (f"{PATH}/{name}/audio", f"{PATH}/{name}"):
        answer = await api.operator.get(path)
        assert answer.status_code in (400, 404, 422), answer.text
        assert b"xxx" not in answer.content


async def test_a_message_whose_sound_is_gone_says_so(api: Api, folder: Path) -> None:
    path = await left(api, folder, api.alpha)
    for file in sounds(folder):
        file.unlink()
    problem(await api.alpha.get(f"{path}/audio"), 404, "not_found")
    assert (await api.alpha.get(path)).status_code == 200
    assert (await api.alpha.ask("DELETE", path)).status_code == 204


async def test_a_caller_who_is_not_shown_is_null(api: Api, folder: Path) -> None:
    for columns in ({"anonymous": True}, {"a_number": "anonymous"}):
        told = (await api.alpha.get(await left(api, folder, api.alpha, **columns))).json()
        assert told["from"] is None


async def test_of_many_who_delete_at_once_one_does(api: Api, folder: Path) -> None:
    path = await left(api, folder, api.alpha)
    answers: list[Response] = await asyncio.gather(*(api.alpha.ask("DELETE", path) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404, 404]
    assert sounds(folder) == []


async def test_nobody_is_told_of_what_never_was(api: Api, folder: Path) -> None:
    path = f"{PATH}/{show_id('msg', uuid4())}"
    for asked in (
        api.operator.get(path),
        api.operator.get(f"{path}/audio"),
        api.operator.ask("DELETE", path),
    ):
        problem(await asked, 404, "not_found")


async def test_only_the_partner_whose_trunk_it_is_is_told_of_it(api: Api) -> None:
    call_ids = []
    for owner in (api.alpha, api.beta):
        to = await subscriber(api, owner)
        number = await api.house.value("SELECT a_number FROM subscriber WHERE subscriber_id = $1", to)
        call_id = await Network(api.house, "alpha").admitted(number)
        await api.house.end(ended(call_id, 5_000))
        call_ids.append(show_id("call", call_id))
    await api.own("trunk", api.alpha, name="alpha")
    asked = {
        "theirs": (api.alpha, call_ids[0]),
        "anothers": (api.beta, call_ids[1]),
        "ours": (api.operator, call_ids[1]),
    }
    told = {
        name: (await client.get(f"/v1/calls/{call_id}")).json()["trunk_in"]
        for name, (client, call_id) in asked.items()
    }
    assert told["anothers"] is None
    assert told["theirs"] == told["ours"]
    assert told["ours"]["trunk"] == "alpha"
    cdr = (await api.beta.get(f"/v1/cdrs/cdr_{call_ids[1].removeprefix('call_')}")).json()
    assert cdr["direction"] == "in"
    assert "alpha" not in str(cdr)
