"""Invoices at the command line: from billing details to a settled invoice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.config import Settings
from bridge.exports.invoice_pdf import xml_in
from tests.command import command
from tests.invoices import COMPANY, DETAILS
from tests.seeded import Seeded
from tests.stating import MONTH, scene_of


async def test_from_details_to_a_settled_invoice(
    house: Seeded, dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scene = await scene_of(house, dsn)
    await scene.approved()
    for name, value in COMPANY.model_dump(exclude_defaults=True).items():
        monkeypatch.setenv(f"CALLBRIDGE__COMPANY__{name.upper()}", value)
    monkeypatch.chdir(tmp_path)
    assert Settings().company.legal_name == ""

    def work() -> None:
        run = command(dsn, monkeypatch)
        options = [
            [f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}", str(value)]
            for name, value in DETAILS.items()
        ]
        told = run("partner", "billing", "Alpha", *(word for option in options for word in option))
        assert told | DETAILS == told
        assert "E-Plus-Straße 1" in run("partner", "billing", told["partner_id"], text=True)
        (draft,) = run("invoice", "issue", MONTH, "--author", "anna", "--draft")
        assert (draft["state"], draft["number"]) == ("new", None)
        (made,) = run("invoice", "issue", draft["statement_id"], "--author", "anna")
        number = made["number"]
        assert (made["state"], made["gross"]) == ("validated", "0.15")
        assert run("invoice", "issue", MONTH, "--author", "anna") == [made], "again, nothing changes"
        assert number in run("invoice", "list", text=True)
        assert "Share of revenue" not in run("invoice", "show", number, text=True)
        assert "Umsatzbeteiligung" in run("invoice", "show", made["invoice_id"], text=True)
        run("invoice", "pdf", number)
        run("invoice", "xml", number, "--out", str(tmp_path / "x.xml"))
        assert number.encode() in xml_in((tmp_path / f"{number}.pdf").read_bytes())
        assert number.encode() in (tmp_path / "x.xml").read_bytes()
        assert run("invoice", "send", number, "--author", "anna")["state"] == "sent"
        assert run("invoice", "hold", number, "--author", "anna")["state"] == "onHold"
        assert run("invoice", "hold", number, "--release", "--author", "anna")["state"] == "sent"
        paid = run("invoice", "pay", number, "0.05", "--on", "2026-11-20", "--key", "k", "--author", "anna")
        assert (paid["state"], paid["open"]) == ("partiallySettled", "0.10")
        credit = run(
            "invoice", "credit", number, "--line", "1=0.03", "--reason", "agreed", "--author", "anna"
        )
        assert (credit["type"], credit["gross"]) == ("381", "0.03")
        assert run("invoice", "pay", number, "--key", "l", "--author", "anna")["state"] == "settled"
        assert [one["number"] for one in run("invoice", "list", "--state", "settled")] == [
            credit["number"],
            number,
        ]

    await asyncio.to_thread(work)
    await scene.sound()
    actions = [row["action"] for row in await house.rows("SELECT action FROM audit_log ORDER BY audit_id")]
    assert actions[-6:] == [
        "invoice.send", "invoice.hold", "invoice.release", "invoice.pay", "invoice.credit", "invoice.pay",
    ]  # fmt: skip
