"""Answers kept for whoever asks again are forgotten after a day, by the keeper's housekeeping."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from bridge.asterisk import keeper as module
from bridge.asterisk.ami import Ami
from bridge.asterisk.keeper import Keeper
from bridge.calls.snapshot import make_key
from bridge.config import Failsafe, Settings
from tests.seeded import Seeded


def no_ami(_: object, __: object) -> Ami:
    raise AssertionError("no manager link is needed for this")


@pytest.mark.parametrize("rows", [0, 6, 7])
async def test_what_is_older_than_a_day_goes(
    house: Seeded, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches, whatever fits into the last."""
    monkeypatch.setattr(module, "FORGET_ROWS", 3)
    for count, age in ((rows, "24 hours 1 minute"), (2, "23 hours 59 minutes")):
        await house.rows(
            "INSERT INTO idempotency (owner_id, key, fingerprint, made_at) "
            "SELECT $1, $2 || i, '', now() - $2::text::interval FROM generate_series(1, $3) i",
            UUID(int=0),
            age,
            count,
        )
    settings = Settings(failsafe=Failsafe(key_file=tmp_path / "key"))
    make_key(settings.failsafe.key_file)
    keeper = Keeper(settings, house.pool, "", house.store, house.endings, lambda: house.book, no_ami)
    await keeper._housekeeping()
    assert await house.value("SELECT count(*) FROM idempotency") == 2
    assert await house.value("SELECT count(*) FROM idempotency WHERE key LIKE '24%'") == 0
