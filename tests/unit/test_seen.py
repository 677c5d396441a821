"""What strangers wrote, at an operator's terminal: text, never a command, and never markup."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import typer

from bridge.cli.arguments import instant
from bridge.errors import ConfigError, Invalid
from bridge.exports.spans import zone_named
from bridge.partners.recon_mapping import FileMapping
from bridge.telling.jobs import tell_jobs
from bridge.telling.key import tell_partners
from bridge.telling.reconcile import tell_dispute, tell_import

EVIL = "\x1b]0;x\x07[/red]\u202e[bold]"


def plain(text: str) -> bool:
    return all(one.isprintable() or one == "\n" for one in text)


def test_a_servers_words_in_the_list_of_jobs() -> None:
    row: dict[str, Any] = {
        "key": "cdr_files 1", "rhythm": "daily", "state": "queued", "tries": 1, "due_at": None, "ended_at": None,
        "problem": f"refused: {EVIL}", "said": {},
    }  # fmt: skip
    told = tell_jobs([row])
    assert "[/red]" in told and plain(told)


def test_a_partners_name() -> None:
    one = {"name": EVIL, "state": "active", "partner_id": "prt_1", "account_id": "acc_1"}
    told = tell_partners([one])
    assert "[/red]" in told and plain(told)


def test_headers_of_a_file_and_words_in_a_dispute() -> None:
    found = {
        "state": "imported",
        "rows": 1,
        "run_id": "r",
        "unanswered": 0,
        "other_leg": 0,
        "ignored_columns": [EVIL],
    }
    assert plain(tell_import(found))
    note = {"at": datetime.now(UTC).isoformat(), "side": "them", "state": None, "text": f"two\nlines{EVIL}"}
    told = tell_dispute({"title": EVIL, "notes": [note], "evidence": []})
    assert plain(told) and "two\nlines" in told


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31T23:59:59-14:00"])
def test_instants_at_the_ends_of_time(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="not in our time"):
        instant(text)


@pytest.mark.parametrize(
    "columns", [{"b_number": 7}, {"b_number": [["a"]]}, {"b_number": {"a": 1}}, {"b_number": [1]}]
)
def test_a_mapping_whose_columns_are_no_texts(columns: Any) -> None:
    with pytest.raises(ConfigError, match=r"columns\.b_number"):
        FileMapping.from_json(json.loads(json.dumps({"columns": columns})))


def test_a_folder_of_time_zones_is_none() -> None:
    with pytest.raises(ConfigError, match="no time zone"):
        FileMapping.from_json({"zone": "Europe"})
    with pytest.raises(Invalid, match="no time zone"):
        zone_named("Europe")
