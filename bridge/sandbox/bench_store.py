"""Figure `admit_settle`: calls a second, admitted over FastAGI and charged from the journal, every commit durable, next
to `pgbench -N` on the same server. The bench plays the switch, so no switch takes part.
"""

from __future__ import annotations

import os
import re
import select
import socket
import statistics
import subprocess
import time
from itertools import count, cycle
from pathlib import Path
from typing import Final

from bridge.asterisk.channel_vars import ANSWER
from bridge.asterisk.conf import JOURNAL
from bridge.asterisk.records import parse_journal
from bridge.errors import BridgeError
from bridge.sandbox.bench_calls import SUBSCRIBERS
from bridge.sandbox.bench_stack import B_NUMBER, BenchStack, bench_stack, now, say
from bridge.sandbox.ports import LOOPBACK
from bridge.sandbox.process import Deadline
from bridge.sandbox.seed import APP

CLIENTS: Final = (32, 8)
GOAL: Final = 0.5
PGBENCH: Final = "pgbench"
TALK_S: Final = 0.5
DRAIN_S: Final = 10.0
_TPS: Final = re.compile(r"^tps = ([0-9.]+) \(without initial", re.MULTILINE)
_TOKEN: Final = re.compile(rb'\bdial\|(?:[^|"]*\|){4}([^|"]+)')  # the sixth field of channel_vars.FIELDS

_HEADER: Final = """\
agi_network: yes
agi_network_script: authorise
agi_request: agi://127.0.0.1/authorise
agi_channel: {channel}
agi_language: en
agi_type: PJSIP
agi_uniqueid: {uniqueid}
agi_version: 22.10.1
agi_callerid: {a_number}
agi_calleridname: unknown
agi_callingpres: 0
agi_callingani2: 0
agi_callington: 0
agi_callingtns: 0
agi_dnid: {b_number}
agi_rdnis: unknown
agi_context: call
agi_extension: s
agi_priority: 2
agi_enhanced: 0.0
agi_accountcode: bench
agi_threadid: 140014177584832
agi_arg_1: {uniqueid}@bench

"""


class Admission:
    """One channel that asks whether it may call. Its header goes out in one piece: playing the switch must be cheap."""

    def __init__(self, port: int, channel: str, header: str) -> None:
        self.channel, self.token = channel, ""
        self.sock = socket.create_connection((LOOPBACK, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.sock.send(header.encode())

    def hear(self) -> bool:
        """Take the answer; True when the session is over."""
        try:
            while said := self.sock.recv(4096):
                if found := _TOKEN.search(said):
                    self.token = found[1].decode()
                self.sock.send(b"200 result=1\n")
        except BlockingIOError:
            return False
        return True


class Switchboard:
    """Plays the switch: asks for calls, and writes their ends into the journal."""

    def __init__(self, port: int, journal: Path, numbers: list[str]) -> None:
        self._port, self._callers, self._serial = port, cycle(numbers), count()
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._life = time.time_ns()

    def close(self) -> None:
        os.close(self._journal)

    def play(self, clients: int, seconds: float) -> int:
        """Keep so many sessions going for so long. Returns how many calls were made and ended.

        raises  BridgeError: one was refused or not answered
        """
        until = Deadline(seconds)
        last = Deadline(seconds + DRAIN_S)
        waiting = select.epoll()
        open_now: dict[int, Admission] = {}
        calls = 0
        try:
            while until.left_s or open_now:
                while until.left_s and len(open_now) < clients:
                    asking = self._ask()
                    open_now[asking.sock.fileno()] = asking
                    waiting.register(asking.sock.fileno(), select.EPOLLIN)
                if not last.left_s:
                    raise BridgeError(f"{len(open_now)} admissions were not answered")
                for fd, _ in waiting.poll(last.left_s):
                    if open_now[fd].hear():
                        waiting.unregister(fd)
                        self._end(open_now.pop(fd))
                        calls += 1
        finally:
            waiting.close()
            for unanswered in open_now.values():
                unanswered.sock.close()
        return calls

    def _ask(self) -> Admission:
        serial = next(self._serial)
        channel = f"PJSIP/{APP}-{serial:08x}"
        header = _HEADER.format(
            channel=channel,
            uniqueid=f"{self._life}.{serial}",
            a_number=next(self._callers),
            b_number=B_NUMBER,
        )
        return Admission(self._port, channel, header)

    def _end(self, call: Admission) -> None:
        call.sock.close()
        if not call.token:
            raise BridgeError(f"a call was refused; the answer held no token in {ANSWER}")
        ended = time.time()
        line = (
            f"ended|{call.token}|{ended - TALK_S:.6f}|{ended:.6f}|{ended:.6f}|ANSWER|16|{call.channel}|{call.channel}"
            f"|||{TALK_S * 1000:.0f}|{TALK_S * 1000:.0f}"
        )
        if parse_journal(line) is None:
            raise BridgeError("the bench writes another journal than this version reads")
        os.write(self._journal, f"{line}\n".encode())


def admit_settle(*, smoke: bool, workers: int = 1) -> list[dict[str, object]]:
    """A figure for each number of clients, and one with bundles. value: calls/s from question to booking."""
    pairs, measured_s, scale = (1, 1.0, 1) if smoke else (3, 5.0, 10)
    subscribers = 50 if smoke else SUBSCRIBERS
    found = []
    for suffix, bundled, clients_tried in (("", False, CLIENTS), ("_bundled", True, CLIENTS[:1])):
        with bench_stack(subscribers=subscribers, workers=workers, bundled=bundled) as bench:
            bench.stack.postgres.create_database(PGBENCH)
            _pgbench(bench, "-i", "-q", "-s", str(scale))
            if not smoke:
                _calls_per_s(bench, CLIENTS[0], measured_s)  # so that ANALYZE has something to see
                bench.analyze()
            found += [
                _figure(bench, suffix, clients, pairs, measured_s, workers)
                for clients in (clients_tried[:1] if smoke else clients_tried)
            ]
    return found


def _figure(
    bench: BenchStack, suffix: str, clients: int, pairs: int, measured_s: float, workers: int
) -> dict[str, object]:
    turns = []
    for _ in range(pairs):
        ours, calls = _calls_per_s(bench, clients, measured_s)
        theirs = _tps(bench, clients, measured_s)
        say(f"admit_settle: {clients} clients: {ours:.0f} calls/s, pgbench {theirs:.0f} tps")
        turns.append((ours, theirs, calls))
    return {
        "name": f"admit_settle{suffix}" if clients == CLIENTS[0] else f"admit_settle{suffix}_{clients}",
        "value": round(statistics.median(ours for ours, _, _ in turns)),
        "unit": "calls/s",
        "baseline": f"pgbench -N -M prepared, {clients} clients, tps",
        "baseline_value": round(statistics.median(theirs for _, theirs, _ in turns)),
        "ratio": round(statistics.median(ours / theirs for ours, theirs, _ in turns), 3),
        "goal": GOAL if clients == CLIENTS[0] else None,
        "n": sum(calls for _, _, calls in turns),
        "clients": clients,
        "workers": workers,
    }


def _calls_per_s(bench: BenchStack, clients: int, measured_s: float) -> tuple[float, int]:
    """The rate, and how many calls. A new bridge each time; its first half second is left out."""
    bench.begin_without_switch()
    settings = bench.stack.settings
    board = Switchboard(settings.agi.port, settings.switch.record_dir / JOURNAL, bench.numbers)
    try:
        _played_to_the_end(bench, board, clients, 0.5)
        begun = time.monotonic()
        calls = _played_to_the_end(bench, board, clients, measured_s)
        return calls / (time.monotonic() - begun), calls
    finally:
        board.close()


def _played_to_the_end(bench: BenchStack, board: Switchboard, clients: int, seconds: float) -> int:
    since = now()
    calls = board.play(clients, seconds)
    if not bench.settled(since, witnessed=False):
        raise BridgeError("the calls were not charged in time")
    return calls


def _tps(bench: BenchStack, clients: int, measured_s: float) -> float:
    """The bridge is idle meanwhile."""
    said = _pgbench(
        bench, "-n", "-N", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(round(measured_s))
    )
    found = _TPS.search(said)
    if found is None:
        raise BridgeError(f"pgbench said no tps:\n{said}")
    return float(found[1])


def _pgbench(bench: BenchStack, *words: str) -> str:
    postgres = bench.stack.postgres
    run = subprocess.run(
        (str(postgres.bin("pgbench")), *words, postgres.dsn(PGBENCH)),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if run.returncode != 0:
        raise BridgeError(f"pgbench ended with code {run.returncode}:\n{run.stderr.strip()}")
    return run.stdout
