"""Calls offered at a fixed rate: SIPp plays callers and carrier, and what both saw is read from their statistics."""

from __future__ import annotations

import csv
import importlib.resources
import math
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.errors import BridgeError
from bridge.sandbox.ports import LOOPBACK, port_in_use
from bridge.sandbox.process import Child, Deadline, tail

TALK_S: Final = 0.5  # as conf/bench/caller.xml has it
RINGING_MS_MAX: Final = 250
IN_TIME: Final = 0.95  # of the calls end before the time is over in which all are offered
GRACE_S: Final = 12.0  # a call that has not come to its end by then has failed
_RAN: Final = (0, 1)  # SIPp's exit codes for a run that made its calls; 1: not all of them well


@dataclass(frozen=True, slots=True)
class Traffic:
    """What became of the calls offered in one run.

    retransmissions  of both sides
    ringing_ms       INVITE to 180, for each call that came so far, in steps of 4 ms
    ended_s          when each completed call ended, the first at 0
    """

    calls: int
    rate: float
    completed: int
    retransmissions: int
    ringing_ms: tuple[float, ...]
    ended_s: tuple[float, ...]

    @property
    def fault(self) -> str:
        """Why this run is not clean; empty when it is."""
        ringing_ms, behind_s = (
            quantile(self.ringing_ms, 0.99),
            quantile(self.ended_s, IN_TIME) - self.calls / self.rate,
        )
        if self.completed < self.calls:
            return f"{self.calls - self.completed} calls failed"
        if self.retransmissions:
            return f"{self.retransmissions} retransmissions"
        if ringing_ms >= RINGING_MS_MAX:
            return f"p99 INVITE to 180 {ringing_ms:.0f} ms"
        if behind_s > 0:
            return f"calls ended {behind_s:.1f} s too late to keep up"
        return ""


class Sipp:
    """Both ends of the calls. One run at a time.

    program  the words that start SIPp
    """

    def __init__(self, program: Sequence[str], root: Path, *, switch: str, carrier_port: int) -> None:
        self._program, self._root = tuple(program), root
        self._switch, self._carrier_port = switch, carrier_port
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in (importlib.resources.files("bridge.sandbox") / "conf" / "bench").iterdir():
            (self._root / file.name).write_text(file.read_text())

    def callers(self, numbers: Sequence[str], b_number: str) -> None:
        """Who calls whom: the callers take turns."""
        lines = ["SEQUENTIAL", *(f"{number};{b_number}" for number in numbers)]
        (self._root / "callers.csv").write_text("\n".join(lines) + "\n")

    def offer(self, rate: float, calls: int, *, port: int) -> Traffic:
        """Place `calls` calls, `rate` a second, from `port`, and return when all have ended one way or the other.

        raises  BridgeError: SIPp did not do its work; the message holds the end of its output
        """
        carrier = self._start("carrier", self._carrier_port, "-deadcall_wait", "0")
        deadline = Deadline(GRACE_S)
        while not port_in_use(self._carrier_port):
            if not carrier.running or not deadline.pause():
                raise BridgeError(f"SIPp's carrier did not start:\n{tail(carrier.log)}")
        limit_s = calls / rate + TALK_S + GRACE_S
        caller = self._start(
            "caller", port, self._switch, "-inf", "callers.csv", "-r", str(rate), "-m", str(calls), "-l", "100000",
            "-recv_timeout", str(round(GRACE_S * 1000)), "-timeout", str(math.ceil(limit_s)),
            "-trace_rtt", "-rtt_freq", "1",
        )  # fmt: skip
        code = caller.wait(limit_s + GRACE_S)
        caller.kill()
        carrier.stop(signal.SIGUSR1, deadline_s=3.0)
        if code not in _RAN:
            raise BridgeError(f"SIPp ended with code {code}:\n{tail(caller.log)}")
        return self._traffic(caller.pid, calls, rate)

    def _start(self, role: str, port: int, *words: str) -> Child:
        run = self._root / role
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        for name in (f"{role}.xml", "callers.csv"):
            shutil.copy(self._root / name, run)
        argv = (
            *self._program, *words, "-sf", f"{role}.xml", "-i", LOOPBACK, "-p", str(port), "-nostdin",
            "-trace_stat", "-stf", "statistics.csv", "-fd", "1",
        )  # fmt: skip
        return Child(argv, log=run / "output.log", cwd=run)

    def _traffic(self, pid: int, calls: int, rate: float) -> Traffic:
        caller, carrier = self._statistics("caller"), self._statistics("carrier")
        ringing_ms, ended_ms = [], []
        with (self._root / "caller" / f"caller_{pid}_rtt.csv").open() as file:
            for row in csv.DictReader(file, delimiter=";"):
                if row["rtd_no"] == "ringing":
                    ringing_ms.append(float(row["response_time_ms"]))
                else:
                    ended_ms.append(float(row["Date_ms"]))
        return Traffic(
            calls=calls,
            rate=rate,
            completed=int(caller["SuccessfulCall(C)"]),
            retransmissions=int(caller["Retransmissions(C)"]) + int(carrier["Retransmissions(C)"]),
            ringing_ms=tuple(ringing_ms),
            ended_s=tuple((ms - min(ended_ms)) / 1000 for ms in ended_ms),
        )

    def _statistics(self, role: str) -> dict[str, str]:
        """The last line of what SIPp counted."""
        with (self._root / role / "statistics.csv").open() as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        if not rows:
            raise BridgeError(f"SIPp's {role} left no statistics:\n{tail(self._root / role / 'output.log')}")
        return rows[-1]


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that `part` of them do not exceed; infinite when there are none."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)] if values else math.inf
