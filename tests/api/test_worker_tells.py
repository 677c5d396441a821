"""A whole worker: what happens is told to an endpoint and on the stream, and the worker stops when it is told to."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from httpx import AsyncClient

from bridge.api.auth import ALL, create_key
from bridge.app import Worker
from bridge.config import Settings
from bridge.database import connect
from bridge.partners.store import add_partner
from bridge.sandbox.ports import free_ports
from tests.api.receiver import receiving


def settings(dsn: str, folder: Path) -> Settings:
    agi, ami, api = free_ports(3)
    return Settings.model_validate(
        {
            "database": {"dsn": dsn},
            "agi": {"port": agi},
            "ami": {"port": ami},
            "api": {"port": api},
            "switch": {"record_dir": folder, "conf_dir": folder},
            "failsafe": {"snapshot": folder / "failsafe.json", "key_file": folder / "failsafe.key"},
            "events": {"allow_networks": ["127.0.0.0/8"]},
        }
    )


@pytest.fixture
def collector() -> Iterator[None]:
    """A worker sets the garbage collector for a process that is its own."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collector")
async def test_a_worker_tells_and_stops(dsn: str, tmp_path: Path) -> None:
    async with connect(dsn) as conn:
        partner_id: UUID = (await add_partner(conn, "Alpha", "EUR"))["partner_id"]
        key = await create_key(conn, "Alpha", partner_id=partner_id, scopes=[ALL])
    chosen = settings(dsn, tmp_path)
    worker = Worker(chosen)
    running = asyncio.create_task(worker.run())
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "one"}
    url = f"http://127.0.0.1:{chosen.api.port}"
    async with (
        asyncio.timeout(60),
        receiving() as receiver,
        AsyncClient(base_url=url, headers=headers) as http,
    ):
        await asyncio.wait(
            {running, asyncio.create_task(worker.ready.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        assert not running.done(), running.result()
        made = await http.post("/v1/webhooks", json={"url": receiver.url()})
        assert made.status_code == 201, made.text
        async with http.stream("GET", "/v1/events/stream") as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            await http.post(f"{made.headers['location']}/test")
            [got] = await receiver.until("/hook", 1)
            got.verified(made.json()["secret"])
            while await anext(lines) != "event: webhook.test":
                pass
            worker.stop()
            assert [line async for line in lines if line.startswith("id")] == []
        await running
