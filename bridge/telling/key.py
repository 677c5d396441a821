"""Keys and partners as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.telling.calls import text_table


def tell_new_key(key: Mapping[str, Any]) -> str:
    """The key, and how to use it."""
    lines = [f"{key['name']}: {' '.join(key['scopes'])}, {_until(key)}"]
    if key["kind"] == "client":
        lines += [f"client_id      {key['prefix']}", f"client_secret  {key['secret']}"]
    else:
        lines += [key["secret"], f"Send it as: Authorization: Bearer {key['secret']}"]
    return "\n".join([*lines, "It is not kept here and cannot be shown again."])


def tell_keys(keys: Sequence[Mapping[str, Any]]) -> str:
    """One line a key."""
    rows = [
        (
            one["prefix"],
            one["name"],
            one["partner"] or "operator",
            one["kind"],
            one["state"],
            _until(one),
            " ".join(one["scopes"]),
        )
        for one in keys
    ]
    columns = ("prefix", "name", "of", "kind", "state", "ends", "scopes")
    return text_table(f"{len(keys)} keys", *columns, rows=rows)


def tell_partners(partners: Sequence[Mapping[str, Any]]) -> str:
    """One line a partner."""
    rows = [(one["name"], one["state"], one["partner_id"], one["account_id"]) for one in partners]
    return text_table(f"{len(partners)} partners", "name", "state", "partner", "account", rows=rows)


def _until(key: Mapping[str, Any]) -> str:
    return f"until {key['expires_at']}" if key["expires_at"] else "without end"
