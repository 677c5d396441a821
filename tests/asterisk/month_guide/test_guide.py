"""See story.md."""

import csv
import gzip
import json

import pytest

from tests.guides import DOCS, blocks, down, own_house, shell


@pytest.fixture
def environ(tmp_path):
    given = own_house(tmp_path)
    yield given
    down(given)


@pytest.mark.timeout(300)
def test_every_command_of_the_month(tmp_path, environ):
    *steps, last = blocks("month.md")
    said = shell("\n".join(steps), tmp_path, environ, DOCS=str(DOCS))
    assert "exit 1: something is missing" in said
    words = " ".join(said.split())
    assert "Our company needs legal_name, street, postcode, city, email, contact, phone, iban." in words
    assert "nothing is missing" in said
    told = json.loads((tmp_path / "month" / "close.json").read_text())
    assert told["agrees"]
    assert f"all {len(told['totals'])} totals agree" in said
    assert "complete: " in said
    assert "settled" in said.rsplit("self-billed", 1)[-1]
    for made in ("invoice.pdf", "bill.pdf", "month/report_house.pdf"):
        assert (tmp_path / made).read_bytes().startswith(b"%PDF-"), made
    assert "CrossIndustryInvoice" in (tmp_path / "invoice.xml").read_text()
    with (tmp_path / "bill.csv").open(newline="") as bill:
        assert len(list(csv.reader(bill))) > 2
    (finance,) = (tmp_path / "exports" / "finance").glob("CDR_*.csv.gz")
    with gzip.open(finance, "rt", newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) > 1_000
    assert "stopped" in shell(last, tmp_path, environ)
