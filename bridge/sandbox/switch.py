"""One Asterisk of the sandbox: configured from outside, every writable directory in a run directory."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bridge.errors import SwitchUnavailable
from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.process import Child, Deadline, tail

_CTL_PATH_MAX: Final = 100  # a Unix socket's path ends at 107 bytes; Asterisk appends to some of its own
_CLI_TIMEOUT_S: Final = 10.0
# Seen in the log or the answer of a command that came before the console listened
_NO_CONSOLE: Final = "Unable to connect to remote asterisk"

_ASTERISK_CONF: Final = """\
[directories]
astetcdir => {conf_dir}
astmoddir => {install.modules_dir}
astdatadir => {install.data_dir}
astvarlibdir => {run}/lib
astdbdir => {run}/db
astkeydir => {run}/keys
astagidir => {agi_dir}
astspooldir => {run}/spool
astlogdir => {run}/log
astcachedir => {run}/cache
astsbindir => {run}/sbin
astrundir => {ctl}

[options]
hideconnect = yes
nocolor = yes
documentation_language = en_US
"""
_WRITABLE: Final = (
    "lib",
    "db",
    "keys",
    "agi",
    "cache",
    "sbin",
    "log/cdr-custom",
    "log/cdr-csv",
    "spool/outgoing",
    "spool/tmp",
)


class Switch:
    """A real Asterisk, started and stopped at will. It ends when this process does.

    conf_dir  what would be /etc/asterisk, read where it is; its `logger.conf` should write the file `full`
    agi_dir   where `AGI(name)` without a URL looks for programs; an empty directory of ours unless given
    """

    def __init__(
        self, install: AsteriskInstall, run_dir: Path, conf_dir: Path, *, agi_dir: Path | None = None
    ) -> None:
        self.install, self.conf_dir = install, conf_dir.resolve()
        self.run_dir = run_dir.resolve()
        self._agi_dir = agi_dir.resolve() if agi_dir else self.run_dir / "agi"
        self._ctl_dir: Path | None = None
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._running_child().pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def log_dir(self) -> Path:
        """`full`, and `cdr-custom/` beneath."""
        return self.run_dir / "log"

    @property
    def spool_dir(self) -> Path:
        return self.run_dir / "spool"

    def start(self, deadline_s: float = 30.0) -> None:
        """Boot and return when every module is up.

        raises  SwitchUnavailable: it ended or was not ready in time; the message holds the end of its log
        """
        if self.running:
            return
        self._prepare()
        self._child = Child(
            (*self.install.argv, "-C", str(self._conf), "-f", "-n"),
            log=self.run_dir / "console.log",
            cwd=self.run_dir,
        )
        deadline = Deadline(deadline_s)
        while not self._booted(deadline):
            if not self._child.running:
                raise SwitchUnavailable(
                    f"Asterisk ended with code {self._child.exit_code} at its start:\n{self.log_tail()}"
                )
            if not deadline.pause():
                self._child.kill()
                raise SwitchUnavailable(f"Asterisk was not up after {deadline_s:g} s:\n{self.log_tail()}")

    def stop(self, deadline_s: float = 10.0) -> None:
        """End it in order: calls are hung up, records written. Safe to call when it is not running."""
        if self._child is not None:
            self._child.stop(deadline_s=deadline_s)
        self._drop_ctl_dir()

    def kill9(self) -> None:
        """End it as a crash would: no BYE, no record, files as they were."""
        self._running_child().kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def cli(self, command: str, timeout_s: float = _CLI_TIMEOUT_S) -> str:
        """What the console answers to `command`.

        raises  SwitchUnavailable: no answer
        """
        self._running_child()
        try:
            answer = self._console(command, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise SwitchUnavailable(f"Asterisk's console did not answer within {timeout_s:g} s") from error
        if answer.returncode != 0 or _NO_CONSOLE in answer.stdout:
            raise SwitchUnavailable(
                f"Asterisk's console refused {command!r}: {(answer.stdout + answer.stderr).strip()}"
            )
        return answer.stdout.rstrip("\n")

    def log_tail(self, lines: int = 20) -> str:
        """The end of the log `full`, and of what it said before there was a log."""
        return "\n".join(
            filter(None, (tail(self.run_dir / "console.log", lines), tail(self.log_dir / "full", lines)))
        )

    def cpu_ms(self) -> int:
        """Processor time since its start, user and system."""
        return self._running_child().cpu_ms()

    @property
    def _conf(self) -> Path:
        return self.run_dir / "asterisk.conf"

    def _running_child(self) -> Child:
        if self._child is None or not self._child.running:
            raise SwitchUnavailable(f"the Asterisk of {self.run_dir} is not running")
        return self._child

    def _prepare(self) -> None:
        """The run directory for one more start. A control socket left by a crash would look alive."""
        self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in _WRITABLE:
            (self.run_dir / name).mkdir(parents=True, exist_ok=True)
        if self._ctl_dir is None:
            self._ctl_dir = self.run_dir / "ctl"
            if len(bytes(self._ctl_dir / "asterisk.ctl")) > _CTL_PATH_MAX:
                self._ctl_dir = Path(tempfile.mkdtemp(prefix="callbridge-"))
        self._ctl_dir.mkdir(mode=0o700, exist_ok=True)
        (self._ctl_dir / "asterisk.ctl").unlink(missing_ok=True)
        self._conf.write_text(
            _ASTERISK_CONF.format(
                install=self.install,
                conf_dir=self.conf_dir,
                run=self.run_dir,
                agi_dir=self._agi_dir,
                ctl=self._ctl_dir,
            )
        )

    def _drop_ctl_dir(self) -> None:
        if self._ctl_dir is not None and self._ctl_dir.parent != self.run_dir:
            shutil.rmtree(self._ctl_dir, ignore_errors=True)
            self._ctl_dir = None

    def _booted(self, deadline: Deadline) -> bool:
        assert self._ctl_dir is not None
        if not (self._ctl_dir / "asterisk.ctl").exists():
            return False
        try:
            return "fully booted" in self._console("core waitfullybooted", deadline.left_s).stdout
        except subprocess.TimeoutExpired:
            return False

    def _console(self, command: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (*self.install.argv, "-C", str(self._conf), "-n", "-rx", command),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
