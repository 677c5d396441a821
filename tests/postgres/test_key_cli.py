"""Keys and partners at the command line: how an operator gets in first."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from bridge.api.auth import check_key
from bridge.api.problems import Problem
from bridge.database import connect
from bridge.errors import Conflict, Invalid, NotFound
from tests.command import Callbridge


def asked(dsn: str, sql: str) -> list[asyncpg.Record]:
    async def run() -> list[asyncpg.Record]:
        async with connect(dsn) as conn:
            return await conn.fetch(sql)

    return asyncio.run(run())


def holder(dsn: str, key: str, kind: str = "key") -> Any:
    async def run() -> Any:
        async with connect(dsn) as conn:
            return await check_key(conn, key, kind)

    return asyncio.run(run())


def test_the_first_key_opens_and_a_revoked_one_does_not(callbridge: Callbridge, dsn: str) -> None:
    made = callbridge("key", "create", "console")
    assert (made["state"], made["scopes"], made["partner_id"]) == ("valid", ["*"], None)
    who = holder(dsn, made["secret"])
    assert who.operator
    assert who.may("partners:write")
    listed = callbridge("key", "list")
    assert [one["prefix"] for one in listed] == [made["prefix"]]
    assert made["secret"] not in json.dumps(listed)
    gone = callbridge("key", "revoke", made["prefix"])
    assert gone["state"] == "revoked"
    with pytest.raises(Problem):
        holder(dsn, made["secret"])


def test_a_key_for_a_partner(callbridge: Callbridge, dsn: str) -> None:
    partner = callbridge("partner", "create", "E-Plus", "EUR")
    assert [one["name"] for one in callbridge("partner", "list")] == ["E-Plus"]
    end = (datetime.now(UTC) + timedelta(days=90)).isoformat()
    made = callbridge(
        "key", "create", "cdrs", "--partner", "E-Plus", "--scope", "cdrs:read", "--scope", "calls:read",
        "--expires", end, "--client",
    )  # fmt: skip
    assert (made["partner_id"], made["kind"]) == (partner["partner_id"], "client")
    who = holder(dsn, made["secret"], "client")
    assert (who.operator, who.may("cdrs:read"), who.may("calls:write")) == (False, True, False)
    with pytest.raises(Problem):
        holder(dsn, made["secret"])
    assert [one["partner"] for one in callbridge("key", "list")] == ["E-Plus"]


def test_it_is_in_the_audit_log_without_the_secret(callbridge: Callbridge, dsn: str) -> None:
    callbridge("partner", "create", "E-Plus", "EUR")
    made = callbridge("key", "create", "console", "--partner", "E-Plus")
    callbridge("key", "revoke", made["prefix"])
    rows = asked(dsn, "SELECT * FROM audit_log ORDER BY audit_id")
    assert [row["action"] for row in rows] == ["partner.create", "key.create", "key.revoke"]
    assert {row["actor"].partition(",")[0] for row in rows} == {"command line"}
    assert made["secret"].rpartition("_")[2] not in repr([dict(row) for row in rows])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("key", "create", "x", "--partner", "nobody"), NotFound),
        (("key", "create", "x", "--scope", "money:print"), Invalid),
        (("key", "create", "x", "--partner", "E-Plus", "--scope", "partners:write"), Invalid),
        (("key", "create", "x", "--expires", "2020-01-01"), Invalid),
        (("key", "create", ""), Invalid),
        (("key", "create", "a\x1b[2J"), Invalid),
        (("key", "revoke", "cb_00000000"), NotFound),
        (("partner", "create", "E-Plus", "EUR"), Conflict),
        (("partner", "create", "KPN", "XXX"), Invalid),
        (("partner", "create", "", "EUR"), Invalid),
    ],
)
def test_what_is_refused_leaves_nothing(
    callbridge: Callbridge, dsn: str, words: tuple[str, ...], error: type[Exception]
) -> None:
    callbridge("partner", "create", "E-Plus", "EUR")
    with pytest.raises(error):
        callbridge(*words)
    assert asked(dsn, "SELECT count(*) FROM api_key")[0][0] == 0
    assert asked(dsn, "SELECT count(*) FROM partner")[0][0] == 1
    assert asked(dsn, "SELECT count(*) FROM audit_log")[0][0] == 1


def test_a_closed_partner_gets_no_key(callbridge: Callbridge, dsn: str) -> None:
    callbridge("partner", "create", "E-Plus", "EUR")
    asked(dsn, "UPDATE partner SET state = 'closed'")
    with pytest.raises(Conflict):
        callbridge("key", "create", "x", "--partner", "E-Plus")


def test_text_for_people(callbridge: Callbridge) -> None:
    assert "E-Plus" in callbridge("partner", "create", "E-Plus", "EUR", text=True)
    assert "E-Plus" in callbridge("partner", "list", text=True)
    told = callbridge("key", "create", "console", text=True)
    assert "Authorization: Bearer cb_" in told
    told = callbridge("key", "create", "app", "--client", "--partner", "E-Plus", text=True)
    assert "client_secret  cb_" in told
    listed = callbridge("key", "list", text=True)
    assert "operator" in listed
    assert "without end" in listed
    prefix = told.split("client_id")[1].split()[0]
    assert callbridge("key", "revoke", prefix, text=True) == f"{prefix} (app) is revoked\n"
