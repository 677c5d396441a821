"""`callbridge export`, its deliveries into folders, and disks that are full."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import asn1tools
import pytest

from bridge.config import Exports
from bridge.database import Connection, connect
from bridge.errors import ConfigError, Conflict, Invalid, NotFound
from bridge.exports import delivery
from bridge.exports.cdr_files import run
from tests.command import Callbridge
from tests.exporting import BEGIN, Laid, lay, manifest, read, recipient, settings
from tests.killing import Forks, leftovers

TAP = """
Calls DEFINITIONS IMPLICIT TAGS ::= BEGIN
DataInterChange ::= CHOICE {
  transferBatch [APPLICATION 1] TransferBatch, notification [APPLICATION 2] BatchControlInfo }
TransferBatch ::= SEQUENCE {
  batchControlInfo [APPLICATION 4] BatchControlInfo,
  accountingInfo [APPLICATION 5] SEQUENCE {
    localCurrency [APPLICATION 135] OCTET STRING, tapDecimalPlaces [APPLICATION 244] INTEGER },
  callEventDetails [APPLICATION 3] SEQUENCE OF CallEventDetail,
  auditControlInfo [APPLICATION 15] SEQUENCE {
    earliestCallTimeStamp [APPLICATION 101] Stamp, latestCallTimeStamp [APPLICATION 133] Stamp,
    totalCharge [APPLICATION 415] INTEGER, callEventDetailsCount [APPLICATION 43] INTEGER } }
BatchControlInfo ::= SEQUENCE {
  sender [APPLICATION 196] OCTET STRING, recipient [APPLICATION 182] OCTET STRING,
  fileSequenceNumber [APPLICATION 109] OCTET STRING, fileCreationTimeStamp [APPLICATION 108] Stamp OPTIONAL }
CallEventDetail ::= CHOICE { mobileOriginatedCall [APPLICATION 9] SEQUENCE {
  basicCallInformation [APPLICATION 64] SEQUENCE {
    destination [APPLICATION 42] SEQUENCE { calledNumber [APPLICATION 407] OCTET STRING },
    callEventStartTimeStamp [APPLICATION 44] Stamp, totalCallEventDuration [APPLICATION 223] INTEGER },
  basicServiceUsedList [APPLICATION 38] SEQUENCE OF SEQUENCE {
    chargeInformationList [APPLICATION 70] SEQUENCE OF SEQUENCE {
      chargedItem [APPLICATION 66] OCTET STRING,
      chargeDetailList [APPLICATION 64] SEQUENCE OF SEQUENCE {
        chargeType [APPLICATION 71] OCTET STRING, charge [APPLICATION 62] INTEGER } } } } }
Stamp ::= SEQUENCE { localTimeStamp [APPLICATION 16] OCTET STRING, utcTimeOffset [APPLICATION 231] OCTET STRING }
END
"""


@pytest.fixture
async def laid(conn: Connection) -> Laid:
    return await lay(conn, 60)


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CALLBRIDGE__EXPORTS__FOLDER", str(tmp_path / "made"))
    monkeypatch.setenv("CALLBRIDGE__COMPANY__CODE", "US")
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def test_from_the_first_recipient_to_the_file(
    dsn: str, callbridge: Callbridge, target: Path, tmp_path: Path
) -> None:
    asyncio.run(_lay(dsn))
    made = callbridge(
        "export", "recipient", "add", "ACME", "--partner", "Acme Voice", "--directory", str(target),
        "--period", "hourly", "--since", BEGIN.isoformat(), "--type", "cdr",
    )  # fmt: skip
    assert made["target"] == {"kind": "directory", "path": str(target)}
    assert callbridge("export", "recipient", "set", "ACME", "--type", "cdr", "--type", "quality")[
        "types"
    ] == [
        "cdr",
        "quality",
    ]
    told = callbridge("export", "run", "--until", (BEGIN + timedelta(hours=3)).isoformat())
    (one,) = told["recipients"]
    assert one["planned"] == 6 and len(one["delivered"]) == 6 and one["problem"] is None
    listed = callbridge("export", "files", "--recipient", "acme", "--type", "cdr")
    assert [file["sequence"] for file in listed] == [3, 2, 1]
    assert {file["state"] for file in listed} == {"delivered"}
    name = listed[-1]["name"]
    shown = callbridge("export", "show", name)
    assert shown["rows"] == len(read(target / name)) > 0
    (tmp_path / "made" / "ACME" / name).unlink()
    assert callbridge("export", "again", name)["sha256"] == shown["sha256"]
    assert (tmp_path / "made" / "ACME" / name).read_bytes() == (target / name).read_bytes()
    found = callbridge(
        "export", "extract", "--since", "2026-10-24", "--until", "2026-10-25", "--out", str(tmp_path), "--partner",
        "Beta Carrier", "--format", "jsonl",
    )  # fmt: skip
    assert Path(found["path"]).name.startswith("EXTRACT_US_Beta-Carrier_CDR_")
    assert callbridge("export", "recipient", "disable", "ACME")["enabled"] is False
    assert callbridge("export", "run")["recipients"] == []
    assert "ACME" in callbridge("export", "recipient", "list", text=True)
    assert name in callbridge("export", "files", text=True)
    assert "disabled" in callbridge("export", "recipient", "show", "ACME", text=True)


async def _lay(dsn: str) -> None:
    async with connect(dsn) as conn:
        await lay(conn, 60)


async def test_another_file_by_that_name_is_left_alone(
    conn: Connection, laid: Laid, target: Path, tmp_path: Path
) -> None:
    who = await recipient(conn, "ACME", laid.ours, target={"kind": "directory", "path": str(target)})
    ours = settings(tmp_path / "made")
    name = "CDR_US_ACME_00000001_20261023T220000Z_20261024T220000Z.csv.gz"
    (target / name).write_bytes(b"another")
    outcome = await run(conn, ours, who, laid.until)
    assert outcome.problem is not None and "other content" in outcome.problem
    assert (target / name).read_bytes() == b"another"
    assert outcome.delivered == []  # nothing overtakes it
    (target / name).unlink()
    (target / name).symlink_to(tmp_path / "elsewhere")
    assert "is a link" in str((await run(conn, ours, who, laid.until)).problem)
    (target / name).unlink()
    (target / f"{name}.part").symlink_to(tmp_path / "elsewhere")
    assert (await run(conn, ours, who, laid.until)).problem is not None
    assert not (tmp_path / "elsewhere").exists()
    (target / f"{name}.part").unlink(missing_ok=True)
    assert (await run(conn, ours, who, laid.until)).problem is None
    assert leftovers(target) == []


async def test_the_manifest_comes_last(tmp_path: Path) -> None:
    """Whoever sees a manifest has its file and its sums."""
    folder = tmp_path / "target"
    folder.mkdir()
    paths = [tmp_path / name for name in ("A.csv.gz", "A.csv.gz.sha256", "A.csv.gz.json")]
    for path in paths:
        path.write_text(path.name)
    (folder / "A.csv.gz.sha256").write_text("another")
    with pytest.raises(Conflict):
        await delivery.deliver(Exports(), {"kind": "directory", "path": str(folder)}, paths)
    assert sorted(path.name for path in folder.iterdir()) == ["A.csv.gz", "A.csv.gz.sha256"]


@pytest.mark.parametrize("name", ["..", ".hidden", "a/../b", "A.part", "a\nb", "x" * 300])
async def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        await delivery.deliver(
            Exports(),
            {"kind": "directory", "path": str(tmp_path)},
            [tmp_path / "x" / name.replace("/", "\\")],
        )


async def test_a_folder_that_is_not_there_is_told(conn: Connection, laid: Laid, tmp_path: Path) -> None:
    who = await recipient(
        conn, "ACME", laid.ours, target={"kind": "directory", "path": str(tmp_path / "gone")}
    )
    outcome = await run(conn, settings(tmp_path / "made"), who, laid.until)
    assert outcome.problem is not None and "is no folder" in outcome.problem
    assert len(outcome.written) == 1 and outcome.delivered == []


def test_a_full_disk_leaves_no_half_file(dsn: str, target: Path, tmp_path: Path) -> None:
    asyncio.run(_full(dsn, target))
    words = ("export", "run", "--json", "--until", (BEGIN + timedelta(days=1)).isoformat())
    with Forks(CALLBRIDGE__DATABASE__DSN=dsn) as forks:
        status, said = forks.run(*words, file_bytes=2_000)
        assert status == 1 and "File too large" in said
        whole = [path for path in (*target.rglob("*"), *(tmp_path / "made").rglob("*")) if path.is_file()]
        assert whole == []
        target.rename(tmp_path / "away")
        assert forks.run(*words)[0] == 1  # written, not delivered
        (tmp_path / "away").rename(target)
        status, said = forks.run(*words, file_bytes=2_000)
        assert status == 1 and "cannot be" in said
        assert [path for path in target.rglob("*") if path.is_file()] == []
        assert forks.run(*words)[0] == 0
    (data,) = target.glob("*.csv.gz")
    assert len(read(data)) == manifest(data)["rows"] > 0
    assert leftovers(target, tmp_path / "made") == []


async def _full(dsn: str, target: Path) -> None:
    async with connect(dsn) as conn:
        await lay(conn, 200)
        await recipient(conn, "FULL", target={"kind": "directory", "path": str(target)})


@pytest.fixture
def schema(tmp_path: Path) -> Callable[[str], str]:
    def written(text: str) -> str:
        path = tmp_path / "calls.asn"
        path.write_text(text)
        return str(path)

    return written


async def test_tap_is_made_by_the_operators_module(
    conn: Connection, laid: Laid, tmp_path: Path, schema: Callable[[str], str]
) -> None:
    who = await recipient(conn, "DEUXX", laid.carrier, form="tap3")
    path = schema(TAP)
    outcome = await run(conn, settings(tmp_path, tap_schema=path), who, laid.until)
    assert outcome.problem is None
    made = tmp_path / "DEUXX" / outcome.written[0]
    kind, told = asn1tools.compile_files([path], "ber").decode("DataInterChange", made.read_bytes())
    sums = manifest(made)
    assert kind == "transferBatch"
    assert told["batchControlInfo"]["fileSequenceNumber"] == b"00001"
    audit = told["auditControlInfo"]
    assert audit["callEventDetailsCount"] == len(told["callEventDetails"]) == sums["rows"] > 0
    charges = [
        call["basicServiceUsedList"][0]["chargeInformationList"][0]["chargeDetailList"][0]["charge"]
        for _, call in told["callEventDetails"]
    ]
    assert audit["totalCharge"] == sum(charges) == round(float(sums["amount"]["EUR"]) * 10**6)


async def test_tap_without_a_module_says_what_is_missing(
    conn: Connection, laid: Laid, tmp_path: Path, schema: Callable[[str], str]
) -> None:
    who = await recipient(conn, "DEUXX", laid.carrier, form="tap3")
    for path, problem in (
        ("", "exports.tap_schema: is empty"),
        (str(tmp_path / "no.asn"), "cannot be used"),
        (schema("this is no module"), "cannot be used"),
    ):
        outcome = await run(conn, settings(tmp_path, tap_schema=path), who, laid.until)
        assert outcome.problem is not None and problem in outcome.problem
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "CDR_US_X_1.csv.gz", "x", "CDR_US_X_00000001_.csv.gz"])
def test_names_that_are_none_are_refused(callbridge: Callbridge, name: str) -> None:
    for command in ("show", "again"):
        with pytest.raises((Invalid, NotFound)):
            callbridge("export", command, name)


def test_what_is_wrong_is_told_with_its_fix(callbridge: Callbridge, tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        with pytest.raises((Invalid, NotFound, ConfigError)) as found:
            callbridge("export", "recipient", *words)
        return str(found.value)

    assert "recipient list" in refused("show", "NOBODY")
    assert "partner list" in refused("add", "A", "--partner", "Nobody")
    assert "hourly" in refused("add", "A", "--period", "yearly")
    assert "Europe/Berlin" in refused("add", "A", "--zone", "Mars/Olympus")
    assert "USER@HOST" in refused("add", "A", "--sftp", "host/folder")
    assert "host_key" in refused("add", "A", "--sftp", "u@host/folder")
    assert "not both" in refused("add", "A", "--sftp", "u@host/folder", "--directory", "/x")
    assert json.dumps(callbridge("export", "recipient", "list")) == "[]"
