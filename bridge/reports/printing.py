"""Reports as PDF: figures read from the database, charts drawn, the page set. Some seconds of processor time."""

from __future__ import annotations

import asyncio
from uuid import UUID

from bridge.config import Company
from bridge.database import Connection
from bridge.exports.paper import render
from bridge.reports import bill_paper
from bridge.reports.bills import BillOf
from bridge.reports.gathering import Gathered, gather
from bridge.reports.monthly import TEMPLATE, paper
from bridge.reports.period import Period
from bridge.reports.pictures import pictures
from bridge.reports.writing import Language


async def monthly(
    conn: Connection,
    period: Period,
    partner: tuple[UUID, str] | None,
    company: Company,
    language: Language = "en",
) -> bytes:
    """The report of a period as PDF/A; the same figures make the same bytes. partner: id and name; None: the house's.

    raises   Conflict: not all calls of the period are numbered yet
    """
    gathered = await gather(conn, period, partner)
    return await asyncio.to_thread(_render, gathered, language, company.legal_name or company.code)


def _render(gathered: Gathered, language: Language, company: str) -> bytes:
    return render(TEMPLATE, paper(gathered, pictures(gathered, language), language, company))


def bill_pdf(made: BillOf, company: Company, language: Language) -> bytes:
    """An itemised bill as PDF/A."""
    name = company.legal_name or company.code
    data = bill_paper.paper(made.bill, made.whose, made.period, language, name, complete=made.complete)
    return render(bill_paper.TEMPLATE, data)
