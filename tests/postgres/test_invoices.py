"""Invoices on real books: from calls to a settled invoice, numbers without a gap, and who tries to change one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from lxml import etree
from pypdf import PdfReader

from bridge import queries
from bridge.config import Settings
from bridge.database import connect, transaction
from bridge.errors import AlreadySettled, Conflict, Invalid, NotFound
from bridge.exports.invoice_pdf import xml_in
from bridge.exports.store import invoice as store
from bridge.exports.store import invoice_payment as after
from bridge.exports.store.billing import merge_billing, put_billing
from bridge.partners.deal import Basis, Share, Terms, ZeroRated
from tests.invoices import COMPANY, DETAILS
from tests.seeded import Seeded
from tests.stating import Scene, scene_of

SETTINGS = Settings(company=COMPANY)
ISSUED = datetime(2026, 11, 30, 23, 30).astimezone()
# A month in which we carry the partner's zero-rated calls and it shares our revenue: each owes the other.
BOTH = Terms(revenue_share=(Share(2_500, Basis.RETAIL_REVENUE),), zero_rated=ZeroRated(("49",)))


@dataclass
class Billed:
    scene: Scene
    statement_id: UUID

    async def do(self, work: Callable[..., Awaitable[Any]], *given: Any, **more: Any) -> Any:
        async with transaction(self.scene.house.pool) as conn:
            return await work(conn, *given, **more)

    async def details(self, **changed: Any) -> None:
        await self.do(merge_billing, self.scene.partner_id, DETAILS | changed)

    async def issue(self) -> list[UUID]:
        made: list[UUID] = await self.do(store.issue, self.statement_id, SETTINGS, "anna", at=ISSUED)
        return made

    async def validated(self) -> list[UUID]:
        made = await self.issue()
        for invoice_id in made:
            await self.do(store.validate, invoice_id, SETTINGS, "anna", at=ISSUED)
        return made

    async def row(self, invoice_id: UUID) -> Any:
        return await self.do(store.invoice, invoice_id)

    async def owed(self) -> int:
        """What the books say we owe the partner."""
        return (await self.scene.balances()).get("partner Alpha", 0)

    async def pay(self, invoice_id: UUID, amount_micro: int | None = None, key: str | None = None) -> Any:
        return await self.do(
            after.pay, invoice_id, amount_micro, date(2026, 12, 1), key=key or str(uuid4()), author="anna"
        )


@pytest.fixture
async def billed(house: Seeded, dsn: str) -> AsyncIterator[Billed]:
    """An approved statement: 0.072 + 0.024 for traffic and 0.045 of revenue, all owed to the partner."""
    scene = await scene_of(house, dsn)
    made = Billed(scene, await scene.approved())
    await made.details()
    yield made
    await scene.sound()


async def both_owe(house: Seeded, dsn: str) -> Billed:
    """A call that was paid for, and one that the partner pays for."""
    scene = await scene_of(house, dsn)
    await house.rows("UPDATE trunk SET partner_id = NULL")
    await house.reload()
    deal_id = await scene.deal(BOTH)
    await scene.talk(61)
    await house.rows("UPDATE plan SET zero_rated = '{49}'")
    await house.reload()
    await scene.talk(90)
    await scene.seal()
    await scene.close()
    statement_id = await scene.draft(deal_id)
    await scene.do("approve", statement_id, author="ben")
    made = Billed(scene, statement_id)
    await made.details()
    return made


# ---------------------------------------------------------------- from a statement


async def test_from_a_statement_to_a_settled_self_billed_invoice(billed: Billed) -> None:
    """0.072 + 0.024 + 0.045 are 0.07 + 0.02 + 0.05 in cents; tax is on the share of revenue alone: 0.05 × 19 %."""
    (invoice_id,) = await billed.issue()
    draft = await billed.row(invoice_id)
    assert (draft["state"], draft["number"], draft["type"]) == ("new", None, "389")
    number = await billed.do(store.validate, invoice_id, SETTINGS, "anna", at=ISSUED)
    assert number == "CB-2026-000001"
    row = await billed.row(invoice_id)
    assert (row["net_cents"], row["tax_cents"], row["gross_cents"]) == (14, 1, 15)
    assert (row["issued_on"], row["due_on"]) == (date(2026, 12, 1), date(2026, 12, 15)), "the company's days"
    assert await billed.owed() == 150_000, "what is open, to the cent and with tax"
    balances = await billed.scene.balances()
    assert (balances["vat EUR"], balances["rounding EUR"]) == (-10_000, 1_000)
    assert (await billed.do(after.send, invoice_id))["state"] == "sent"
    assert (await billed.pay(invoice_id, 50_000, "first"))["state"] == "partiallySettled"
    assert (await billed.pay(invoice_id, 50_000, "first"))["paid_cents"] == 5
    with pytest.raises(Conflict, match=r"Only 0\.10 EUR are open"):
        await billed.pay(invoice_id, 110_000)
    with pytest.raises(Conflict, match="another payment"):
        await billed.pay(invoice_id, 40_000, "first")
    with pytest.raises(Invalid, match="whole cents"):
        await billed.pay(invoice_id, 9_999)
    assert (await billed.pay(invoice_id))["state"] == "settled"
    assert await billed.owed() == 0
    with pytest.raises(Conflict, match="settled"):
        await billed.do(after.put_on_hold, invoice_id)


async def test_issuing_again_changes_nothing_that_has_a_number(billed: Billed) -> None:
    first = await billed.issue()
    assert await billed.issue() != first, "a draft is made again"
    made = await billed.validated()
    before = await billed.scene.house.rows("SELECT * FROM invoice ORDER BY 1")
    assert await billed.validated() == made
    assert await billed.scene.house.rows("SELECT * FROM invoice ORDER BY 1") == before


async def test_each_side_of_a_statement_has_its_own_document(house: Seeded, dsn: str) -> None:
    billed = await both_owe(house, dsn)
    ours, theirs = await billed.validated()
    assert [(await billed.row(one))["type"] for one in (ours, theirs)] == ["380", "389"]
    open_cents = (await billed.row(theirs))["gross_cents"] - (await billed.row(ours))["gross_cents"]
    assert await billed.owed() == open_cents * 10_000
    for one in (ours, theirs):
        await billed.pay(one)
    assert await billed.owed() == 0
    await billed.scene.sound()


async def test_without_an_agreement_nobody_writes_the_partners_invoices(billed: Billed) -> None:
    await billed.details(self_billing=False)
    assert await billed.issue() == []
    await billed.scene.do("send", billed.statement_id, channel="email", author="ben")
    paid = await billed.scene.do("settle", billed.statement_id, key="theirs", author="ben")
    assert paid["state"] == "settled"
    await billed.details(self_billing=True)
    with pytest.raises(Conflict, match="was paid as it is"):
        await billed.issue()


async def test_a_draft_of_a_statement_that_was_paid_meanwhile_gets_no_number(billed: Billed) -> None:
    (invoice_id,) = await billed.issue()
    await billed.scene.do("send", billed.statement_id, channel="email", author="ben")
    await billed.scene.do("settle", billed.statement_id, key="first", author="ben")
    with pytest.raises(Conflict, match="was paid as it is"):
        await billed.do(store.validate, invoice_id, SETTINGS, "anna")


async def test_what_is_invoiced_is_not_paid_as_a_statement(billed: Billed) -> None:
    await billed.validated()
    await billed.scene.do("send", billed.statement_id, channel="email", author="ben")
    with pytest.raises(Conflict, match="book the payment of invoice CB-2026-000001"):
        await billed.scene.do("settle", billed.statement_id, key="twice", author="ben")


async def test_what_is_missing_is_named_with_its_fix(billed: Billed) -> None:
    (invoice_id,) = await billed.issue()
    bare = Settings(company=COMPANY.model_copy(update={"legal_name": "", "email": ""}))
    with pytest.raises(Invalid, match=r"company\.email") as found:
        await billed.do(store.validate, invoice_id, bare, "anna")
    assert "company.legal_name" in str(found.value)
    await billed.details(contact="", iban="")
    with pytest.raises(Invalid, match=r"callbridge partner billing prt_[0-9a-f]+ --contact"):
        await billed.do(store.validate, invoice_id, SETTINGS, "anna")
    await billed.details(reseller=False, self_billing=False)
    with pytest.raises(Conflict, match="Issue it again"):
        await billed.do(store.validate, invoice_id, SETTINGS, "anna")
    await billed.details(country="NL", vat_id="", reseller=False)
    with pytest.raises(Invalid, match="needs a vat id"):
        await billed.issue()
    assert await billed.scene.house.value("SELECT count(*) FROM invoice_series") == 0, "no number was used"
    with pytest.raises(NotFound):
        await billed.do(store.issue, uuid4(), SETTINGS, "anna")
    await billed.scene.house.rows("DELETE FROM partner_billing")
    with pytest.raises(NotFound, match="partner billing"):
        await billed.issue()


async def test_of_two_changes_of_details_one_is_stale(billed: Billed) -> None:
    partner_id = billed.scene.partner_id
    assert (await billed.do(put_billing, partner_id, DETAILS, 1))["edition"] == 2
    assert await billed.do(put_billing, partner_id, DETAILS, 1) is None
    assert await billed.do(put_billing, partner_id, DETAILS) is None
    with pytest.raises(NotFound):
        await billed.do(put_billing, uuid4(), DETAILS)


# ---------------------------------------------------------------- documents


async def test_the_documents_say_what_the_books_say(billed: Billed) -> None:
    await billed.details(legal_name='</ram:Name> #import "x" & $y$')
    (invoice_id,) = await billed.validated()
    pdf = (await billed.do(store.document, invoice_id, "pdf"))["content"]
    for xml in ((await billed.do(store.document, invoice_id, "xml"))["content"], xml_in(pdf)):
        tree = etree.fromstring(xml)
        ram = {"ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100"}
        assert [Decimal(one.text) for one in tree.findall(".//ram:GrandTotalAmount", ram)] == [
            Decimal("0.15")
        ]
        assert tree.find(".//ram:SellerTradeParty/ram:Name", ram).text == '</ram:Name> #import "x" & $y$'
    assert "#import" in PdfReader(BytesIO(pdf)).pages[0].extract_text()
    with pytest.raises(NotFound):
        await billed.do(store.document, uuid4(), "pdf")


# ---------------------------------------------------------------- credit notes


async def test_a_credit_note_takes_back_a_part_and_then_the_rest(billed: Billed) -> None:
    (invoice_id,) = await billed.validated()
    owed = await billed.owed()
    reason = {"author": "anna", "reason": "agreed on the phone", "at": ISSUED}
    first = await billed.do(after.credit, invoice_id, {1: 3}, SETTINGS, **reason)
    assert (await billed.row(first))["number"] == "CB-2026-000002"
    assert (await billed.row(first))["state"] == "settled", "set off against the invoice"
    row = await billed.row(invoice_id)
    assert (row["state"], row["paid_cents"]) == ("partiallySettled", 3)
    assert await billed.owed() == owed - 30_000
    with pytest.raises(Conflict, match=r"Of line 1, 0\.04 EUR are left"):
        await billed.do(after.credit, invoice_id, {1: 5}, SETTINGS, **reason)
    with pytest.raises(Invalid, match="lines 1 to 3"):
        await billed.do(after.credit, invoice_id, {4: 1}, SETTINGS, **reason)
    rest = await billed.do(after.credit, invoice_id, None, SETTINGS, **reason)
    assert (await billed.row(invoice_id))["state"] == (await billed.row(rest))["state"] == "settled"
    assert await billed.owed() == 0
    balances = await billed.scene.balances()
    assert balances["vat EUR"] == 0 and balances["rounding EUR"] == 0
    with pytest.raises(Conflict, match="Nothing of invoice"):
        await billed.do(after.credit, invoice_id, None, SETTINGS, **reason)
    with pytest.raises(Conflict, match="a credit note"):
        await billed.do(after.credit, rest, None, SETTINGS, **reason)


async def test_what_was_paid_and_is_credited_is_paid_back(billed: Billed) -> None:
    (invoice_id,) = await billed.validated()
    await billed.pay(invoice_id, 100_000)
    credit_id = await billed.do(
        after.credit, invoice_id, None, SETTINGS, author="anna", reason="all of it", at=ISSUED
    )
    row = await billed.row(credit_id)
    assert (row["gross_cents"], row["paid_cents"], row["state"]) == (15, 5, "partiallySettled")
    assert await billed.owed() == -100_000
    await billed.pay(credit_id)
    assert await billed.owed() == 0


# ---------------------------------------------------------------- states


async def test_what_is_on_hold_waits(billed: Billed) -> None:
    (invoice_id,) = await billed.issue()
    with pytest.raises(Conflict, match="new: it can become onHold, validated, not sent"):
        await billed.do(after.send, invoice_id)
    with pytest.raises(Conflict):
        await billed.pay(invoice_id)
    await billed.do(after.put_on_hold, invoice_id)
    with pytest.raises(Conflict, match="onHold"):
        await billed.do(store.validate, invoice_id, SETTINGS, "anna")
    assert (await billed.do(after.release, invoice_id))["state"] == "new"
    await billed.do(store.validate, invoice_id, SETTINGS, "anna", at=ISSUED)
    await billed.do(after.put_on_hold, invoice_id)
    with pytest.raises(Conflict, match="Release it first"):
        await billed.pay(invoice_id)
    assert (await billed.do(after.release, invoice_id))["state"] == "validated"
    with pytest.raises(Conflict, match="not on hold"):
        await billed.do(after.release, invoice_id)


# ---------------------------------------------------------------- numbers, races, and who tries otherwise


async def test_forty_at_the_same_time_get_forty_numbers(dsn: str) -> None:
    """Half of them fail after they were given one: it is given to the next."""
    begun = asyncio.Event()

    async def one(no: int) -> int | None:
        async with connect(dsn) as conn:
            await begun.wait()
            try:
                async with conn.transaction():
                    given: int = await queries.invoices.next_number.value(conn, prefix="CB-", year=2026)
                    if no % 2:
                        raise Conflict("after the number")
                    return given
            except Conflict:
                return None

    tasks = [asyncio.create_task(one(no)) for no in range(40)]
    begun.set()
    numbers = await asyncio.gather(*tasks)
    assert sorted(number for number in numbers if number) == list(range(1, 21))


async def test_a_document_that_cannot_be_made_uses_no_number(
    billed: Billed, monkeypatch: pytest.MonkeyPatch
) -> None:
    (invoice_id,) = await billed.issue()

    def broken(*_: Any) -> Any:
        raise RuntimeError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_documents", broken)
        with pytest.raises(RuntimeError, match="no space"):
            await billed.do(store.validate, invoice_id, SETTINGS, "anna", at=ISSUED)
    assert await billed.scene.house.value("SELECT count(*) FROM invoice_series") == 0
    assert await billed.owed() == 141_000
    assert await billed.do(store.validate, invoice_id, SETTINGS, "anna", at=ISSUED) == "CB-2026-000001"


async def test_ten_who_validate_one_invoice_make_one_number(billed: Billed) -> None:
    (invoice_id,) = await billed.issue()
    said = await asyncio.gather(
        *(billed.do(store.validate, invoice_id, SETTINGS, "anna", at=ISSUED) for _ in range(4))
    )
    assert set(said) == {"CB-2026-000001"}


ATTEMPTS = (
    "UPDATE invoice SET gross_cents = 1, net_cents = 0",
    """UPDATE invoice SET content = content || '{"note": "less"}'""",
    "UPDATE invoice SET number = 'CB-2026-000009'",
    "UPDATE invoice SET issued_on = '2026-01-01'",
    """UPDATE invoice SET number = NULL, prefix = NULL, year = NULL, series_no = NULL, issued_on = NULL, due_on = NULL,
                          validated_at = NULL, state = 'new'""",
    "DELETE FROM invoice",
    "TRUNCATE invoice CASCADE",
    "UPDATE invoice_line SET net_cents = 0",
    "DELETE FROM invoice_line",
    """INSERT INTO invoice_line
       SELECT invoice_id, 9, kind, title, 0, unit, 0, 1, 0, 0, category, 0 FROM invoice_line LIMIT 1""",
    "UPDATE invoice_document SET content = 'x', sha256 = sha256('x')",
    "DELETE FROM invoice_document",
    "DELETE FROM invoice_payment",
    "UPDATE invoice SET paid_cents = 0",
    "UPDATE invoice_series SET last_no = 7",
    "UPDATE invoice_series SET last_no = 0",
    "DELETE FROM invoice_series",
)


async def test_what_has_a_number_stays(billed: Billed) -> None:
    (invoice_id,) = await billed.validated()
    await billed.pay(invoice_id, 10_000)
    for attempt in ATTEMPTS:
        with pytest.raises((AlreadySettled, asyncpg.PostgresError)):
            await billed.scene.house.rows(attempt)


async def test_the_audit_sees_what_was_changed_behind_its_back(billed: Billed) -> None:
    await billed.validated()
    wrong = {
        "UPDATE invoice_series SET last_no = 2": queries.invoices.audit_numbers,
        "UPDATE invoice SET number = 'CB-2026-000009'": queries.invoices.audit_numbers,
        "DELETE FROM invoice_document WHERE kind = 'xml'": queries.invoices.audit_documents,
        "UPDATE invoice_line SET net_cents = net_cents + 1, amount_micro = amount_micro + 10000 WHERE line_no = 1":
            queries.invoices.audit_totals,
        "UPDATE invoice SET transfer_id = NULL": queries.invoices.audit_bookings,
        "UPDATE invoice SET tax_cents = 0, gross_cents = net_cents": queries.invoices.audit_bookings,
        "UPDATE invoice SET paid_cents = 1": queries.invoices.audit_payments,
        "UPDATE invoice SET state = 'settled'": queries.invoices.audit_payments,
    }  # fmt: skip
    for change, query in wrong.items():
        async with billed.scene.house.pool.acquire() as conn:
            kept = conn.transaction()
            await kept.start()
            await conn.execute("SET LOCAL session_replication_role = replica")
            await conn.execute(change)
            assert await query.all(conn), change
            await kept.rollback()
            assert not await query.all(conn)


async def test_a_partner_sees_its_own_from_their_number_on(billed: Billed) -> None:
    (invoice_id,) = await billed.issue()

    async def seen(partner_id: UUID) -> list[int]:
        async with transaction(billed.scene.house.pool) as conn:
            await queries.access.enter.run(
                conn, role="callbridge_partner", partner_id=str(partner_id), for_transaction=True
            )
            return [
                await conn.fetchval(f"SELECT count(*) FROM {table}")
                for table in ("partner_billing", "invoice_document", "invoice_line", "invoice_payment")
            ] + [len(await store.invoices(conn, UUID(int=2**128 - 1), 9, partner_id=partner_id))]

    assert await seen(billed.scene.partner_id) == [1, 0, 0, 0, 0]
    await billed.do(store.validate, invoice_id, SETTINGS, "anna", at=ISSUED)
    await billed.pay(invoice_id, 10_000)
    assert await seen(billed.scene.partner_id) == [1, 2, 3, 1, 1]
    assert await seen(uuid4()) == [0, 0, 0, 0, 0]
    async with billed.scene.house.pool.acquire() as conn:
        for secret in (
            "rounding_micro FROM invoice",
            "transfer_id FROM invoice_payment",
            "* FROM invoice_series",
        ):
            await conn.execute("SET ROLE callbridge_partner")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(f"SELECT {secret}")
            await conn.execute("RESET ROLE")


async def test_a_partners_page_is_read_by_its_index(billed: Billed) -> None:
    await billed.issue()
    many = """INSERT INTO invoice (partner_id, statement_id, type, self_billed, credits, from_on, until_on, currency,
                                   net_cents, tax_cents, gross_cents, rounding_micro, content, author, state, prefix,
                                   year, series_no, number, issued_on, due_on, validated_at)
              SELECT p.partner_id, i.statement_id, '381', true, i.invoice_id, from_on, until_on, 'EUR', 1, 0, 1, 0,
                     '{}', 'x', 'validated', p.name, 2026, n, p.name || n, now(), now(), now()
                FROM invoice i, partner p, generate_series(1, 2000) n"""
    async with billed.scene.house.pool.acquire() as conn:
        kept = conn.transaction()
        await kept.start()
        await conn.execute(many)
        await conn.execute("ANALYZE invoice")
        await queries.access.enter.run(
            conn, role="callbridge_partner", partner_id=str(billed.scene.partner_id), for_transaction=True
        )
        given = {"before": UUID(int=2**128 - 1), "rows": 21, "partner_id": billed.scene.partner_id}
        for query in (queries.invoices.invoices_partner, queries.invoices.bills):
            args = [given.get(name) for name in query.names]
            plan = "\n".join(row[0] for row in await conn.fetch(f"EXPLAIN {query.sql}", *args))
            assert "invoice_partner" in plan and "Sort" not in plan, plan
        await kept.rollback()


async def test_whoever_listens_is_told(billed: Billed) -> None:
    await billed.scene.house.rows("UPDATE partner SET keeps_events = true")
    (invoice_id,) = await billed.validated()
    await billed.pay(invoice_id)
    rows = await billed.scene.house.rows(
        "SELECT subject_id, seq, data FROM event WHERE kind = 'invoice.changed' ORDER BY event_id"
    )
    told = [json.loads(row["data"]) for row in rows]
    assert [(one["state"], one["paid"]) for one in told] == [("validated", "0.00"), ("settled", "0.15")]
    assert told[0]["invoice_id"] == f"inv_{invoice_id.hex}" and told[0]["gross"] == "0.15"
    assert {row["subject_id"] for row in rows} == {invoice_id}
