"""Runs the command line in processes that are forked with all modules read, so that a kill meets work and no imports.

One line of JSON a process on standard input: its arguments, after how many milliseconds it is killed (null: never), and
how many bytes a file may have (null: any number). One line back: its exit status (-9: it was killed), and what it said.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bridge.cli.main import main
from bridge.exports import as_csv, as_jsonl, as_parquet, running
from bridge.telling import export

READ: Final = (as_csv, as_jsonl, as_parquet, running, export)  # beforehand: what a run reads when it needs it
FIX_S = 60.0  # a process that nobody kills ends by itself


class Forks:
    """Processes of `callbridge`, one after the other or at the same time, with this environment."""

    def __init__(self, **environ: str) -> None:
        self._environ = os.environ | environ

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.killing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
        return self

    def run(
        self, *words: str, kill_ms: float | None = None, file_bytes: int | None = None
    ) -> tuple[int, str]:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps([words, kill_ms, file_bytes]) + "\n")
        self._server.stdin.flush()
        status, said = json.loads(self._server.stdout.readline())
        return status, said

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(FIX_S)


def _serve() -> None:
    for line in sys.stdin:
        words, kill_ms, file_bytes = json.loads(line)
        with tempfile.TemporaryFile() as said:
            pid = os.fork()
            if pid == 0:
                _child(words, file_bytes, said)
            handle = os.pidfd_open(pid)
            ended, _, _ = select.select([handle], [], [], FIX_S if kill_ms is None else kill_ms / 1000)
            if not ended:
                os.kill(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.close(handle)
            said.seek(0)
            sys.stdout.write(json.dumps([status, said.read().decode()]) + "\n")
            sys.stdout.flush()


def _child(words: list[str], file_bytes: int | None, said: Any) -> None:
    os.dup2(said.fileno(), 1)
    os.dup2(said.fileno(), 2)
    sys.argv = ["callbridge", *words]
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    status: object = 1
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def leftovers(*folders: Path) -> list[Path]:
    """Files that are not whole."""
    return [path for folder in folders for path in folder.rglob("*.part*")]


if __name__ == "__main__":
    _serve()
