"""Apps: messengers whose gateways call, and whose users' phones register."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, NotFound
from bridge.partners.store.account import Row


async def apps(conn: Connection, before: UUID, rows: int, *, whole: bool) -> Sequence[Row]:
    """Newest first. whole: with what only we may see, how their gateways come in."""
    ask = queries.apps.apps if whole else queries.apps.apps_names
    return list(await ask.all(conn, before=before, rows=rows))


async def app(conn: Connection, app_id: UUID, *, whole: bool) -> Row:
    """raises   NotFound"""
    ask = queries.apps.app if whole else queries.apps.app_name
    row: Row | None = await ask.one(conn, app_id=app_id)
    if row is None:
        raise NotFound("There is no such app.")
    return row


async def add_app(conn: Connection, name: str, sip_host: str, sip_secret: str | None) -> Row:
    """As ours.

    raises   Conflict: a trunk or an app has that name, for both are endpoints of one switch; or an app that address
    """
    if await queries.trunks.name_taken.value(conn, name=name):
        raise Conflict("The name is taken.")
    await _check_host(conn, None, sip_host)
    row: Row = await queries.apps.add.one(conn, name=name, sip_host=sip_host, sip_secret=sip_secret)
    return row


async def change_app(
    conn: Connection,
    app_id: UUID,
    edition: int,
    *,
    sip_host: str | None,
    sets_secret: bool,
    sip_secret: str | None,
) -> Row | None:
    """What is None stays, a secret only if it is not set. As ours. None: it is of another edition by now.

    raises   Conflict: another app has that address
    """
    if sip_host is not None:
        await _check_host(conn, app_id, sip_host)
    row: Row | None = await queries.apps.change.one(
        conn,
        app_id=app_id,
        edition=edition,
        sip_host=sip_host,
        sets_secret=sets_secret,
        sip_secret=sip_secret,
    )
    return row


async def _check_host(conn: Connection, app_id: UUID | None, sip_host: str) -> None:
    """Whoever calls from an address is one app's gateway."""
    if await queries.apps.host_taken.value(conn, app_id=app_id, sip_host=sip_host):
        raise Conflict("Another app's gateway calls from that address.")
