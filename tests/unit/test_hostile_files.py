"""Files made to break whoever reads them: bounded in memory and time, and told by row, never a traceback."""

from __future__ import annotations

import gzip
import io
import resource
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from openpyxl import Workbook

from bridge.errors import DeckError
from bridge.rating.deck_file import open_sheet
from tests.unit.test_recon_file import GOOD, HEAD, wrong


def grown_mb(work: Callable[[], Any]) -> tuple[Any, int]:
    """What it returns, and by how much it raised the most memory this process ever had."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = work()
    return found, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


def packed(block: bytes, blocks: int) -> bytes:
    """Nothing much that unpacks to megabytes."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb") as writer:
        writer.write((HEAD + GOOD).encode())
        for _ in range(blocks):
            writer.write(block)
    return file.getvalue()


@pytest.mark.parametrize("filler", [b"a", b",", b'"",', b'"\n",'])
def test_a_row_without_an_end_is_not_read_whole(filler: bytes) -> None:
    content = packed(filler * ((1 << 20) // len(filler)), 64)
    (told,), grown = grown_mb(lambda: wrong(content))
    assert told.startswith("row 3, row: is longer than 1,048,576 characters")
    assert grown < 200


@pytest.mark.parametrize(
    ("content", "said"),
    [(HEAD.strip() + ",x" * 1_000_000 + "\n" + GOOD, "is longer than 65,536 characters"),
     ((HEAD + GOOD).encode("utf-16-le"), "--encoding utf-16-le"), (HEAD.replace("id", "\0") + GOOD, "NUL")],
    ids=["a million columns", "utf-16 without its mark", "nul"],
)  # fmt: skip
def test_a_header_that_is_none(content: str | bytes, said: str) -> None:
    with pytest.raises(DeckError, match=said):
        wrong(content)


@pytest.mark.parametrize(
    ("at", "mapping"),
    [("9999-12-31T23:59:59-14:00", {}), ("0001-01-01T00:00:00+14:00", {}), ("0000-01-01T00:00:00Z", {}),
     ("99999999999999", {"time_format": "epoch_s"}), ("31.12.9999 23:59 -1400", {"time_format": "%d.%m.%Y %H:%M %z"}),
     ("01.10.2026 23:59 +9999", {"time_format": "%d.%m.%Y %H:%M %z"})],
)  # fmt: skip
def test_instants_outside_of_time(at: str, mapping: dict[str, str]) -> None:
    (told,) = wrong(HEAD + GOOD.replace("2026-10-05T10:00:00Z", at), **mapping)
    assert told.startswith("row 2, answer_at: ")


def workbook(**members: Callable[[bytes], bytes]) -> bytes:
    """A good one, but for what is made of some of its parts."""
    book = Workbook()
    sheet: Any = book.active
    sheet.append(HEAD.strip().split(","))
    sheet.append(GOOD.strip().split(","))
    whole, changed = io.BytesIO(), io.BytesIO()
    book.save(whole)
    with zipfile.ZipFile(whole) as before, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            change = members.get(name.rpartition("/")[2].removesuffix(".xml"), bytes)
            after.writestr(name, change(before.read(name)))
    return changed.getvalue()


def in_sheet(what: bytes) -> bytes:
    return workbook(sheet1=lambda xml: xml.replace(b"</sheetData>", what + b"</sheetData>"))


@pytest.mark.parametrize(
    "row",
    [b"<row>" + b"<c/>" * (4 << 20) + b"</row>",
     b'<row><c t="inlineStr"><is><t>' + b"a" * (64 << 20) + b"</t></is></c></row>"],
    ids=["cells", "text"],
)  # fmt: skip
def test_a_row_of_a_workbook_without_an_end(row: bytes) -> None:
    content = in_sheet(row)
    (told,), grown = grown_mb(lambda: wrong(content))
    assert told == "row 3, row: the sheet breaks off: 'a row is longer than 2 MB'"
    assert grown < 300


def test_texts_of_a_workbook_are_read_whole_and_so_are_few() -> None:
    content = workbook(theme1=lambda _: b" " * (65 << 20))
    with pytest.raises(DeckError, match="more than 64 MB"):
        open_sheet(io.BytesIO(content))


def test_a_workbook_names_no_file_and_unfolds_nothing() -> None:
    """XXE and the billion laughs."""
    laughs = b"".join(b'<!ENTITY a%d "%s">' % (n + 1, b"&a%d;" % n * 10) for n in range(9))
    for entities, cell in (
        (b'<!ENTITY a0 "lol">' + laughs, b"&a9;"),
        (b'<!ENTITY e SYSTEM "file:///etc/passwd">', b"&e;"),
    ):
        document = b'<?xml version="1.0"?><!DOCTYPE x [' + entities + b"]>"

        def change(xml: bytes, head: bytes = document, cell: bytes = cell) -> bytes:
            row = b'<row><c t="inlineStr"><is><t>' + cell + b"</t></is></c></row></sheetData>"
            return head + xml[xml.index(b"<worksheet") :].replace(b"</sheetData>", row)

        content = workbook(sheet1=change)
        told, grown = grown_mb(lambda content=content: wrong(content))  # type: ignore[misc]
        assert "root" not in str(told)
        assert ("breaks off" in told[-1], grown < 100) == (True, True), told
