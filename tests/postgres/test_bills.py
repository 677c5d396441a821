"""Itemised bills on real Postgres: what the law keeps off them, and sums that are those of records and ledger."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pypdf import PdfReader

from bridge.config import Bills, Company, Settings
from bridge.database import Connection, connect
from bridge.errors import Invalid, NotFound
from bridge.reports import bill_paper
from bridge.reports.bills import BillOf, bill_in, bill_of
from bridge.reports.period import of_month
from bridge.reports.printing import bill_pdf
from bridge.reports.store.bill import choose, holder_named
from bridge.reports.writing import Language
from bridge.sandbox.seed import SeedBundle
from bridge.telephony.money import format_micro
from tests.command import command
from tests.postgres.conftest import Filled
from tests.reported import BEGUN, BERLIN, OVER, ended_at, numbered
from tests.seeded import GERMANY, KINGDOM, Seeded, Who

COUNSEL = "+493023125023"  # a line that the settings name
SETTINGS = Settings(bills=Bills(counselling=("030 23125023",)))
OCTOBER = of_month("2026-10", BERLIN)
NOVEMBER = of_month("2026-11", BERLIN)


@dataclass(frozen=True, slots=True)
class People:
    """ada calls; bert shares no account; carol is postpaid and calls nobody."""

    ada: Who
    bert: Who
    carol: Who


async def people(house: Seeded, conn: Connection) -> People:
    ada, bert = await house.subscriber(20_000_000), await house.subscriber(20_000_000)
    carol = await house.subscriber(0, funding="postpaid", credit_limit_micro=5_000_000)
    bundle = SeedBundle("30 minutes", 2_500_000, 30, {"voice": 60})
    for minute, (talk_s, dialled) in enumerate(((100, GERMANY), (61, KINGDOM), (50, COUNSEL), (0, GERMANY))):
        await ended_at(house, ada, BEGUN + timedelta(days=1, minutes=minute), talk_s, dialled)
    await ended_at(house, bert, BEGUN + timedelta(days=2), 9)
    await numbered(conn, OVER)
    await house.buy(ada, bundle)
    await ended_at(house, ada, OVER + timedelta(days=1), 90)
    await numbered(conn, datetime.now(UTC))
    return People(ada, bert, carol)


@pytest.fixture(scope="module")
def made(filled: Filled) -> tuple[str, People]:
    return filled(people)


@pytest.fixture
async def books(made: tuple[str, People]) -> AsyncIterator[Connection]:
    """What a test changes is taken back."""
    async with connect(made[0]) as conn:
        change = conn.transaction()
        await change.start()
        yield conn
        await change.rollback()


@pytest.fixture
async def october(made: tuple[str, People]) -> BillOf:
    async with connect(made[0]) as conn:
        return await bill_of(conn, SETTINGS, made[1].ada.a_number, OCTOBER)


async def of_ada(conn: Connection, who: Who, settings: Settings = SETTINGS, period: Any = OCTOBER) -> BillOf:
    return await bill_in(conn, settings, await holder_named(conn, who.a_number), period)


async def test_each_charged_call_and_their_sum(made: tuple[str, People], october: BillOf) -> None:
    told = october.to_json()
    assert [(one["at"], one["number"], one["duration_s"], one["gross"]) for one in told["calls"]] == [
        ("2026-10-01T21:58:20Z", "+493023125xxx", 100, "0.10"),
        ("2026-10-01T21:59:59Z", "+442079460xxx", 61, "0.172"),
    ]
    assert told["unlisted"] == {"calls": 1, "gross": "0.05"}
    assert told["totals"]["calls_gross"] == "0.322"
    assert told["complete"] and told["records_kept"]
    async with connect(made[0]) as conn:
        kept = await conn.fetchval(
            "SELECT sum(r.amount_micro)::bigint FROM cdr r JOIN subscriber s USING (subscriber_id)"
            " WHERE s.a_number = $1 AND r.at < $2",
            made[1].ada.a_number, OVER,
        )  # fmt: skip
    assert told["totals"]["calls_gross"] == format_micro(kept)


async def test_a_counselling_line_is_nowhere_on_it(october: BillOf) -> None:
    texts = [
        json.dumps(october.to_json()),
        bill_paper.to_csv(october.bill, october.whose),
        json.dumps(bill_paper.paper(october.bill, october.whose, OCTOBER, "de", "x", complete=True)),
    ]
    for text in texts:
        assert COUNSEL[:-3] + "xxx" not in text.replace("+493023125xxx", "", 1)  # once is the other call's
        assert ":01:10" not in text  # when it began
        assert '"duration_s": 50' not in text


async def test_a_line_that_is_known_needs_no_setting(books: Connection, made: tuple[str, People]) -> None:
    await books.execute("UPDATE call SET b_number = '+498001110111' WHERE b_number = $1", GERMANY)
    bill = (await of_ada(books, made[1].ada)).bill
    assert (bill.unlisted.calls, len(bill.lines)) == (2, 1)


async def test_numbers_are_whole_only_where_that_was_chosen_before_the_month(
    books: Connection, made: tuple[str, People]
) -> None:
    ada = await holder_named(books, made[1].ada.a_number)
    await choose(books, ada, "full", "desk")
    assert (await of_ada(books, made[1].ada)).bill.numbers == "short"
    await books.execute(
        "INSERT INTO bill_choice (subscriber_id, numbers, actor, chosen_at)"
        " VALUES ($1, 'full', 'desk', $2), ($1, 'short', 'desk', $3)",
        ada.subscriber_id, BEGUN - timedelta(seconds=1), BEGUN,
    )  # fmt: skip
    october = await of_ada(books, made[1].ada)
    assert [one["number"] for one in october.to_json()["calls"]] == [GERMANY, KINGDOM]
    # A choice in the first second of a month is one for the next
    assert (await of_ada(books, made[1].ada, period=NOVEMBER)).bill.numbers == "short"


async def test_a_choice_is_never_rewritten(books: Connection, made: tuple[str, People]) -> None:
    await choose(books, await holder_named(books, made[1].ada.a_number), "full", "desk")
    with pytest.raises(Exception, match="insert-only"):
        await books.execute("UPDATE bill_choice SET chosen_at = '2020-01-01'")


async def test_calls_that_cost_nothing_are_not_identified(
    books: Connection, made: tuple[str, People]
) -> None:
    """But those that units paid for are."""
    free = await of_ada(books, made[1].ada, period=NOVEMBER)
    (line,) = free.to_json()["calls"]
    # A hold is for ten seconds here, a unit for sixty
    assert (line["gross"], line["bundle_s"], line["duration_s"]) == ("0.03", 60, 90)
    await books.execute("UPDATE call SET b_number = '+498001239900' WHERE b_number = $1", GERMANY)
    assert (await of_ada(books, made[1].ada, period=NOVEMBER)).to_json()["calls"] == []


async def test_the_balance_leads_from_the_beginning_to_the_end(
    books: Connection, made: tuple[str, People]
) -> None:
    """All was booked in the month of the test: what counted in October stands on its bill as shifted."""
    for period in (OCTOBER, NOVEMBER):
        made_bill = await of_ada(books, made[1].ada, period=period)
        bill = made_bill.bill
        assert bill.balance is not None
        moved = sum(one.amount_micro for one in bill.bookings) - bill.calls_micro - bill.used_micro
        assert bill.balance.opening_micro + moved + bill.balance.shift_micro == bill.balance.closing_micro
    november = await of_ada(books, made[1].ada, period=NOVEMBER)
    assert {(one.kind, one.amount_micro, one.bundle) for one in november.bill.bookings} >= {
        ("purchase", -2_500_000, "30 minutes")
    }


async def test_once_traffic_data_are_gone_the_bill_says_so(
    books: Connection, made: tuple[str, People]
) -> None:
    before = await of_ada(books, made[1].ada)
    await books.execute("DELETE FROM call")
    after = await of_ada(books, made[1].ada)
    told = after.to_json()
    assert not told["records_kept"] and told["calls"] == []
    assert told["gone"] == {"calls": 3, "gross": "0.322"}
    assert told["totals"] == before.to_json()["totals"]
    text = " ".join(
        page.extract_text() for page in PdfReader(io.BytesIO(bill_pdf(after, Company(), "de"))).pages
    )
    assert "nicht mehr aufbewahrt" in text


async def test_a_csv_file_adds_up(october: BillOf) -> None:
    rows = list(csv.DictReader(io.StringIO(bill_paper.to_csv(october.bill, october.whose))))
    assert sum(Decimal(row["gross"]) for row in rows) == Decimal("0.322")
    assert [row["kind"] for row in rows] == ["first", "first", "unlisted"]
    assert {row["number"][0] for row in rows[:2]} == {"'"}  # no spreadsheet adds it up


async def test_the_paper_has_every_line_in_both_languages(october: BillOf) -> None:
    titles: dict[Language, str] = {"de": "Einzelverbindungsnachweis", "en": "Itemised bill"}
    for language, title in titles.items():
        pdf = bill_pdf(october, Company(legal_name="#Bridge <GmbH> & $Co$"), language)
        text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
        assert title in text and "+493023125xxx" in text and "#Bridge <GmbH> & $Co$" in text
        assert pdf == bill_pdf(october, Company(legal_name="#Bridge <GmbH> & $Co$"), language)


async def test_nobodys_bill_and_no_number(books: Connection, made: tuple[str, People]) -> None:
    for name in ("+4930999", "sub_7", "' OR 1=1"):
        with pytest.raises(NotFound):
            await holder_named(books, name)
    with pytest.raises(Invalid, match=r"bills\.counselling"):
        await of_ada(books, made[1].ada, Settings(bills=Bills(counselling=("hotline",))))
    empty = (await of_ada(books, made[1].carol)).bill
    assert (empty.calls_micro, empty.lines, empty.balance) == (0, [], None)


def test_the_command(made: tuple[str, People], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    run = command(made[0], monkeypatch)
    ada = made[1].ada.a_number
    assert run("bill", ada, "--month", "2026-10")["totals"]["calls_gross"] == "0.322"
    text = run("bill", ada, "--month", "2026-10", text=True)
    assert "+442079460xxx" in text and "total of calls" in text
    run("bill", ada, "--month", "2026-10", "--pdf", str(tmp_path / "bill.pdf"), text=True)
    assert (tmp_path / "bill.pdf").read_bytes().startswith(b"%PDF")
