"""The whole house on one machine: Postgres, the switch, the bridge, and whatever stands for carriers and app users."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from bridge import config
from bridge.asterisk import conf
from bridge.asterisk.conf_store import ensure_switch_login, rendered
from bridge.asterisk.conf_users import ROLE_HEAD, switch_login
from bridge.database import Connection, connect
from bridge.errors import BridgeError
from bridge.migrate import migrate
from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.ports import LOOPBACK, free_ports
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.process import Child, Deadline, tail
from bridge.sandbox.switch import Switch

READY_S: Final = 20.0
DATABASE: Final = "callbridge"

T = TypeVar("T")
Seed = Callable[[Connection], Awaitable[T]]


class Stack:
    """One bridge with its switch and database below `root`. Everything ends with this process.

    overrides   settings by section, e.g. {"calls": {"slice_s": 4}}
    postgres    a running one to share; its database `database` is made if need be
    """

    def __init__(
        self,
        root: Path,
        install: AsteriskInstall,
        postgres: EmbeddedPostgres,
        *,
        database: str = DATABASE,
        workers: int = 1,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.root, self.postgres, self.database, self.workers = root.resolve(), postgres, database, workers
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.conf_dir = self.root / "etc"
        self.switch = Switch(install, self.root / "switch", self.conf_dir)
        self.toml = self.root / "callbridge.toml"
        self._bridge: Child | None = None
        self._write_settings(overrides or {})
        self.settings = config.load(self.toml, {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def bridge_log(self) -> Path:
        return self.root / "bridge.log"

    @property
    def dsn(self) -> str:
        return self.postgres.dsn(self.database)

    @property
    def api_url(self) -> str:
        return f"http://{self.settings.api.host}:{self.settings.api.port}"

    @property
    def sip_address(self) -> str:
        return f"{self.settings.switch.sip_host}:{self.settings.switch.sip_port}"

    def database_call(self, work: Seed[T]) -> T:
        """Run `work` on a connection of its own and return what it returns."""
        return ask(self.dsn, work)

    def prepare(self, seed: Seed[Any] | None = None) -> bool:
        """Migrate the database and seed it when it is new. Returns whether it was."""
        new = self.database not in self.postgres.sql("SELECT datname FROM pg_database").split()
        if new:
            self.postgres.create_database(self.database)

        async def work(conn: Connection) -> None:
            await migrate(conn)
            await ensure_switch_login(conn, self.settings)
            if new and seed is not None:
                async with conn.transaction():
                    await seed(conn)

        self.database_call(work)
        return new

    def render(self) -> list[str]:
        """Write the switch's configuration from settings and database. Returns the generated files that changed."""
        conf.install(self.conf_dir)
        self.settings.messages.folder.mkdir(parents=True, exist_ok=True)
        files = self.database_call(lambda conn: rendered(conn, self.settings))
        return conf.write(self.conf_dir, files)

    def start(self) -> None:
        """Switch and bridge, ready for calls."""
        self.render()
        self.switch.start()
        self.start_bridge()

    def start_bridge(self, *, wait: bool = True) -> None:
        """Start the workers; with `wait`, return when they take calls and the manager link is up."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(config.ENV_PREFIX)}
        self._bridge = Child(
            (sys.executable, "-m", "bridge", "serve", "--workers", str(self.workers)),
            log=self.bridge_log,
            env={**env, "CALLBRIDGE_CONFIG": str(self.toml)},
            cwd=self.root,
        )
        if wait:
            self.wait_ready()

    def wait_ready(self, deadline_s: float = READY_S) -> None:
        """Return when calls are taken and some worker keeps the switch.

        raises   BridgeError with the end of the bridge's log
        """
        deadline = Deadline(deadline_s)
        while not self._ready():
            ended = self._bridge is not None and not self._bridge.running
            if ended or not deadline.pause():
                raise BridgeError(f"the bridge is not ready:\n{tail(self.bridge_log, 20)}")

    def kill_bridge(self) -> None:
        """SIGKILL, workers included."""
        assert self._bridge is not None
        self._bridge.kill()

    def stop_bridge(self) -> None:
        if self._bridge is not None:
            self._bridge.stop()

    @property
    def bridge_pid(self) -> int:
        """The process that was started; with several workers their supervisor."""
        assert self._bridge is not None
        return self._bridge.pid

    def bridge_cpu_ms(self) -> int:
        assert self._bridge is not None
        return self._bridge.cpu_ms()

    def stop(self) -> None:
        """Bridge and switch; the database belongs to whoever gave it."""
        self.stop_bridge()
        self.switch.stop()

    def _switch_dsn(self, known: config.Settings | None) -> str:
        """A login of its own for each database, over TCP, as an operator's switch has it."""
        login = known and switch_login(known)
        password = login.password if login else secrets.token_hex(24)
        return f"postgresql://{ROLE_HEAD}{self.database}:{password}@{LOOPBACK}:{self.postgres.port}/{self.database}"

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.api_url}/readyz", timeout=2) as answer:  # noqa: S310  our own loopback
                ready = json.load(answer)
        except (OSError, urllib.error.URLError, ValueError):
            return False
        return bool(ready["ready"]) and ready["ami"] in ("up", "kept by another worker")

    def _write_settings(self, overrides: Mapping[str, Mapping[str, Any]]) -> None:
        agi, ami, api, sip, ws = free_ports(5)
        known = config.load(self.toml, {}) if self.toml.exists() else None
        values: dict[str, dict[str, Any]] = {
            "database": {"dsn": self.dsn},
            "agi": {"port": agi},
            "ami": {
                "port": ami,
                "secret": known.ami.secret.get_secret_value() if known else secrets.token_hex(24),
            },
            "api": {"port": api},
            "switch": {
                "name": "sandbox",
                "conf_dir": str(self.conf_dir),
                "record_dir": str(self.switch.log_dir / "cdr-custom"),
                "sip_port": sip,
            },
            "users": {"switch_dsn": self._switch_dsn(known), "ws_port": ws},
            "failsafe": {
                "snapshot": str(self.root / "failsafe.json"),
                "key_file": str(self.root / "failsafe.key"),
                "program": str(Path(sys.executable).with_name("callbridge-failsafe")),
            },
            "messages": {"folder": str(self.switch.run_dir / "messages")},
            "exports": {"folder": str(self.switch.run_dir / "exports"), "lag_s": 5},
            "events": {"allow_networks": ["127.0.0.0/8"]},  # whoever plays with it has the receiver here, too
            "log": {"format": "json"},
        }
        for section, keys in overrides.items():
            values.setdefault(section, {}).update(keys)
        lines = []
        for section, keys in values.items():
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), ""]
        self.toml.touch(mode=0o600)
        self.toml.write_text("\n".join(lines))


def ask(dsn: str, work: Seed[T]) -> T:
    """Run `work` on a connection of its own, from code that is not async, and return what it returns."""

    async def run() -> T:
        async with connect(dsn) as conn:
            return await work(conn)

    return asyncio.run(run())
