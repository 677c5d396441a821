"""The sandbox's own PostgreSQL: kept between starts, back after a crash, closed to other users."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from bridge.errors import ConfigError, StoreError, StoreUnavailable
from bridge.sandbox.postgres import EmbeddedPostgres


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "cluster") as server:
        yield server


def test_what_was_committed_survives_a_kill_and_a_restart_on_the_same_address(
    postgres: EmbeddedPostgres,
) -> None:
    address, first = postgres.dsn(), postgres.pid
    postgres.sql("CREATE TABLE kept (n int)")
    postgres.sql("INSERT INTO kept VALUES (7)")
    postgres.kill9()
    assert not postgres.running
    with pytest.raises(StoreUnavailable, match="not running"):
        postgres.cpu_ms()
    postgres.start()
    postgres.restart()
    assert postgres.pid != first
    assert postgres.dsn() == address
    assert postgres.sql("SELECT n FROM kept") == "7"
    assert postgres.cpu_ms() >= 0


async def test_the_socket_needs_no_password_and_tcp_the_right_one(postgres: EmbeddedPostgres) -> None:
    over_tcp = postgres.tcp_dsn()
    secret = over_tcp.split(":")[2].partition("@")[0]
    for dsn in (postgres.dsn(), over_tcp):
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SELECT current_user") == "postgres"
        await connection.close()
    for wrong in (over_tcp.replace(secret, "guess"), over_tcp.replace(f":{secret}", "")):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(wrong, passfile="/nonexistent")
    assert secret not in postgres.dsn()


def test_nothing_of_it_is_open_to_other_users(postgres: EmbeddedPostgres) -> None:
    private = (
        postgres.root,
        postgres.data_dir,
        postgres.root / "password",
        Path(postgres.dsn().split("host=")[1].split("&")[0]),
    )
    assert [path for path in private if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_a_database_is_made_from_a_template_and_dropped_under_open_connections(
    postgres: EmbeddedPostgres,
) -> None:
    postgres.create_database("pattern")
    postgres.sql("CREATE TABLE t AS SELECT 1 AS n", "pattern")
    postgres.create_database("copy_1", template="pattern")
    assert postgres.sql("SELECT n FROM t", "copy_1") == "1"
    with pytest.raises(StoreError, match="already exists"):
        postgres.create_database("copy_1")
    psql = (
        postgres.bin("psql"),
        "-X",
        "-d",
        postgres.dsn("copy_1"),
        "-c",
        "SELECT 'in'",
        "-c",
        "SELECT pg_sleep(60)",
    )
    with subprocess.Popen(psql, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as held:
        assert held.stdout and "in" in "".join(held.stdout.readline() for _ in range(3))
        postgres.drop_database("copy_1")
    assert held.returncode != 0
    postgres.drop_database("copy_1")


@pytest.mark.parametrize("name", ["", "Upper", 'a"; DROP DATABASE x; --', "1a", "a" * 64, "a\n"])
def test_a_name_that_is_none_is_refused(postgres: EmbeddedPostgres, name: str) -> None:
    with pytest.raises(ValueError, match="not a plain database name"):
        postgres.create_database(name)


def test_a_second_server_on_the_same_directory_or_port_is_told_who_is_there(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"served by process {postgres.pid}"):
        EmbeddedPostgres(postgres.root).start()
    with pytest.raises(
        ConfigError, match=rf"TCP port {postgres.port} is in use by process {postgres.pid} \(postgres\)"
    ):
        EmbeddedPostgres(tmp_path, port=postgres.port).start()


def test_the_lock_of_a_dead_server_does_not_stop_the_next_even_if_its_number_lives_on(tmp_path: Path) -> None:
    run_dir = tmp_path / ("deep-" * 20)  # no Unix socket's path may be that long
    server = EmbeddedPostgres(run_dir, durable=False)
    server.start()
    server.stop()
    with subprocess.Popen(("sleep", "60")) as somebody:
        (server.data_dir / "postmaster.pid").write_text(f"{somebody.pid}\n{server.data_dir}\n")
        with server:
            assert server.sql("SHOW fsync") == "off"
        somebody.kill()
    assert not server.running


def test_an_interrupted_first_start_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "data.unfinished").mkdir()
    (tmp_path / "data.unfinished" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(tmp_path, durable=False) as server:
        assert server.sql("SELECT 1") == "1"


def test_a_server_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"(?s)ended at its start.*no_such_setting"):
        EmbeddedPostgres(tmp_path, durable=False, settings={"no_such_setting": "1"}).start()
