"""Files for rate decks: uploaded once, told row by row, applied, and whatever else somebody may send."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from openpyxl import Workbook

from bridge.rating.store import upload as beside
from tests.api.decks import CSV, FIRST, HEAD, XLSX, applied, made, staged, upload
from tests.api.scene import Api, problem

STALL_S_MAX = 0.05
TURNS_MIN = 100


def workbook(*rows: tuple[object, ...]) -> bytes:
    book, out = Workbook(write_only=True), io.BytesIO()
    sheet = book.create_sheet()
    for row in rows:
        sheet.append(row)
    book.save(out)
    return out.getvalue()


async def test_a_file_is_staged_told_and_applied(api: Api) -> None:
    deck = await made(api.operator)
    response = await upload(api.operator, deck, FIRST, file_name="rates.csv")
    one = response.json()
    assert (one["state"], one["base_version"], one["adds"], one["file_name"]) == ("staged", 1, 3, "rates.csv")
    assert one["summary"] == {
        "rows": 3, "prefixes": 3, "same": 0, "new": 3, "increase": 0, "blocked": 0, "deleted": 0, "decrease": 0,
        "changed": 0, "backdated": 0,
    }  # fmt: skip
    path = response.headers["location"]
    assert (await api.operator.get(path)).json() == one
    assert (await api.operator.get(deck)).json()["version"] == 1
    changes = (await api.operator.get(f"{path}/changes", limit=2)).json()
    rest = (await api.operator.get(f"{path}/changes", limit=2, cursor=changes["next"])).json()
    told = changes["data"] + rest["data"]
    assert [(item["prefix"], item["kind"], item["row"]) for item in told] == [
        ("44", "new", 4),
        ("49", "new", 2),
        ("4915", "new", 3),
    ]
    assert told[1]["after"]["rate"] == "0.01" and told[1]["before"] is None
    done = await api.operator.post(f"{path}/apply")
    assert (done.json()["state"], done.json()["version"]) == ("applied", 2)
    assert (await api.operator.get(deck)).json()["version"] == 2
    again = await api.operator.post(f"{path}/apply")
    assert again.json()["version"] == 2
    assert (await staged(api.operator, deck, FIRST))["state"] == "same"
    assert [item["import_id"] for item in (await api.operator.get(f"{deck}/imports")).json()["data"]][
        -1
    ] == one["import_id"]
    actions = await api.house.rows("SELECT action, detail FROM audit_log ORDER BY audit_id")
    assert json.loads(actions[1]["detail"])["file_sha256"] == one["file_sha256"]
    assert [row["action"] for row in actions] == [
        "deck.create", "deck.import", "deck.apply", "deck.apply", "deck.import",
    ]  # fmt: skip


async def test_a_workbook_says_the_same(api: Api) -> None:
    deck = await made(api.operator)
    file = workbook(("prefix", "destination", "rate"), (49, "Germany", 0.01), ("4915", "Mobile", "0.05"))
    one = await staged(api.operator, deck, file, kind=XLSX)
    assert (one["state"], one["adds"]) == ("staged", 2)


async def test_what_is_wrong_is_told_by_row(api: Api) -> None:
    deck = await made(api.alpha)
    wrong = "".join(f"0{n},=1+1,x,60,6,\n" for n in range(30))
    one = await staged(api.alpha, deck, f"{HEAD}\n{wrong}")
    assert (one["state"], one["summary"]) == ("refused", {"rows": 30, "prefixes": 0, "errors": 90})
    path = f"{deck}/imports/{one['import_id']}"
    first = (await api.alpha.get(f"{path}/errors", limit=100)).json()
    page = (await api.alpha.get(f"{path}/errors", limit=50)).json()
    rest = (await api.alpha.get(f"{path}/errors", limit=50, cursor=page["next"])).json()
    assert page["data"] + rest["data"] == first["data"] and rest["next"] is None
    assert [(item["row"], item["column"]) for item in first["data"][:3]] == [
        (2, "prefix"),
        (2, "destination"),
        (2, "rate"),
    ]
    report = await api.alpha.get(f"{path}/report")
    cells = list(csv.DictReader(io.StringIO(report.text)))
    assert len(cells) == 90 and cells[0]["row"] == "2"
    problem(await api.alpha.post(f"{path}/apply"), 409, "conflict")
    assert (await api.alpha.get(deck)).json()["version"] == 1


async def test_of_endless_errors_so_many_are_kept(api: Api) -> None:
    deck = await made(api.alpha)
    one = await staged(api.alpha, deck, f"{HEAD}\n" + "0,,,,,\n" * 5_000)
    assert one["summary"]["errors"] == 15_000
    assert await api.house.value("SELECT count(*) FROM deck_import_error") == beside.ERRORS_MAX


async def test_a_dry_run_cannot_be_applied(api: Api) -> None:
    deck = await made(api.alpha)
    one = await staged(api.alpha, deck, FIRST, dry_run=True)
    assert (one["state"], one["dry_run"]) == ("staged", True)
    problem(await api.alpha.post(f"{deck}/imports/{one['import_id']}/apply"), 409, "conflict")


async def test_a_deck_that_moved_on_refuses_older_files(api: Api) -> None:
    deck = await made(api.alpha)
    one = await staged(api.alpha, deck, FIRST)
    await applied(api.alpha, deck, f"{HEAD}\n39,Italy,0.01,1,1,\n")
    problem(await api.alpha.post(f"{deck}/imports/{one['import_id']}/apply"), 409, "conflict")


async def test_a_key_again_is_the_import_again(api: Api) -> None:
    deck = await made(api.alpha)
    first = await upload(api.alpha, deck, FIRST, key="k1")
    again = await upload(api.alpha, deck, FIRST, key="k1")
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    problem(await upload(api.alpha, deck, FIRST + "39,Italy,1,,,\n", key="k1"), 422, "idempotency_key_reused")
    problem(await upload(api.alpha, deck, FIRST, key="k1", dry_run=True), 422, "idempotency_key_reused")
    # An operator's keys are its own
    other = await upload(api.operator, deck, FIRST, key="k1")
    assert other.json()["import_id"] != first.json()["import_id"]
    missing = await upload(api.alpha, deck, FIRST, key=" ")
    assert missing.status_code == 400 or missing.json()["import_id"] != first.json()["import_id"]
    apply = f"{deck}/imports/{first.json()['import_id']}/apply"
    done = [await api.alpha.post(apply, headers={"Idempotency-Key": "k2"}) for _ in range(2)]
    assert done[0].status_code == 200, done[0].text
    assert done[1].content == done[0].content and done[1].headers["idempotency-replayed"] == "true"


async def test_at_once_with_one_key_makes_one(api: Api) -> None:
    deck = await made(api.alpha)
    said = await asyncio.gather(*(upload(api.alpha, deck, FIRST, key="same") for _ in range(6)))
    assert {one.status_code for one in said} <= {201, 409, 503}
    assert all(one.headers["retry-after"] for one in said if one.status_code == 503)
    assert len({one.json()["import_id"] for one in said if one.status_code == 201}) == 1
    assert await api.house.value("SELECT count(*) FROM deck_import") == 1


async def test_ten_who_apply_at_once_make_one_version(api: Api) -> None:
    deck = await made(api.alpha)
    one = await staged(api.alpha, deck, FIRST)
    path = f"{deck}/imports/{one['import_id']}/apply"
    said = await asyncio.gather(*(api.alpha.post(path) for _ in range(10)))
    assert {one.status_code for one in said} <= {200, 503} and any(one.status_code == 200 for one in said)
    assert (await api.alpha.get(deck)).json()["version"] == 2


def bomb(size: int = 2 << 30) -> bytes:
    """A small workbook that unpacks to something huge."""
    out = io.BytesIO(workbook(("prefix", "destination", "rate"), (49, "Germany", 1)))
    with (
        zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as packed,
        packed.open("xl/media/x.bin", "w", force_zip64=True) as to,
    ):
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            to.write(block)
    return out.getvalue()


def rewritten(sheet: str, member: str = "xl/worksheets/sheet1.xml") -> bytes:
    """A workbook whose sheet is this XML."""
    given = zipfile.ZipFile(io.BytesIO(workbook(("prefix", "destination", "rate"), (49, "Germany", 1))))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in given.namelist():
            packed.writestr(name, sheet.encode() if name == member else given.read(name))
    return out.getvalue()


MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
SHEET = "<worksheet {main}><sheetData><row r='1'><c r='A1' t='inlineStr'><is><t>&{name};</t></is></c></row></sheetData></worksheet>"  # noqa: E501
LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "' + "ha" * 500 + '">' + "".join(
        f'<!ENTITY {new} "{f"&{old};" * 20}">' for old, new in pairwise("abcdefgh")
    ) + "]>" + SHEET.format(main=MAIN, name="h")
)  # fmt: skip
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + SHEET.format(main=MAIN, name="a")
FAR_DOWN = f"<worksheet {MAIN}><sheetData><row r='1'><c r='A1'><v>1</v></c></row><row r='999999999999'><c><v>1</v></c></row></sheetData></worksheet>"  # noqa: E501
FAR_RIGHT = (
    f"<worksheet {MAIN}><sheetData>"
    + "<row><c r='XFD1'><v>1</v></c></row>" * 1000
    + "</sheetData></worksheet>"
)
HOSTILE = {
    "empty": (CSV, b""),
    "blank": (CSV, b"\n\n\n"),
    "one endless line": (CSV, b"prefix,destination,rate\n" + b"4" * (8 << 20)),
    "a million columns": (CSV, b"prefix,destination,rate\n49" + b"," * 1_000_000 + b"\n"),
    "a million names": (CSV, b"," * 1_000_000 + b"\n49,a,1\n"),
    "quotes that never end": (CSV, b'prefix,destination,rate\n"' + b"4\n" * 1_000_000),
    "latin-1": (CSV, "prefix,destination,rate\n49,Österreich,1\n".encode("latin-1")),
    "NUL": (CSV, b"prefix,destination,rate\n49,a\0b,1\n"),
    "binary": (CSV, bytes(range(256)) * 100),
    "prefixes without end": (CSV, b"prefix,area,destination,rate\n" + b"49," + b"1-9;" * 30_000 + b",x,1\n"),
    "no workbook": (XLSX, b"PK\x03\x04" + b"x" * 1000),
    "torn workbook": (XLSX, workbook(("prefix", "destination", "rate"), (49, "a", 1))[:-200]),
    "zip bomb": (XLSX, bomb()),
    "entities": (XLSX, rewritten(LAUGHS)),
    "a file from here": (XLSX, rewritten(OUTSIDE)),
    "a row far down": (XLSX, rewritten(FAR_DOWN)),
    "a cell far right": (XLSX, rewritten(FAR_RIGHT)),
    "a sheet that is none": (XLSX, rewritten("<a><b></a>")),
    "another zip": (XLSX, rewritten("x", "[Content_Types].xml")),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_is_refused_and_leaves_nothing(api: Api, name: str) -> None:
    deck = await made(api.alpha)
    kind, content = HOSTILE[name]
    begun = time.monotonic()
    response = await upload(api.alpha, deck, content, kind=kind)
    assert time.monotonic() - begun < 30
    assert "root:" not in response.text and len(response.content) < 20_000
    if response.status_code == 201:
        one = response.json()
        assert one["state"] == "refused", one
        errors = (await api.alpha.get(f"{deck}/imports/{one['import_id']}/errors")).json()["data"]
        assert errors and all(len(item["problem"]) < 3_000 for item in errors)
    else:
        problem(response, 422, "invalid_request")
        assert await api.house.value("SELECT count(*) FROM deck_import") == 0
    assert await api.house.value("SELECT count(*) FROM deck_import_row") == 0
    assert (
        await api.house.value(
            "SELECT count(*) FROM rate r JOIN deck USING (deck_id) WHERE partner_id IS NOT NULL"
        )
        == 0
    )


async def test_a_charset_is_named(api: Api) -> None:
    deck = await made(api.alpha)
    text = "prefix,destination,rate\n43,Österreich,0.01\n".encode("cp1252")
    await applied(api.alpha, deck, text, kind="text/csv; charset=windows-1252")
    assert (await api.alpha.get(f"{deck}/rates")).json()["data"][0]["destination"] == "Österreich"
    for charset in ("utf-7", "zlib_codec", "idna", "nonsense", '""', "a\x00b", "*=x''%ff"):
        said = await upload(api.alpha, deck, text, kind=f"text/csv; charset={charset}")
        problem(said, 415, "unsupported_media_type")


async def test_other_kinds_of_body_are_refused(api: Api) -> None:
    deck = await made(api.alpha)
    for kind in ("application/json", "", "text/plain", "text/csv2", "multipart/form-data; boundary=x"):
        problem(await upload(api.alpha, deck, FIRST, kind=kind), 415, "unsupported_media_type")
    problem(await upload(api.alpha, deck, FIRST, kind=XLSX), 415, "unsupported_media_type")
    problem(await upload(api.alpha, deck, workbook(("prefix",))), 415, "unsupported_media_type")
    problem(await upload(api.alpha, deck, FIRST, mode="merge"), 400, "bad_request")
    problem(await upload(api.alpha, deck, FIRST, effective_at="tomorrow"), 400, "bad_request")
    problem(await upload(api.alpha, deck, FIRST, colour="blue"), 400, "bad_request")
    problem(await upload(api.alpha, deck, FIRST, file_name="a\x00b"), 400, "bad_request")
    assert await api.house.value("SELECT count(*) FROM deck_import") == 0


async def test_a_body_beyond_the_limit_is_refused_while_it_comes(api: Api) -> None:
    deck = await made(api.alpha)
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 80:
            sent += 1
            yield bytes(1 << 20)

    response = await api.alpha.ask("POST", f"{deck}/imports", content=pieces(), headers={"Content-Type": CSV})
    problem(response, 413, "too_large")
    announced = await api.alpha.ask(
        "POST",
        f"{deck}/imports",
        content=b"x",
        headers={"Content-Type": CSV, "Content-Length": str(65 << 20)},
    )
    problem(announced, 413, "too_large")
    assert (await upload(api.alpha, deck, FIRST)).status_code == 201


async def test_one_import_at_a_time(api: Api) -> None:
    deck = await made(api.alpha)
    receiving, alpha = api.services.receiving, api.alpha.partner_id
    with receiving.take("a test", alpha), receiving.take("a test", alpha):
        problem(await upload(api.alpha, deck, FIRST), 503, "unavailable")
        theirs = await made(api.beta, "Theirs")
        assert (await upload(api.beta, theirs, FIRST)).status_code == 201
    with api.services.staging.take("a test"):
        busy = await upload(api.alpha, deck, FIRST)
        problem(busy, 503, "unavailable")
        assert busy.headers["retry-after"] == "5"
    with api.services.applying.take("a test"):
        busy = await api.alpha.post(f"{deck}/rollback", {"to_version": 1})
        # whose deck it is comes first; then that there is room
        assert busy.status_code in (403, 503)
    assert (await upload(api.alpha, deck, FIRST)).status_code == 201


async def test_calls_do_not_wait_for_an_import(api: Api) -> None:
    """100 000 rows are read, compared and applied; nothing else on this loop waits for it."""
    deck = await made(api.operator)
    rows = "".join(f"{n},Somewhere {n % 500},0.0{n % 90 + 10},60,6,\n" for n in range(100_000, 200_000))
    content = f"{HEAD}\n{rows}".encode()
    work: list[float] = []

    async def watch() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            work.append(now - before)
            before = now

    watching = asyncio.create_task(watch())
    one = await staged(api.operator, deck, content)
    done = await api.operator.post(f"{deck}/imports/{one['import_id']}/apply")
    watching.cancel()
    assert done.status_code == 200, done.text
    # Work of this thread alone, since the machine may be busy; had something blocked it, there were few turns
    assert max(work) < STALL_S_MAX and len(work) > TURNS_MIN
    assert (await api.operator.get(deck)).json()["rates"]["in_force"] == 100_000


# ---------------------------------------------------------------- a carrier and its prices


def days(count: float) -> str:
    return (datetime.now(UTC) + timedelta(days=count)).isoformat()


async def test_a_carrier_charges_more_only_with_notice(api: Api) -> None:
    deck = await made(api.alpha)
    await applied(api.alpha, deck, FIRST)
    lower = await applied(api.alpha, deck, f"{HEAD}\n49,Germany,0.009,60,6,\n")
    assert lower["rises_at"] is None
    at_once = await staged(api.alpha, deck, f"{HEAD}\n44,Kingdom,0.02,1,1,\n49,Germany,0.02,60,6,\n")
    assert (at_once["state"], at_once["summary"]["errors"]) == ("refused", 1)
    errors = (await api.alpha.get(f"{deck}/imports/{at_once['import_id']}/errors")).json()["data"]
    assert [(one["row"], one["column"]) for one in errors] == [(3, "effective_from")]
    assert "notice" in errors[0]["problem"]
    # Dearer by a longer prefix, or by what is left when one goes
    sly = await staged(api.alpha, deck, f"{HEAD}\n4930,Berlin,0.5,60,6,\n")
    assert sly["state"] == "refused"
    late = await staged(api.alpha, deck, f"{HEAD}\n49,Germany,0.02,60,6,{days(8)}\n")
    assert late["state"] == "staged" and late["rises_at"]
    # An operator says what is right at once
    assert (await staged(api.operator, deck, f"{HEAD}\n49,Germany,0.02,60,6,\n"))["state"] == "staged"
    # What was announced in time, and applied too late, was not announced in time
    await api.house.rows(
        "UPDATE deck_import SET rises_at = rises_at - interval '5 days' WHERE rises_at IS NOT NULL"
    )
    path = f"{deck}/imports/{late['import_id']}/apply"
    assert "Stage the file again" in problem(await api.alpha.post(path), 409, "conflict")["detail"]
    assert (await api.operator.post(path)).status_code == 200
    problem(await api.alpha.post(f"{deck}/rollback", {"to_version": 1}), 403, "not_allowed")


async def test_ending_a_price_and_asking_more_later_is_a_rise(api: Api) -> None:
    deck = await made(api.alpha)
    await applied(api.alpha, deck, FIRST)
    await applied(api.alpha, deck, "prefix,destination,rate,change\n44,,,delete\n")
    back = await staged(api.alpha, deck, f"{HEAD}\n44,Kingdom,0.5,1,1,\n")
    assert back["state"] == "refused"
    assert (await staged(api.alpha, deck, f"{HEAD}\n44,Kingdom,0.02,1,1,\n"))["state"] == "staged"


async def test_what_people_pay_is_the_partners_own_affair(api: Api) -> None:
    deck = await made(api.alpha, side="sell")
    await applied(api.alpha, deck, FIRST)
    assert (await staged(api.alpha, deck, f"{HEAD}\n49,Germany,0.5,60,6,\n"))["state"] == "staged"


async def test_an_import_that_lost_its_rows_is_refused(api: Api) -> None:
    """Only so many files wait to be applied: older ones are to be sent again."""
    deck = await made(api.alpha)
    first = await staged(api.alpha, deck, FIRST)
    await api.house.rows("DELETE FROM deck_import_row")
    told = problem(await api.alpha.post(f"{deck}/imports/{first['import_id']}/apply"), 409, "conflict")
    assert "Stage the file again" in told["detail"]
    assert json.loads((await api.house.row("SELECT summary FROM deck_import"))["summary"])["new"] == 3
