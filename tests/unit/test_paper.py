"""Documents on paper: what data may say, that it stays text, and that the same data makes the same bytes."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from bridge.exports.paper import pictures, render

HOSTILE = (
    '#import "style.typ": *',
    '#read("/etc/passwd")',
    "$ x^2 $ \\ `raw` *bold* _it_ <label> @ref = heading",
    '"); #panic("ran") ("',
    '[#eval("1+1")]',
    '{"a": 1}',
    "// no comment /* nor this */",
)


def document(text: str, **more: Any) -> dict[str, Any]:
    return {"language": "de", "date": "2026-11-01", "title": text, **more}


def words(pdf: bytes) -> str:
    return "".join("\n".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages).split())


@pytest.mark.parametrize("text", HOSTILE)
def test_data_is_text_and_nothing_else(text: str) -> None:
    table = [{"columns": [{"title": text}], "rows": [[text]], "text": text, "title": text}]
    shown = words(render("plain", document(text, sections=table)))
    assert shown.count("".join(text.split())) >= 4


@pytest.mark.parametrize(
    "text",
    [
        "שלום עולם",
        "مرحبا بالعالم",
        "Żółć Őrség Жук Ωμέγα",
        "x" * 5000,
        "ﬁn Straße —",
        "東京通信 😀 株式会社",
        "",
        "\n" * 99,
        "a\ud800b",
    ],
)
def test_every_name_can_be_printed(text: str) -> None:
    assert render("plain", document(text)).startswith(b"%PDF-")


def test_what_has_no_glyph_is_a_box_and_the_rest_stays() -> None:
    assert "Tokyo□□GmbH" in words(render("plain", document("Tokyo 東京 GmbH")))
    many = "".join(map(chr, range(0x4E00, 0x4E40)))
    assert words(render("plain", document(f"Ärger {many}"))).startswith("Ärger□□")


def test_marks_that_turn_the_direction_are_taken_out() -> None:
    assert "100.00" in words(render("plain", document("\u202e100.00\u202c\x00\x1b")))


def test_the_same_data_makes_the_same_bytes() -> None:
    first = render("plain", document("Rechnung", sections=[{"text": "a"}]))
    assert first == render("plain", document("Rechnung", sections=[{"text": "a"}]))
    assert first != render("plain", document("Rechnung", sections=[{"text": "b"}]))
    told = PdfReader(BytesIO(first)).metadata
    assert told is not None and "20261101" in str(told["/CreationDate"])
    assert render("plain", document("x", date="2026-11-01T00:00:00+00:00")) == render("plain", document("x"))


def test_it_is_for_archives_unless_told_otherwise() -> None:
    def standard(pdf: bytes) -> bool:
        root: Any = PdfReader(BytesIO(pdf)).trailer["/Root"]
        return b"pdfaid" in root["/Metadata"].get_object().get_data()

    assert standard(render("plain", document("x")))
    assert not standard(render("plain", document("x"), pdf_a=False))


def test_a_long_table_repeats_its_head_on_each_page() -> None:
    columns = [{"title": "Ziel"}, {"title": "Betrag", "align": "right"}]
    rows = [[f"Ziel {n}", f"{n},00"] for n in range(120)] + [["Summe", "7.140,00"]]
    pdf = render("plain", document("Liste", sections=[{"columns": columns, "rows": rows, "strong": 1}]))
    pages = PdfReader(BytesIO(pdf)).pages
    assert len(pages) >= 3
    assert all("Betrag" in page.extract_text() for page in pages)
    assert f"Seite 2 von {len(pages)}" in pages[1].extract_text()
    assert len(pictures("plain", document("Liste"))) == 1


@pytest.mark.parametrize("name", ["../plain", "plain.typ", "/etc/passwd", ""])
def test_a_template_is_one_of_ours(name: str) -> None:
    with pytest.raises(ValueError, match="no template"):
        render(name, document("x"))
