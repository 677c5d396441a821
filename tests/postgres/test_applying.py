"""What the keeper says of a configuration it cannot put in place. The switch itself is in tests/asterisk/trunks."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from bridge.asterisk import conf
from bridge.asterisk.ami import Ami, AmiSettings
from bridge.asterisk.applying import NOT_VALID, NOT_WRITTEN, Applying
from bridge.config import Settings
from bridge.database import connection
from bridge.routing.store import load_peers
from tests.seeded import Seeded


def settings(conf_dir: Path) -> Settings:
    return Settings.model_validate({"ami": {"secret": "s" * 32}, "switch": {"conf_dir": str(conf_dir)}})


async def errors(house: Seeded) -> set[str | None]:
    async with connection(house.pool) as conn:
        return {peer.apply_error for peer in await load_peers(conn)}


async def test_where_nobody_has_rendered_nothing_is_written_and_it_is_said_once(
    house: Seeded, tmp_path: Path
) -> None:
    applying = Applying(settings(tmp_path), house.pool)
    never_up = Ami(AmiSettings("127.0.0.1", 1, "u", "s"))
    with capture_logs() as logs:
        await applying.apply(never_up)
        await applying.apply(never_up)
    assert await errors(house) == {NOT_WRITTEN}
    assert [one["log_level"] for one in logs] == ["error"]
    assert not (tmp_path / conf.FOLDER).exists()


async def test_what_would_not_be_valid_is_never_put_in_place(house: Seeded, tmp_path: Path) -> None:
    conf.write(tmp_path, {conf.PJSIP_CONF: "as it was\n"})
    await house.rows("UPDATE app SET name = 'alpha'")
    await Applying(settings(tmp_path), house.pool).apply(Ami(AmiSettings("127.0.0.1", 1, "u", "s")))
    assert await errors(house) == {NOT_VALID}
    assert (tmp_path / conf.FOLDER / conf.PJSIP_CONF).read_text() == "as it was\n"


async def test_a_change_of_trunk_or_app_is_heard(house: Seeded, database: str) -> None:
    heard: list[object] = []
    async with house.pool.acquire() as conn:
        await conn.add_listener("callbridge_config", lambda *notice: heard.append(notice[-1]))
        await house.rows("UPDATE app SET sip_host = '192.0.2.7'")
        await house.rows("UPDATE trunk SET port = 5080")
        trunk_id = await house.value("SELECT trunk_id FROM trunk LIMIT 1")
        await house.value("SELECT trunk_seen_v1($1, 'up')", trunk_id)
        await conn.execute("SELECT 1")
        await conn.reset()
    assert heard == ["app", "trunk", "trunk_state"]
