"""The failsafe as the switch runs it: a process, an AGI header on its stdin, one command on its stdout."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest

from bridge.asterisk.channel_vars import FIELDS, SEPARATOR, endpoint_of
from bridge.asterisk.failsafe import answer
from bridge.calls.snapshot import Snapshot, make_key, read_key, seal, write
from bridge.calls.token import Orphan, parse_token, uuid7

ROOT = Path(__file__).parents[2]
DEADLINE_S = 20

CALLER, CALLED = "+4915112345678", "+493023125000"
SUBSCRIBER, PLAN = "0198c0de-0000-7000-8000-000000000001", "0198c0de-0000-7000-8000-000000000002"

# The real program, but what it says to syslog goes to a file.
PROGRAM = """
import sys
from bridge.asterisk import failsafe
note = open(sys.argv.pop(1), "w")
failsafe.syslog.syslog = lambda level, text: print(text, file=note, flush=True)
sys.exit(failsafe.main())
"""
# As res_agi.c writes them for a process, which is not told agi_network.
# fmt: off
HEADER = {
    "request": "callbridge-failsafe", "channel": "PJSIP/app1-0000002a", "language": "en", "type": "PJSIP",
    "uniqueid": "1800000000.42", "version": "22.10.1", "callerid": CALLER, "calleridname": "unknown",
    "callingpres": "0", "callingani2": "0", "callington": "0", "callingtns": "0", "dnid": CALLED,
    "rdnis": "unknown", "context": "call", "extension": "s", "priority": "16", "enhanced": "0.0",
    "accountcode": "", "threadid": "139912345678", "arg_1": "/snapshot", "arg_2": "/key",
}
# fmt: on


def header(**changed: str) -> bytes:
    lines = (f"agi_{key}: {value}\n" for key, value in (HEADER | changed).items())
    return "".join(lines).encode("latin-1") + b"\n"


@dataclass(frozen=True)
class Said:
    """What the process did: the fields of BRIDGE by name (none: it gave no answer), and its line in the log."""

    fields: dict[str, str]
    note: str


@dataclass(frozen=True)
class Failsafe:
    """A folder with a snapshot and its key."""

    folder: Path

    @property
    def snapshot(self) -> Path:
        return self.folder / "failsafe.json"

    @property
    def key(self) -> Path:
        return self.folder / "failsafe.key"

    def put(self, snapshot: Snapshot) -> None:
        write(self.snapshot, seal(snapshot, read_key(self.key)))

    def command(self) -> list[str]:
        return [sys.executable, "-c", PROGRAM, *map(str, (self.folder / "log", self.snapshot, self.key))]

    def ask(self, asked: bytes, reply: bytes = b"200 result=1\n") -> Said:
        done = subprocess.run(
            self.command(), input=asked + reply, check=True, capture_output=True, cwd=ROOT, timeout=DEADLINE_S
        )
        note = (self.folder / "log").read_text()
        assert done.stderr == b""
        assert not any(number[1:] in note for number in (CALLER, CALLED))
        if not done.stdout:
            return Said({}, note)
        command = done.stdout.decode()
        value = command.removeprefix('SET VARIABLE "BRIDGE" "').removesuffix('"\n')
        assert command == f'SET VARIABLE "BRIDGE" "{value}"\n'
        return Said(dict(zip(FIELDS, value.split(SEPARATOR), strict=True)), note)


def sample() -> Snapshot:
    return Snapshot(
        made_at=int(time.time()),
        age_s_max=3600,
        limit_s=600,
        home="DE",
        subscribers={"app1": {CALLER: [SUBSCRIBER, PLAN]}},
        routes={PLAN: {"49": "carrier_a", "4940": None, "43": "carrier_b"}},
        ring_s={"carrier_a": 45, "carrier_b": 30},
    )


@pytest.fixture
def failsafe(tmp_path: Path) -> Failsafe:
    made = Failsafe(tmp_path)
    make_key(made.key)
    made.put(sample())
    return made


def refused(said: Said, cause: int) -> bool:
    return (said.fields["verdict"], said.fields["cause"]) == ("stop", str(cause))


def test_numbers_are_written_as_the_trunks_carrier_wants_them(failsafe: Failsafe) -> None:
    failsafe.put(replace(sample(), writing={"carrier_a": ["international", "national", "77"]}))
    said = failsafe.ask(header())
    assert said.fields["dial"] == f"PJSIP/7700{CALLED[1:]}@carrier_a"
    assert said.fields["cli"] == f"0{CALLER.removeprefix('+49')}"
    token = parse_token(said.fields["call"])
    assert token is not None
    assert token.orphan == Orphan(UUID(SUBSCRIBER), CALLER, CALLED, "carrier_a")


# ---------------------------------------------------------------- who may call


def test_a_subscriber_who_is_billed_afterwards_is_let_through(failsafe: Failsafe) -> None:
    before_ms = int(time.time() * 1000)
    said = failsafe.ask(header())
    token = parse_token(said.fields["call"])
    assert token is not None
    assert token.call_id.version == 7
    assert before_ms <= token.call_id.int >> 80 <= time.time() * 1000
    assert token.attempt_no == 1
    assert token.orphan == Orphan(UUID(SUBSCRIBER), CALLER, CALLED, "carrier_a")
    assert said.fields == {
        "verdict": "dial",
        "dial": f"PJSIP/{CALLED}@carrier_a",
        "ring_s": "45",
        "limit_s": "600.000",
        "cause": "34",
        "call": str(token),
        "cli": CALLER,
        "privacy": "",
    }
    assert said.note == f"admitted: {token.call_id}.1 on carrier_a\n"


@pytest.mark.parametrize("dialled", ["030 23125000", "0049-30-23125000", "(030)23125-000"])
def test_numbers_are_read_as_the_bridge_reads_them(failsafe: Failsafe, dialled: str) -> None:
    said = failsafe.ask(header(dnid=dialled, callerid="015112345678"))
    assert said.fields["dial"] == f"PJSIP/{CALLED}@carrier_a"
    assert said.fields["cli"] == CALLER


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        pytest.param({"callerid": "+4915112345679"}, 34, id="prepaid or not known"),
        pytest.param({"channel": "PJSIP/app2-0000002a"}, 34, id="of another app"),
        pytest.param({"channel": "PJSIP/app-1-0000002a"}, 34, id="of an app with a longer name"),
        pytest.param({"callerid": "unknown"}, 21, id="anonymous"),
        pytest.param({"callerid": "+49900123456"}, 21, id="a premium number as caller"),
        pytest.param({"dnid": "+49900123456"}, 21, id="0900"),
        pytest.param({"dnid": "0137 1234567"}, 21, id="0137"),
        pytest.param({"dnid": "11833"}, 21, id="118xy"),
        pytest.param({"dnid": "+494066969000"}, 34, id="no route"),
        pytest.param({"dnid": "+442071234567"}, 34, id="not sold"),
        pytest.param({"dnid": "112"}, 28, id="emergency, which the dialplan takes before"),
        pytest.param({"dnid": "unknown"}, 28, id="nothing dialled"),
        pytest.param({"dnid": '+4930"${EXTEN}'}, 28, id="not a number"),
    ],
)
def test_everyone_else_is_refused(failsafe: Failsafe, changed: dict[str, str], cause: int) -> None:
    said = failsafe.ask(header(**changed))
    assert refused(said, cause)
    assert said.fields["call"] == ""
    assert said.note.startswith("refused: ")
    assert said.note.count("\n") == 1


# ---------------------------------------------------------------- what may be wrong with the snapshot


def tampered(failsafe: Failsafe) -> None:
    content = failsafe.snapshot.read_bytes()
    failsafe.snapshot.write_bytes(content.replace(b'"limit_s":600', b'"limit_s":999'))


def unsafe(failsafe: Failsafe) -> None:
    failsafe.put(replace(sample(), routes={PLAN: {"49": "a&PJSIP/b"}}, ring_s={"a&PJSIP/b": 30}))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda failsafe: failsafe.snapshot.unlink(), "No such file"),
        (lambda failsafe: failsafe.key.unlink(), "failsafe.key_file"),
        (lambda failsafe: failsafe.snapshot.write_bytes(b""), "signature"),
        (tampered, "signature"),
        (lambda failsafe: failsafe.key.write_text("ab" * 32), "signature"),
        (lambda failsafe: failsafe.key.write_text("ab"), "holds 1 bytes"),
        (lambda failsafe: failsafe.put(replace(sample(), made_at=1)), "s old"),
        (lambda failsafe: failsafe.put(replace(sample(), made_at=2**40)), "s old"),
        (lambda failsafe: failsafe.put(replace(sample(), ring_s={})), "KeyError"),
        (unsafe, "not allowed in a dial string"),
    ],
)
def test_without_a_good_snapshot_nobody_calls(
    failsafe: Failsafe, spoil: Callable[[Failsafe], None], why: str
) -> None:
    spoil(failsafe)
    said = failsafe.ask(header())
    assert refused(said, 34)
    assert why in said.note
    assert said.note.count("\n") == 1


def test_without_its_arguments_it_says_so() -> None:
    assert answer("", [], 0.0)[0] == "stop||0|0.000|34|||"
    assert "FAILSAFE" in answer("", [], 0.0)[1]


# ---------------------------------------------------------------- what a caller may try


@pytest.mark.parametrize(
    "name",
    ['"', '" "x', "${SHELL(id)}", "\\", "x,dial,PJSIP/1@b", "\xff\xfe", "%s", ": :", "HANGUP", "x" * 5000],
)
def test_a_callers_name_changes_nothing(failsafe: Failsafe, name: str) -> None:
    said = failsafe.ask(header(calleridname=name))
    assert said.fields["dial"] == f"PJSIP/{CALLED}@carrier_a"


@pytest.mark.parametrize(
    "name",
    [f"x\nagi_callerid: {CALLER}", "x\nagi_channel: PJSIP/app1-1", "x\n", "x\n\n200 result=1", "x\n" * 70],
)
def test_a_line_feed_in_a_name_cannot_write_the_header(failsafe: Failsafe, name: str) -> None:
    assert refused(failsafe.ask(header(callerid="+4915112345679", calleridname=name)), 34)
    assert "header" in failsafe.ask(header(calleridname=name)).note


# ---------------------------------------------------------------- how it ends


@pytest.mark.parametrize(
    "reply", [b"HANGUP\n", b"", b"511 Command Not Permitted on a dead channel or intercept routine\n"]
)
def test_a_caller_who_hangs_up_meanwhile_is_no_error(failsafe: Failsafe, reply: bytes) -> None:
    said = failsafe.ask(header(), reply)
    assert said.fields["verdict"] == "dial"
    assert said.note == ""


@pytest.mark.parametrize("head", [b"", b"agi_request: x\n", header()[:-1], header()[:-20]])
def test_a_header_that_breaks_off_gets_no_answer(failsafe: Failsafe, head: bytes) -> None:
    assert failsafe.ask(head, b"") == Said({}, "")


@pytest.mark.parametrize("reply", [b"510 Invalid or unknown command\n", b"200 result=-1\n", b"\xff\n"])
def test_an_answer_that_is_not_taken_is_logged(failsafe: Failsafe, reply: bytes) -> None:
    note = failsafe.ask(header(), reply).note
    assert note.startswith("admitted: ")
    assert note.endswith("; the switch did not take the answer\n")


def test_a_switch_that_no_longer_listens_is_no_error(failsafe: Failsafe) -> None:
    with subprocess.Popen(
        failsafe.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write(header())
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr.read() == b""
    assert (failsafe.folder / "log").read_text() == ""


# ---------------------------------------------------------------- the pieces


def test_nothing_slow_is_loaded() -> None:
    code = "import sys, bridge.asterisk.failsafe; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=DEADLINE_S, check=True, text=True
    )
    slow = {"aiosql", "asyncio", "asyncpg", "bridge.config", "fastapi", "pydantic", "structlog"}
    assert slow.isdisjoint(done.stdout.split())


def test_ids_of_calls_sort_by_time_and_never_repeat() -> None:
    made = [uuid7(1_800_000_000.005 + n / 100) for n in range(1000)]
    assert made == sorted(made)
    assert all((one.version, one.variant) == (7, "specified in RFC 4122") for one in made)
    same_instant = {uuid7(1_800_000_000.5) for _ in range(1000)}
    assert len(same_instant) == 1000


@pytest.mark.parametrize("channel", ["PJSIP/app1-0000002a", "PJSIP/app_2-ffffffff"])
def test_the_app_is_read_from_the_channel_as_the_bridge_reads_it(failsafe: Failsafe, channel: str) -> None:
    app = endpoint_of(channel)
    failsafe.put(replace(sample(), subscribers={app: {CALLER: [SUBSCRIBER, PLAN]}}))
    assert failsafe.ask(header(channel=channel)).fields["cli"] == CALLER
