"""The command line, as a test asks it: in this process, on the test's database."""

from __future__ import annotations

import json
from typing import Any, Protocol

import pytest
from typer.testing import CliRunner

from bridge.cli.main import app
from bridge.observe import log


class Callbridge(Protocol):
    def __call__(self, *words: str, text: bool = False) -> Any: ...


def command(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Callbridge:
    """What runs a command and returns what it told; without `text` its JSON."""
    # The log would go on to the runner's stream after that is closed.
    monkeypatch.setattr(log, "configure", lambda _: None)
    monkeypatch.setenv("CALLBRIDGE__DATABASE__DSN", dsn)

    def run(*words: str, text: bool = False) -> Any:
        ran = CliRunner().invoke(app, [*words, *([] if text else ["--json"])], prog_name="callbridge")
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        assert ran.exit_code == 0, ran.output
        return ran.stdout if text else json.loads(ran.stdout)

    return run
