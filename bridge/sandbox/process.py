"""One program of the sandbox, run so that it cannot outlive us.

A child gets a session of its own (a Ctrl-C at the terminal is ours to pass on) and a *leash*: a shell of a
few hundred kilobytes that waits on a pipe from this process. When this process ends, however it ends, the
pipe closes and the leash signals the child's process group. PR_SET_PDEATHSIG would not do: it follows the
starting *thread*, and executor threads come and go.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

TICK_S: Final = 0.02
_LEASH: Final = 'read -r _; exec 2>/dev/null; kill -s "$2" -- "-$1"'
_DEAD_S: Final = 5.0  # after SIGKILL; longer only in an uninterruptible wait for a disk
_MS_PER_CLOCK_TICK: Final = 1000 / os.sysconf("SC_CLK_TCK")


class Child:
    """A running program. Its output goes to `log`, appended.

    last_signal  what its process group gets when this process dies: SIGKILL, or something gentler for a
                 program that takes its own children with it
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        last_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        self._leash = subprocess.Popen(
            ("sh", "-c", _LEASH, "leash", str(self.pid), last_signal.name.removeprefix("SIG")),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.log = log

    @property
    def pid(self) -> int:
        """Also the id of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        code = self._process.poll()
        if code is not None:
            self._unleash()
        return code

    @property
    def running(self) -> bool:
        return self.exit_code is None

    def send(self, number: signal.Signals) -> None:
        """Signal the program alone; nothing happens when it has ended."""
        self._process.send_signal(number)

    def wait(self, deadline_s: float) -> int | None:
        """The exit code, or None when it still runs after `deadline_s`."""
        try:
            self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            return None
        return self.exit_code

    def stop(self, number: signal.Signals = signal.SIGTERM, deadline_s: float = 10.0) -> None:
        """Ask with a signal, insist with SIGKILL after the deadline. Safe to call twice."""
        if self.running:
            self.send(number)
        if self.wait(deadline_s) is None:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the program and all that came from it, as a power cut would. Returns when none is left."""
        # The parent first: it is not to replace a child, nor to clean up behind it.
        family = [self.pid, *descendants(self.pid)] if self.running else []
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        self._unleash()
        deadline = Deadline(_DEAD_S)
        while any(_lives(pid) for pid in family) and deadline.pause():
            pass

    def cpu_ms(self) -> int:
        """Processor time, user and system, of it and all it started, ended children included; 10 ms steps."""
        return sum(_cpu_ms(pid) for pid in (self.pid, *descendants(self.pid)))

    def _unleash(self) -> None:
        """Let go without a signal: the process group may belong to somebody else by tomorrow."""
        if self._leash.returncode is None:
            self._leash.kill()
            self._leash.wait()
            assert self._leash.stdin is not None
            self._leash.stdin.close()


def descendants(pid: int) -> list[int]:
    """Live children of a process, and theirs, oldest generation first; [] when it is gone."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in listing.read_text().split()]
        except OSError:  # the thread ended while we looked
            continue
    return found + [grandchild for child in found for grandchild in descendants(child)]


def _lives(pid: int) -> bool:
    """Whether it still holds anything: one that has ended and waits for its parent to notice does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _cpu_ms(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # proc(5): fields 14-17 are utime, stime, cutime, cstime; the name in field 2 may hold blanks and brackets
    ticks = sum(int(field) for field in stat.rpartition(")")[2].split()[11:15])
    return round(ticks * _MS_PER_CLOCK_TICK)


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log for an error message; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200 * lines))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


class Deadline:
    """A moment after which waiting is a failure."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        return max(0.0, self._at - time.monotonic())

    def pause(self) -> bool:
        """Wait one tick for something that sends no event. False: the time is up."""
        time.sleep(min(TICK_S, self.left_s))
        return self.left_s > 0
