"""What a long step tells whoever waits: a bar at a terminal, one line a step anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

# (step, done, total), both in bytes unless `shown` was told otherwise; total 0: a step of unknown size;
# done == total: the step has ended
Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """For callers nobody watches."""


@contextmanager
def shown(stream: TextIO | None = None, counted: str = "") -> Iterator[Progress]:
    """Progress rendered for people on `stream`, or standard error: bars when it is a terminal, else lines.

    counted   what is counted, such as "calls", where it is not bytes
    """
    stream = stream or sys.stderr
    if not stream.isatty():
        yield _Lines(stream, counted)
        return
    size = MofNCompleteColumn() if counted else DownloadColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), size)
    with Bars(*columns, console=Console(file=stream), transient=True) as bars:
        yield _Bars(bars)


class _Lines:
    def __init__(self, stream: TextIO, counted: str) -> None:
        self._stream, self._counted, self._step = stream, counted, ""

    def __call__(self, step: str, _done: int, total: int) -> None:
        if step != self._step:
            amount = f"{total} {self._counted}" if self._counted else f"{total / 1e6:.0f} MB"
            size = f" ({amount})" if total else ""
            print(f"{step}{size}", file=self._stream, flush=True)
        self._step = step


class _Bars:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=total or None)
        self._bars.update(self._tasks[step], completed=done, total=total or None)
