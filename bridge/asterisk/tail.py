"""Following a file the switch appends to: whole lines, never twice, across rotation and restarts.

The position is (inode, offset) and is kept in the database by whoever uses the lines, in the same transaction. A file
that was renamed away is read to its end before the new one is begun, wherever in the folder it went.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Final

READ_BYTES_MAX: Final = 256 * 1024
LINE_BYTES_MAX: Final = 8192


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file has been read. inode 0: not at all yet."""

    inode: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One whole line, without its end, and the position behind it."""

    text: str
    behind: Position


class Tail:
    """Reads one growing file. `position` is behind what was last taken; moving it is the caller's decision."""

    def __init__(self, path: Path, position: Position = Position()) -> None:
        self.path, self.position = path, position
        self._fd: int | None = None

    def read(self) -> list[Line]:
        """The next whole lines; none when there is nothing new."""
        if self._fd is None and not self._open():
            return []
        assert self._fd is not None
        chunk = os.pread(self._fd, READ_BYTES_MAX, self.position.offset)
        if not chunk:
            self._follow_rotation()
            return []
        if b"\n" not in chunk:
            if len(chunk) < LINE_BYTES_MAX:
                return []  # still being written
            chunk += b"\n"  # no line of ours is that long: pass over what is there
        lines, offset = [], self.position.offset
        for raw in chunk[: chunk.rfind(b"\n") + 1].splitlines(keepends=True):
            offset += len(raw)
            lines.append(
                Line(raw.decode("utf-8", "replace").rstrip("\r\n"), Position(self.position.inode, offset))
            )
        return lines

    def pending(self) -> bool:
        """Whether something was written behind the position. One stat; cheap enough to ask often."""
        try:
            found = self.path.stat() if self._fd is None else os.fstat(self._fd)
        except FileNotFoundError:
            return False
        return found.st_size > self.position.offset or found.st_nlink == 0 or self._renamed()

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> bool:
        """Open the file the position speaks of, under whatever name it has now, else the current one."""
        for path in self._candidates():
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            found = os.fstat(fd)
            if S_ISREG(found.st_mode) and self.position.inode in (0, found.st_ino):
                self._fd = fd
                self.position = Position(found.st_ino, self.position.offset if self.position.inode else 0)
                return True
            os.close(fd)
        if self.position.inode and self.path.exists():
            self.position = Position()  # what we were reading is gone for good: go on with what is there
            return self._open()
        return False

    def _candidates(self) -> list[Path]:
        if not self.position.inode:
            return [self.path]
        return [self.path, *sorted(self.path.parent.glob(self.path.name + "?*"))]

    def _renamed(self) -> bool:
        try:
            return self.path.stat().st_ino != self.position.inode
        except FileNotFoundError:
            return False

    def _follow_rotation(self) -> None:
        """At the end of a file that is no longer the current one: go on with the current one."""
        assert self._fd is not None
        if not self._renamed() or os.fstat(self._fd).st_size > self.position.offset:
            return
        self.close()
        self.position = Position()
