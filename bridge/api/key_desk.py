"""Keys and partners for whoever stands at the machine: what the command line does without a key of its own."""

from __future__ import annotations

import getpass
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.api import keys, partners
from bridge.api.auth import OPERATORS, givable, issue_key
from bridge.api.page import LAST
from bridge.database import Connection
from bridge.errors import Conflict, Invalid, NotFound
from bridge.partners import store

_ROWS: Final = 500
_NAME_CHARS_MAX: Final = 80
Told = dict[str, Any]


async def make_key(
    conn: Connection,
    name: str,
    *,
    partner: str | None,
    scopes: Sequence[str],
    expires_at: datetime | None,
    kind: str,
    now: datetime,
) -> Told:
    """A new key as the API shows it, with its secret. In a transaction.

    raises   NotFound: no partner of the name · Conflict: it is closed · Invalid: name, scope or end make no sense
    """
    if not (1 <= len(name) <= _NAME_CHARS_MAX and name.isprintable()):
        raise Invalid(f"A name has 1 to {_NAME_CHARS_MAX} printable characters.")
    if expires_at is not None and expires_at <= now:
        raise Invalid("A key cannot end in the past.")
    owner = await _partner_of_name(conn, partner) if partner is not None else None
    partner_id: UUID | None = owner["partner_id"] if owner else None
    if unknown := [one for one in scopes if one not in givable(partner_id)]:
        known = " ".join(givable(partner_id))
        raise Invalid(f"{', '.join(unknown)} cannot be given to this key. There are: {known}")
    key_id, secret = await issue_key(
        conn, name, expires_at, partner_id=partner_id, scopes=sorted(set(scopes)), kind=kind
    )
    told = keys.show(await store.key(conn, key_id))
    asked = {"name": name, "scopes": told["scopes"], "kind": kind, "expires_at": told["expires_at"]}
    await _note(conn, "key.create", told["key_id"], partner_id, asked)
    return {**told, "secret": secret}


async def all_keys(conn: Connection) -> list[Told]:
    """Newest first, with the names of their partners."""
    names = {one["partner_id"]: one["name"] for one in await all_partners(conn)}
    rows = await _all("api_key_id", lambda before: store.keys(conn, before, _ROWS))
    return [{**told, "partner": names.get(told["partner_id"])} for told in map(keys.show, rows)]


async def end_key(conn: Connection, prefix: str) -> Told:
    """Revoke a key. In a transaction.

    raises   NotFound
    """
    found = await store.key_by_prefix(conn, prefix)
    row = await store.revoke_key(conn, found["api_key_id"], found["edition"])
    if row is None:
        raise Conflict(f"The key {prefix} was changed just now. Look at it, and do it again.")
    told = keys.show(row)
    await _note(conn, "key.revoke", told["key_id"], row["partner_id"], {})
    return told


async def make_partner(conn: Connection, name: str, currency: str) -> Told:
    """raises   Conflict: the name is taken · Invalid: no currency, no name"""
    row = await store.add_partner(conn, name, currency)
    told = partners.show(row)
    asked = {"name": name, "currency": currency}
    await _note(conn, "partner.create", told["partner_id"], row["partner_id"], asked)
    return told


async def all_partners(conn: Connection) -> list[Told]:
    """Newest first."""
    rows = await _all("partner_id", lambda before: store.partners(conn, before, _ROWS))
    return [partners.show(row) for row in rows]


async def _all(
    key: str, read: Callable[[UUID], Awaitable[Sequence[Mapping[str, Any]]]]
) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    while rows := await read(found[-1][key] if found else LAST):
        found += rows
    return found


async def _partner_of_name(conn: Connection, name: str) -> Mapping[str, Any]:
    """raises   NotFound · Conflict: it is closed"""
    for one in await _all("partner_id", lambda before: store.partners(conn, before, _ROWS)):
        if one["name"] == name:
            if one["state"] == "closed":
                raise Conflict(f"The partner {name} is closed.")
            return one
    raise NotFound(f"There is no partner {name}.")


async def _note(
    conn: Connection, action: str, subject: str, partner_id: UUID | None, detail: Mapping[str, Any]
) -> None:
    """For the audit log: the person at the machine."""
    await queries.access.done.run(
        conn,
        owner_id=OPERATORS,
        key=None,
        status=None,
        headers=None,
        body=None,
        partner_id=partner_id,
        actor=f"command line, {getpass.getuser()}",
        action=action,
        subject=subject,
        detail=json.dumps(detail),
        correlator="",
        remote="",
    )
