"""The bridge as it is deployed, on loopback: a worker of its own process, without a switch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bridge.config import ENV_PREFIX
from bridge.sandbox.ports import free_ports
from bridge.sandbox.process import Child, Deadline, tail

READY_S = 20.0


@contextmanager
def served(dsn: str, folder: Path, **settings: str) -> Iterator[str]:
    """The API's address. settings: e.g. api__port="8080"."""
    agi, ami, api = free_ports(3)
    given = {
        "database__dsn": dsn,
        "agi__port": str(agi),
        "ami__port": str(ami),
        "api__port": str(api),
        "switch__record_dir": str(folder),
        "switch__conf_dir": str(folder / "etc"),
        "failsafe__snapshot": str(folder / "failsafe.json"),
        "failsafe__key_file": str(folder / "failsafe.key"),
        **settings,
    }
    env = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    worker = Child(
        (sys.executable, "-m", "bridge", "serve"),
        log=folder / "bridge.log",
        env={**env, **{ENV_PREFIX + name.upper(): value for name, value in given.items()}},
        cwd=folder,
    )
    url = f"http://127.0.0.1:{api}"
    try:
        deadline = Deadline(READY_S)
        while not _ready(url):
            assert worker.running and deadline.pause(), tail(folder / "bridge.log", 20)
        yield url
    finally:
        worker.stop()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
