"""The simulated carriers on a real Asterisk, called by SIPp, and app users calling SIPp as the bridge."""

from __future__ import annotations

import csv
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.errors import ConfigError, SwitchUnavailable
from bridge.sandbox.carriers import AppUser, Carrier, Carriers
from bridge.sandbox.fetch import AsteriskInstall, default_cache, find_asterisk, find_sipp
from bridge.sandbox.magic import DRAMA_RANGES, MAGIC
from bridge.sandbox.ports import free_ports
from bridge.sandbox.process import Deadline
from bridge.sandbox.progress import silent
from bridge.sandbox.switch import Switch

ALICE = AppUser(number="+4915112345678", username="alice", password="open-sesame")
SIPP_DEADLINE_S = 20

_HEADERS = """Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}
From: <sip:+4915112345678@[local_ip]:[local_port]>;tag=[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: {cseq} {method}
Contact: <sip:test@[local_ip]:[local_port]>
Max-Forwards: 70
"""
_SDP = """Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio [media_port] RTP/AVP 8
a=rtpmap:8 PCMA/8000
"""
# CANCEL, and ACK of a failure, belong to the INVITE's transaction
_INVITES_BRANCH = "z9hG4bK-[pid]-[call_number]"
_ANSWER_HEADERS = "[last_Via:]\n[last_From:]\n[last_To:]{tag}\n[last_Call-ID:]\n[last_CSeq:]\n"


def _request(method: str, cseq: int, body: str = "Content-Length: 0\n", branch: str = _INVITES_BRANCH) -> str:
    head = f"{method} sip:[service]@[remote_ip]:[remote_port] SIP/2.0\n"
    head += _HEADERS.format(method=method, cseq=cseq, branch=branch)
    return f"<send><![CDATA[\n\n{head}{body}\n]]></send>"


def _response(status: str, *, tag: str = "", more: str = "Content-Length: 0\n") -> str:
    return f"<send><![CDATA[\n\nSIP/2.0 {status}\n{_ANSWER_HEADERS.format(tag=tag)}{more}\n]]></send>"


def _recv(response: int) -> str:
    return f'<recv response="{response}"/>'


def _scenario(*steps: str) -> str:
    return '<?xml version="1.0"?><scenario name="x">' + "".join(steps) + "</scenario>"


TRIED = _request("INVITE", 1, _SDP) + _recv(100)
INVITE = _request("INVITE", 1, _SDP) + '<recv response="100" optional="true"/>'
ACK = _request("ACK", 1)
ACK_OF_ANSWER = _request("ACK", 1, branch="[branch]")
WE_HANG_UP = '<pause milliseconds="300"/>' + _request("BYE", 2, branch="[branch]") + _recv(200)
THEY_HANG_UP = '<recv request="BYE"/>' + _response("200 OK")
WE_CANCEL = '<pause milliseconds="500"/>' + _request("CANCEL", 1) + _recv(200) + _recv(487) + ACK


@dataclass(frozen=True)
class Expected:
    """What a caller of one number sees: any message not listed fails the SIPp run."""

    number: str
    steps: tuple[str, ...]
    lasts_s: tuple[float, float] = (0, 2)
    carrier: int = 0


def _fails_with(code: int) -> tuple[str, ...]:
    return (INVITE, _recv(code), ACK)


ANSWERED = (INVITE, _recv(200), ACK_OF_ANSWER, WE_HANG_UP)
EXPECTED = {
    "000": Expected("+493023125000", ANSWERED),
    "001": Expected("+493023125001", _fails_with(486)),
    "002": Expected("+493023125002", (INVITE, _recv(180), WE_CANCEL)),
    "003": Expected("+493023125003", _fails_with(503)),
    "004": Expected("+493023125004", _fails_with(404)),
    "005": Expected("+493023125005", (INVITE, _recv(180), _recv(200), ACK_OF_ANSWER, WE_HANG_UP), (3, 5)),
    "006": Expected("+496990009006", (INVITE, _recv(183), _recv(200), ACK_OF_ANSWER, WE_HANG_UP), (2, 4)),
    "007": Expected("+494066969007", (INVITE, _recv(200), ACK_OF_ANSWER, THEY_HANG_UP), (5, 7)),
    "010 on the first carrier": Expected("+492214710010", _fails_with(503)),
    "010 on the second": Expected("+492214710010", ANSWERED, carrier=1),
    "011": Expected("+498999998011", _fails_with(480)),
    "012": Expected("+493023125012", _fails_with(603)),
    "013": Expected("+493023125013", (TRIED, WE_CANCEL)),
    "021": Expected("+493023125021", (INVITE, _recv(200), ACK_OF_ANSWER, THEY_HANG_UP), (1, 3)),
    "100": Expected("+498999998100", ANSWERED),
    "no such ending": Expected("+493023125999", _fails_with(404)),
    "no plus sign": Expected("493023125001", _fails_with(486)),
    "the 02x that is none": Expected("+493023125020", _fails_with(404)),
}


@dataclass(frozen=True)
class Ran:
    code: int
    lasted_s: float
    said: str


def _sipp(sipp: tuple[str, ...], where: Path, scenario: str, *words: str) -> Ran:
    where.mkdir()
    (where / "scenario.xml").write_text(scenario)
    argv = (
        *sipp,
        "-sf",
        "scenario.xml",
        "-m",
        "1",
        "-nostdin",
        "-timeout",
        f"{SIPP_DEADLINE_S}s",
        "-timeout_error",
    )
    began = time.monotonic()
    run = subprocess.run(
        (*argv, "-i", "127.0.0.1", "-trace_err", "-error_file", "errors", *words),
        cwd=where,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=SIPP_DEADLINE_S + 5,
    )
    errors = (where / "errors").read_text() if (where / "errors").exists() else ""
    return Ran(run.returncode, time.monotonic() - began, errors or run.stderr)


@pytest.fixture(scope="module")
def install() -> AsteriskInstall:
    return find_asterisk(None, default_cache(), silent)


@pytest.fixture(scope="module")
def sipp() -> tuple[str, ...]:
    return find_sipp(default_cache(), silent)


@pytest.fixture(scope="module")
def carriers(install: AsteriskInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Carriers]:
    alpha, beta, app, bridge = free_ports(4)
    made = Carriers(
        install,
        tmp_path_factory.mktemp("carriers"),
        carriers=[Carrier("alpha", alpha), Carrier("beta", beta)],
        users=[ALICE],
        bridge=f"127.0.0.1:{bridge}",
        app_port=app,
    )
    with made:
        yield made


@pytest.fixture(scope="module")
def runs(
    carriers: Carriers, sipp: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Ran]]]:
    """All calls at once: the slowest ending sets the time, not their sum."""
    where, ports = tmp_path_factory.mktemp("sipp"), iter(free_ports(len(EXPECTED)))
    with ThreadPoolExecutor(len(EXPECTED)) as pool:
        yield {
            name: pool.submit(
                _sipp, sipp, where / str(index), _scenario(*call.steps),
                "-p", str(next(ports)), "-s", call.number,
                f"127.0.0.1:{carriers.carriers[call.carrier].port}",
            )
            for index, (name, call) in enumerate(EXPECTED.items())
        }  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_a_magic_number_does_what_its_table_says(name: str, runs: dict[str, Future[Ran]]) -> None:
    ran, (least_s, most_s) = runs[name].result(), EXPECTED[name].lasts_s
    assert ran.code == 0, ran.said
    assert least_s <= ran.lasted_s < most_s


def test_every_magic_ending_is_called_above() -> None:
    called = {name[:3] for name in EXPECTED}
    endings = {magic.ending.replace("_02[1-9]", "021").replace("_1XX", "100") for magic in MAGIC}
    assert endings <= called
    assert all(any(call.number.startswith(drama) for call in EXPECTED.values()) for drama in DRAMA_RANGES)


def test_an_app_user_calls_with_the_a_number_and_proves_the_password(
    carriers: Carriers, sipp: tuple[str, ...], tmp_path: Path
) -> None:
    challenge = 'WWW-Authenticate: Digest realm="bridge", nonce="abc123", algorithm=MD5\nContent-Length: 0\n'
    check = f"""<recv request="INVITE"><action>
        <verifyauth assign_to="known" username="{ALICE.username}" password="{ALICE.password}"/>
        <ereg regexp="sip:.{ALICE.number[1:]}@" search_in="hdr" header="From:" check_it="true" assign_to="a"/>
        <ereg regexp="INVITE sip:.493023125000@" search_in="msg" check_it="true" assign_to="b"/>
        </action></recv>
        <nop test="known" next="1"/>
        <nop><action><error message="digest refused"/></action></nop><label id="1"/>"""
    answer = f"Contact: <sip:bridge@[local_ip]:[local_port]>\n{_SDP}"
    scenario = _scenario(
        '<recv request="INVITE"/>', _response("401 Unauthorized", tag=";tag=1", more=challenge),
        '<recv request="ACK"/>',
        check, _response("200 OK", tag=";tag=2", more=answer), '<recv request="ACK"/>', THEY_HANG_UP,
        '<Reference variables="a,b"/>',
    )  # fmt: skip
    port = carriers.bridge.rpartition(":")[2]
    with ThreadPoolExecutor(1) as pool:
        bridge = pool.submit(_sipp, sipp, tmp_path / "bridge", scenario, "-p", port)
        carriers.originate(ALICE.number, "+493023125000", talk_s=0.5)
        ran = bridge.result()
    assert ran.code == 0, ran.said


def test_carriers_keep_their_own_record_of_an_answered_call(
    carriers: Carriers, runs: dict[str, Future[Ran]]
) -> None:
    assert runs["010 on the second"].result().code == 0
    deadline = Deadline(5)
    rows: list[list[str]] = []
    while not rows and deadline.pause():
        if carriers.records.exists():
            written = csv.reader(carriers.records.read_text().splitlines())
            rows = [row for row in written if row[:3] == ["beta", ALICE.number, "+492214710010"]]
    assert [(row[7], 0.25 < float(row[6]) < 2) for row in rows] == [("ANSWERED", True)]


@pytest.mark.parametrize("number", ["", "+49;x", "123\nSetvar: A=b", "+49 30", "1" * 21])
def test_a_dialled_number_that_is_none_never_reaches_a_call_file(carriers: Carriers, number: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        carriers.originate(ALICE.number, number, talk_s=1)


def test_a_second_set_of_carriers_says_who_has_the_port(
    install: AsteriskInstall, carriers: Carriers, tmp_path: Path
) -> None:
    taken = carriers.carriers[0].port
    second = Carriers(
        install,
        tmp_path,
        carriers=[Carrier("alpha", taken)],
        users=[],
        bridge="127.0.0.1:9",
        app_port=free_ports(1)[0],
    )
    with pytest.raises(
        ConfigError, match=rf"UDP port {taken} is in use by process {carriers.switch.pid} \(asterisk\)"
    ):
        second.start()


class TestSwitch:
    @pytest.fixture
    def conf(self, tmp_path: Path) -> Path:
        conf = tmp_path / "conf"
        conf.mkdir()
        (conf / "modules.conf").write_text("[modules]\nautoload=no\nload => app_echo.so\n")
        (conf / "logger.conf").write_text("[logfiles]\nfull => notice,warning,error\n")
        return conf

    def test_it_comes_back_after_a_crash_and_a_restart(
        self, install: AsteriskInstall, conf: Path, tmp_path: Path
    ) -> None:
        run_dir = tmp_path / ("deep-" * 20)  # no Unix socket's path may be that long
        with Switch(install, run_dir, conf) as switch:
            first = switch.pid
            assert "app_echo.so" in switch.cli("module show like app_echo")
            assert switch.cpu_ms() > 0
            switch.kill9()
            assert not switch.running
            with pytest.raises(SwitchUnavailable, match="is not running"):
                switch.cli("core show version")
            switch.start()
            second = switch.pid
            switch.restart()
            assert len({first, second, switch.pid}) == 3
            assert "Asterisk" in switch.cli("core show version")
        assert not switch.running

    def test_a_configuration_it_refuses_is_told_with_the_end_of_the_log(
        self, install: AsteriskInstall, conf: Path, tmp_path: Path
    ) -> None:
        (conf / "modules.conf").write_text("[modules]\nautoload=no\nrequire => no_such_thing.so\n")
        with pytest.raises(SwitchUnavailable, match=r"(?s)ended with code.*no_such_thing"):
            Switch(install, tmp_path / "run", conf).start()
