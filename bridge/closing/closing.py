"""A month that is being closed: what was asked for, what was done, what was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.closing.agreement import Agreement, differing
from bridge.config import Settings
from bridge.errors import ConfigError
from bridge.exports.sequence import Progress


@dataclass(slots=True)
class Closing:
    """out      where documents, reports and the summary are laid
    done       what each step did, in words, by its name
    problems   what is wrong beside sums that differ
    notes      what could not be laid beside
    """

    settings: Settings
    month: str
    author: str
    out: Path
    from_at: datetime
    to_at: datetime
    now: datetime
    progress: Progress
    done: dict[str, str] = field(default_factory=dict)
    agreements: list[Agreement] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def numbered_until(self) -> datetime:
        return self.now - timedelta(seconds=self.settings.exports.lag_s)

    @property
    def sound(self) -> bool:
        return not self.problems and not differing(self.agreements)

    def to_json(self) -> dict[str, Any]:
        return {
            "month": self.month,
            "from": self.from_at.isoformat(),
            "to": self.to_at.isoformat(),
            "author": self.author,
            "agrees": self.sound,
            "steps": self.done,
            "totals": [one.to_json() for one in self.agreements],
            "problems": [*self.problems, *(one.differs() for one in differing(self.agreements))],
            "notes": self.notes,
        }

    def lay(self, name: str, content: bytes) -> None:
        """Write a file into the folder, whole or not at all. Blocks. raises ConfigError: it cannot be written"""
        path = self.out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_bytes(content)
            part.replace(path)
        except OSError as error:
            fix = "Name a folder that we may write in: --out"
            raise ConfigError(
                str(self.out), f"nothing can be written there ({error.strerror})", fix
            ) from error
