"""The API on real Postgres: an operator and two partners with keys of their own, and the house behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from pydantic import SecretStr

from bridge import config
from bridge.api.app import Services, create_app, guarded
from bridge.api.auth import ALL, create_key
from bridge.api.desk import PARTNER_ROLE
from bridge.api.fields import show_id
from bridge.asterisk.agi_server import AgiStats
from bridge.calls.book_watch import BookWatch
from bridge.config import Database, Settings
from bridge.database import connection, open_pool, transaction
from bridge.partners.store import add_partner
from tests.seeded import Seeded, seeded


@dataclass
class Client:
    """Requests with one key. POSTs carry an idempotency key of their own unless one is given."""

    http: AsyncClient
    key: str

    async def ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> Response:
        given = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        if method == "POST":
            given.setdefault("Idempotency-Key", str(uuid4()))
        return await self.http.request(method, path, headers=given, **more)

    async def get(self, path: str, **query: Any) -> Response:
        return await self.ask("GET", path, params={name: str(value) for name, value in query.items()})

    async def post(self, path: str, body: Any = None, **more: Any) -> Response:
        return await self.ask("POST", path, json=body, **more)

    async def patch(self, path: str, body: Any, etag: str | None = None) -> Response:
        """With the ETag given, else with the one it has now."""
        return await self.ask("PATCH", path, json=body, headers={"If-Match": etag or await self.etag(path)})

    async def delete(self, path: str, etag: str | None = None) -> Response:
        return await self.ask("DELETE", path, headers={"If-Match": etag or await self.etag(path)})

    async def etag(self, path: str) -> str:
        return str((await self.get(path)).headers["etag"])


@dataclass
class Partner(Client):
    """A partner's client. id: as the API writes it."""

    partner_id: UUID = field(default_factory=uuid4)

    @property
    def id(self) -> str:
        return show_id("prt", self.partner_id)


@dataclass
class Api:
    """client: without a key. alpha, beta: two partners. sockets: the link by which the database is reached."""

    client: AsyncClient
    app: FastAPI
    operator: Client
    alpha: Partner
    beta: Partner
    house: Seeded
    books: BookWatch
    agi: AgiStats
    services: Services
    sockets: Path

    async def key(self, *scopes: str, partner_id: UUID | None = None) -> Client:
        """A client with a key of just these scopes."""
        async with connection(self.house.pool) as conn:
            key = await create_key(conn, "scoped", partner_id=partner_id, scopes=scopes)
        return Client(self.client, key)

    def allow(self, quota: int) -> None:
        """So many requests a minute, for each partner."""
        settings = self.services.settings.model_copy(update={"api": config.Api(quota=quota)})
        self.app.state.services = replace(self.services, settings=settings)

    async def own(self, table: str, partner: Partner, **where: Any) -> None:
        """Make what the house was seeded with a partner's: `own("subscriber", api.alpha, subscriber_id=…)`."""
        clause = " AND ".join(f"{name} = ${place}" for place, name in enumerate(where, 2)) or "true"
        await self.house.rows(
            f"UPDATE {table} SET partner_id = $1 WHERE {clause}", partner.partner_id, *where.values()
        )


@asynccontextmanager
async def api_scene(dsn: str, tmp_path: Path) -> AsyncIterator[Api]:
    """The database's socket is reached through a link that a test can take away."""
    sockets = dsn.partition("host=")[2].partition("&")[0]
    link = tmp_path / "pg"
    link.symlink_to(sockets)
    linked = dsn.replace(sockets, str(link))
    async with seeded(linked) as house:
        asking: asyncpg.Pool = await open_pool(Database(pool_max=4), linked, role=PARTNER_ROLE)
        books, agi = BookWatch(house.pool, dsn), AgiStats()
        users = config.Users(switch_dsn=SecretStr("postgresql://callbridge_switch_api:secret@127.0.0.1/api"))
        messages = config.Messages(folder=tmp_path / "messages")
        messages.folder.mkdir()
        exports = config.Exports(folder=tmp_path / "exports", lag_s=5)
        settings = Settings(
            database=Database(dsn=SecretStr(dsn)), users=users, messages=messages, exports=exports
        )
        services = Services(settings, house.pool, asking, books, lambda: asdict(agi), lambda: None)
        app = create_app(services)
        try:
            async with AsyncClient(transport=ASGITransport(guarded(app)), base_url="http://bridge") as client:
                async with transaction(house.pool) as conn:
                    operator = Client(client, await create_key(conn, "tests"))
                    partners = []
                    for name in ("Alpha", "Beta"):
                        row = await add_partner(conn, name, "EUR")
                        key = await create_key(conn, name, partner_id=row["partner_id"], scopes=[ALL])
                        partners.append(Partner(client, key, row["partner_id"]))
                alpha, beta = partners
                yield Api(client, app, operator, alpha, beta, house, books, agi, services, link)
        finally:
            await asking.close()


def problem(response: Response, status: int, code: str) -> dict[str, Any]:
    """The problem document that a response must be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["correlator"] == response.headers["x-correlator"]
    return body
