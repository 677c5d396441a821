"""The ledger at the command line, on a real database: each command once, and what a person gets wrong."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest
from typer.testing import CliRunner

from bridge import queries
from bridge.cli.main import app
from bridge.database import connect
from bridge.errors import Conflict, InsufficientFunds, NotFound
from bridge.observe import log


class Callbridge(Protocol):
    def __call__(self, *words: str, code: int = 0) -> Any: ...


@pytest.fixture
def callbridge(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Callbridge:
    """Run a command on a database with Anna and Bert (euro) and Carl (dollars); its JSON, or what it says."""

    async def seed() -> None:
        async with connect(dsn) as conn:
            for name, currency in (("anna", "EUR"), ("bert", "EUR"), ("carl", "USD")):
                await queries.seed.add_account.value(
                    conn, kind="subscriber", name=name, currency=currency, funding="prepaid",
                    credit_limit_micro=0, call_cap=None,
                )  # fmt: skip

    asyncio.run(seed())
    # The log would go on to the runner's stream after that is closed.
    monkeypatch.setattr(log, "configure", lambda _: None)
    monkeypatch.setenv("CALLBRIDGE__DATABASE__DSN", dsn)

    def run(*words: str, code: int = 0) -> Any:
        ran = CliRunner().invoke(app, [*words, "--json"], prog_name="callbridge")
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        assert ran.exit_code == code, ran.output
        return ran.stderr if code else json.loads(ran.stdout)

    return run


def amounts(callbridge: Callbridge, name: str) -> list[tuple[str, str, str]]:
    told = callbridge("account", "statement", name)
    return [(one["kind"], one["amount"], one["balance"]) for one in told["entries"]]


def test_every_booking(callbridge: Callbridge) -> None:
    first = callbridge("account", "top-up", "anna", "10", "--key", "k1", "--note", "voucher")
    assert callbridge("account", "top-up", "anna", "10", "--key", "k1", "--note", "voucher") == first
    callbridge("account", "refund", first["transfer_id"], "4.50")
    by = ("--author", "eve", "--reason", "goodwill")
    corrected = callbridge("account", "correct", "anna", "-0.25", *by)
    callbridge("account", "reverse", corrected["transfer_id"], *by)
    callbridge("account", "refer", "anna", "bert", "2")
    today = datetime.now(UTC).date().isoformat()
    callbridge("fx", "set", "EUR", "USD", "1.0873", "--on", today)
    told = callbridge("account", "exchange", "anna", "carl", "1")
    assert [(one["name"], one["balance"]) for one in told["accounts"]] == [
        ("anna", "6.50"),
        ("carl", "1.0873"),
    ]
    assert amounts(callbridge, "anna") == [
        ("top_up", "10.00", "10.00"),
        ("refund", "-4.50", "5.50"),
        ("correction", "-0.25", "5.25"),
        ("reversal", "0.25", "5.50"),
        ("referral", "2.00", "7.50"),
        ("exchange", "-1.00", "6.50"),
    ]
    assert callbridge("account", "show", "cash EUR")["balance"] == "-5.50"
    assert {one["name"] for one in callbridge("account", "list")} >= {"anna", "bert", "carl", "referral EUR"}
    assert [one["rate"] for one in callbridge("fx", "show")] == ["1.0873", "0.919709371"]
    assert callbridge("period", "show") == []
    closed = callbridge("period", "close", today, "--author", "eve")
    assert (
        callbridge("period", "show")[0]["closed_until"] == closed["closed_until"] == f"{today}T00:00:00+00:00"
    )


def test_a_made_key_is_said_before_it_is_used(callbridge: Callbridge) -> None:
    ran = CliRunner().invoke(app, ["account", "top-up", "nobody", "1"])
    assert isinstance(ran.exception, NotFound)
    key = ran.stderr.split()[1].rstrip(":")
    made = callbridge("account", "top-up", "anna", "1", "--key", key)
    assert made["key"] == key
    assert callbridge("account", "top-up", "anna", "1")["key"] != key


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("account", "show", "nobody"), NotFound),
        (("account", "refund", "01890000-0000-7000-8000-000000000000"), NotFound),
        (("account", "correct", "anna", "-1", "--author", "eve", "--reason", "r"), InsufficientFunds),
        (("account", "exchange", "anna", "carl", "1"), NotFound),
    ],
)
def test_what_the_ledger_refuses(
    callbridge: Callbridge, words: tuple[str, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        callbridge(*words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("account", "top-up", "anna", "NaN"), "is not an amount"),
        (("account", "top-up", "anna", "1,5"), "is not an amount"),
        (("account", "top-up", "anna", "9999999999999"), "is not an amount"),
        (("account", "refund", "5"), "a valid UUID"),
        (("account", "correct", "anna", "1"), "Missing option"),
        (("fx", "set", "EUR", "USD", "1e3"), "is not a rate"),
        (("fx", "set", "EUR", "USD", "1", "--on", "yesterday"), "is no day"),
        (("period", "close", "soon", "--author", "eve"), "is no instant"),
    ],
)
def test_what_a_person_gets_wrong(callbridge: Callbridge, words: tuple[str, ...], says: str) -> None:
    assert says in " ".join(callbridge(*words, code=2).replace("│", " ").split())


def test_text_for_people(callbridge: Callbridge) -> None:
    made = callbridge("account", "top-up", "anna", "10", "--note", "[bold]voucher")

    def text(*words: str) -> str:
        ran = CliRunner().invoke(app, words)
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    told = text("account", "statement", "anna")
    assert "opening balance 0.00 EUR" in told
    assert made["transfer_id"] in told
    assert "[bold]voucher" in told, "a note is no markup"
    assert "closing balance 10.00 EUR" in told
    assert "anna" in text("account", "list")
    assert "balance       10.00" in text("account", "show", "anna")
    assert "anna: 11.00 EUR" in text("account", "top-up", "anna", "1")
    assert text("period", "show") == "no period is closed\n"
    assert text("fx", "show") == "no rate of the last days is known\n"
    text("fx", "set", "EUR", "USD", "1.5")
    with pytest.raises(Conflict):
        callbridge("fx", "set", "EUR", "USD", "1.6")
