"""Reports on real Postgres: they agree with the records and the ledger, and outlive traffic data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from bridge.database import Connection, connect
from bridge.errors import ConfigError, Invalid, NotFound
from bridge.rating.terms import Tax, Terms, tax_micro
from bridge.reports import store
from bridge.reports.period import Period, of_days, of_month
from bridge.reports.report import Ask, Report, report
from bridge.reports.table import to_csv
from bridge.telephony.money import parse_micro
from tests.command import command
from tests.postgres.conftest import Filled
from tests.reported import BERLIN, MONTH, Reported, report_scene

OCTOBER: Period = of_month(MONTH, BERLIN)


@pytest.fixture(scope="module")
def made(filled: Filled) -> tuple[str, Reported]:
    return filled(report_scene)


@pytest.fixture
async def books(made: tuple[str, Reported]) -> AsyncIterator[Connection]:
    """What a test changes is taken back."""
    async with connect(made[0]) as conn:
        change = conn.transaction()
        await change.start()
        yield conn
        await change.rollback()


def named(found: Report) -> dict[str, Any]:
    return {row[found.ask.by]: row for row in found.rows}


async def test_money_is_the_sum_of_the_records_by_whatever_it_is_ordered(books: Connection) -> None:
    sums: Any = await books.fetchrow(
        "SELECT sum(amount_micro) FILTER (WHERE leg = 'origination') AS gross,"
        " sum(amount_micro) FILTER (WHERE leg = 'termination') AS cost FROM cdr"
    )
    for name, by in (
        ("margin", "destination"),
        ("margin", "carrier"),
        ("margin", "partner"),
        ("margin", "day"),
        ("traffic", "hour"),
    ):
        found = await report(books, name, Ask(OCTOBER, by))
        (total,) = found.totals
        assert parse_micro(total["cost"]) == sums["cost"], (name, by)
        assert parse_micro(total["revenue"]) == sums["gross"], (name, by)  # these prices have no tax
        assert total["calls"] == 5
        assert sum(parse_micro(row["cost"]) for row in found.rows) == sums["cost"]


async def test_revenue_and_cost_are_what_the_ledger_booked(
    books: Connection, made: tuple[str, Reported]
) -> None:
    rows = await books.fetch(
        "SELECT a.kind, sum(e.amount_micro)::bigint AS sum FROM entry e JOIN account a USING (account_id)"
        " JOIN transfer t USING (transfer_id)"
        " WHERE t.kind = 'call' AND a.kind IN ('subscriber', 'carrier') GROUP BY 1"
    )
    booked = {row["kind"]: row["sum"] for row in rows}
    (total,) = (await report(books, "margin", Ask(OCTOBER, "partner"))).totals
    assert (parse_micro(total["gross"]), parse_micro(total["cost"])) == (
        -booked["subscriber"],
        booked["carrier"],
    )


async def test_margin_by_partner_destination_and_carrier(books: Connection) -> None:
    by_partner = named(await report(books, "margin", Ask(OCTOBER, "partner")))
    assert {name: (row["calls"], row["revenue"]) for name, row in by_partner.items()} == {
        "=Acme": (4, "0.332"),
        "(our own)": (1, "0.03"),
    }
    by_place = named(await report(books, "margin", Ask(OCTOBER, "destination")))
    assert by_place["Germany"]["revenue"] == "0.19"
    assert by_place["United Kingdom"]["calls"] == 1
    by_carrier = named(await report(books, "margin", Ask(OCTOBER, "carrier")))
    assert set(by_carrier) == {"alpha", "beta", "(no carrier)"}
    assert by_carrier["beta"]["revenue"] == "0.03"


async def test_both_hours_of_the_long_night_count_on_its_day(books: Connection) -> None:
    days = named(await report(books, "traffic", Ask(OCTOBER, "day")))
    assert {day: row["answered"] for day, row in days.items()} == {
        "2026-10-01": 1, "2026-10-25": 2, "2026-10-26": 0, "2026-10-31": 1,
    }  # fmt: skip
    hours = named(await report(books, "traffic", Ask(OCTOBER, "week_hour")))
    assert hours["7 02"]["answered"] == 2
    night = of_days(date(2026, 10, 25), date(2026, 10, 25), BERLIN)
    assert (night.until - night.since).total_seconds() == 25 * 3600
    assert night.hours_of_week()["7 02"] == 2
    (total,) = (await report(books, "traffic", Ask(night, "day"))).totals
    assert total["calls"] == 2


async def test_quality_counts_attempts_by_carrier_and_calls_by_all_else(books: Connection) -> None:
    by_carrier = named(await report(books, "quality", Ask(OCTOBER, "carrier")))
    alpha, beta = by_carrier["alpha"], by_carrier["beta"]
    # Five seizures: three answered, one busy (effective), one failed at the carrier
    assert (alpha["seizures"], alpha["answered"], alpha["asr"], alpha["ner"]) == (5, 3, "60.00", "80.00")
    assert (beta["seizures"], beta["asr"], beta["acd_s"]) == (1, "100.00", "30.0")
    by_partner = named(await report(books, "quality", Ask(OCTOBER, "partner")))
    assert (by_partner["(our own)"]["seizures"], by_partner["(our own)"]["asr"]) == (1, "100.00")
    assert (by_partner["=Acme"]["asr"], by_partner["=Acme"]["pdd_s_p50"]) == ("75.00", "1.73")


async def test_quality_is_the_same_once_traffic_data_are_gone(books: Connection) -> None:
    before = {
        by: (await report(books, "quality", Ask(OCTOBER, by))).rows
        for by in ("carrier", "partner", "week_hour")
    }
    # From the first record's day to the day before the last pass ended, which was a midnight
    assert await store.keep_quality(books, BERLIN) == 31
    assert await store.keep_quality(books, BERLIN) == 0
    await books.execute("DELETE FROM attempt")
    for by, rows in before.items():
        assert (await report(books, "quality", Ask(OCTOBER, by))).rows == rows, by


async def test_ner_is_empty_where_attempts_went_before_they_were_kept(books: Connection) -> None:
    await books.execute("DELETE FROM attempt WHERE outcome <> 'answered'")
    found = await report(books, "quality", Ask(OCTOBER, "carrier"))
    assert named(found)["alpha"]["ner"] is None
    assert named(found)["alpha"]["asr"] == "60.00"
    assert found.notes


async def test_a_partner_sees_its_own_and_no_cost_of_others(
    books: Connection, made: tuple[str, Reported]
) -> None:
    _, scene = made
    await books.execute("SELECT set_config('bridge.partner_id', $1, true)", str(scene.acme))
    await books.execute("SET LOCAL ROLE callbridge_partner")
    # Whatever it names
    found = await report(books, "traffic", Ask(OCTOBER, "carrier", scene.netz, asking=True))
    assert [row["calls"] for row in found.totals] == [4]
    assert {row["carried_amount"] for row in found.rows} == {"0.00"}
    assert "cost" not in found.columns and "margin" not in found.columns
    assert "alpha" not in str(found.rows)
    assert (await report(books, "quality", Ask(OCTOBER, "carrier", asking=True))).rows == []
    assert (
        named(await report(books, "quality", Ask(OCTOBER, "destination", asking=True)))["Germany"]["seizures"]
        == 3
    )
    for name, by in (("margin", "destination"), ("movers", "carrier"), ("traffic", "partner")):
        with pytest.raises(Invalid):
            await report(books, name, Ask(OCTOBER, by, asking=True))


async def test_a_carrier_sees_what_its_trunk_carried(books: Connection, made: tuple[str, Reported]) -> None:
    _, scene = made
    carried = await books.fetchval("SELECT sum(amount_micro) FROM cdr WHERE partner_id = $1", scene.netz)
    await books.execute("SELECT set_config('bridge.partner_id', $1, true)", str(scene.netz))
    await books.execute("SET LOCAL ROLE callbridge_partner")
    found = await report(books, "traffic", Ask(OCTOBER, "carrier", asking=True))
    assert [row["carrier"] for row in found.rows] == ["alpha"]
    (total,) = found.totals
    assert (total["carried"], parse_micro(total["carried_amount"]), total["revenue"]) == (3, carried, "0.00")
    assert (
        named(await report(books, "quality", Ask(OCTOBER, "carrier", asking=True)))["alpha"]["seizures"] == 5
    )
    assert (await report(books, "quality", Ask(OCTOBER, "destination", asking=True))).rows == []


async def test_a_re_rating_counts_in_the_month_in_which_it_was_learnt(
    books: Connection,
) -> None:
    for no, kind, sign, amount in ((1, "reversal", -1, 100_000), (2, "rebooking", 1, 50_000)):
        await books.execute(
            """INSERT INTO cdr SELECT (SELECT max(cdr_no) FROM cdr) + 1, partner_id,
                      (SELECT max(record_no) FROM cdr r WHERE r.partner_id = o.partner_id) + 1, call_id, leg,
                      attempt_no, $1, 1, 'correction', $2, ended_at, answered_at, answered, direction, trunk_id,
                      subscriber_id, account_id, $3 * talk_ms, $3 * billed_s, $3 * covered_s, $3 * $4::bigint, currency,
                      tax, destination, prefix, purpose, delete_after, hash
                 FROM cdr o WHERE leg = 'origination' AND kind = 'first' AND amount_micro = 100000""",
            kind, datetime(2026, 11, 2, 12, no, tzinfo=UTC), sign, amount,
        )  # fmt: skip
    november = of_month("2026-11", BERLIN)
    found = await report(books, "margin", Ask(november, "carrier"))
    assert {row["carrier"]: (row["revenue"], row["calls"], row["percent"]) for row in found.rows} == {
        "alpha": ("-0.05", 0, None)
    }
    moved = await report(books, "movers", Ask(november, "destination"))
    first = moved.rows[0]
    assert (first["destination"], first["revenue_before"], first["revenue"]) == ("Germany", "0.19", "-0.05")


async def test_tax_is_taken_out_of_each_record_as_a_call_is_explained(books: Connection) -> None:
    tax = '{"tax": "inclusive", "tax_ppm": 190000}'
    rows = await books.fetch(
        "SELECT amount, tax_in_v1(amount, $1::jsonb) AS tax FROM unnest($2::bigint[]) amount",
        tax, [1_190_000, -1_190_000, 7, 1, 0],
    )  # fmt: skip
    terms = Terms(tax=Tax.INCLUSIVE, tax_ppm=190_000)
    assert [row["tax"] for row in rows] == [tax_micro(row["amount"], terms) for row in rows]


async def test_a_report_says_until_when_it_is_complete(books: Connection) -> None:
    assert (await report(books, "traffic", Ask(OCTOBER, "day"))).until is None
    late = await report(books, "traffic", Ask(of_month("2026-11", BERLIN), "day"))
    assert late.until == OCTOBER.until
    assert late.rows == []
    assert late.to_json()["complete_until"] == "2026-10-31T23:00:00Z"


async def test_no_name_is_a_formula_in_a_csv_file(books: Connection) -> None:
    text = to_csv(await report(books, "margin", Ask(OCTOBER, "partner")))
    lines = text.split("\r\n")
    assert lines[0].startswith("partner,currency,calls")
    assert any(line.startswith("'=Acme,EUR,4") for line in lines)
    assert not [line for line in lines if line.startswith(("=", "+", "@"))]
    assert Decimal(lines[-2].split(",")[6]) == Decimal("0.362")


async def test_what_is_no_report_is_refused(books: Connection) -> None:
    for name, by in (("traffic", "colour"), ("profit", "day"), ("movers", "day")):
        with pytest.raises(Invalid):
            await report(books, name, Ask(OCTOBER, by))


def test_the_commands(made: tuple[str, Reported], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = command(made[0], monkeypatch)
    assert run("report", "margin", "--month", MONTH)["totals"][0]["revenue"] == "0.362"
    days = run("report", "traffic", "--from", "2026-10-25", "--to", "2026-10-25", "--partner", "=Acme")
    assert (days["period"], days["totals"][0]["calls"]) == ("2026-10-25", 2)
    assert "ASR %" in run("report", "quality", "--month", MONTH, text=True)
    table = tmp_path / "movers.csv"
    run("report", "movers", "--month", MONTH, "--csv", str(table), text=True)
    assert table.read_text().startswith("destination,currency")
    for name in ("quality.svg", "margin.png"):
        run("report", "chart", name[:-4], "--month", MONTH, "--out", str(tmp_path / name), text=True)
    assert "<svg" in (tmp_path / "quality.svg").read_text()
    texts = []
    for words in (("partner", "=Acme"), ("partner", "Netz", "--language", "de"), ("house",)):
        paper = tmp_path / "paper.pdf"
        run("report", *words, "--month", MONTH, "--out", str(paper), text=True)
        texts.append(" ".join(page.extract_text() for page in PdfReader(paper).pages))
    acme, netz, house = texts
    # A partner's paper names no carrier but its own, and no margin
    assert "=Acme" in acme and "beta" not in acme and "alpha" not in acme and "argin" not in acme
    assert "alpha" in netz and "beta" not in netz and "Acme" not in netz
    assert "Margin by carrier" in house and "beta" in house


def test_a_command_that_is_wrong_says_what_to_do(
    made: tuple[str, Reported], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = command(made[0], monkeypatch)
    for words, error, said in (
        (("--month", "2026-13"), Invalid, "2026-10"),
        (("--month", MONTH, "--from", "2026-10-01"), ConfigError, "days"),
        (("--from", "2026-10-01"), ConfigError, "--to"),
        (("--month", MONTH, "--partner", "Nobody"), NotFound, "partner list"),
    ):
        with pytest.raises(error, match=said):
            run("report", "traffic", *words)
    with pytest.raises(Invalid, match="minutes, quality"):
        run("report", "chart", "profit", "--month", MONTH, "--out", "x.svg", text=True)
    with pytest.raises(ConfigError, match=r"\.svg or \.png"):
        run("report", "chart", "margin", "--month", MONTH, "--out", "x.exe", text=True)
