"""Recipients and files as they are told: plain values, the same for text and JSON. Nothing secret is among them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.exports.cdr_files import Outcome
from bridge.exports.manifest import Manifest, shown_at
from bridge.exports.store.cdr_files import Recipient

Row = Mapping[str, Any]


def recipient_told(one: Recipient, partner: str | None) -> dict[str, Any]:
    return {
        "code": one.code,
        "partner": partner,
        "types": list(one.types),
        "format": one.format,
        "period": one.every.value,
        "time_zone": one.zone.key,
        "target": dict(one.target),
        "since": shown_at(one.since_at),
        "enabled": one.enabled,
    }


def file_told(row: Row, folder: Path | None = None) -> dict[str, Any]:
    """path is where it lies, where a folder and a place were given."""
    totals = json.loads(row["totals"]) if row["totals"] else None
    told = {
        "name": row["name"],
        "recipient": row["code"],
        "type": row["type"],
        "sequence": row["file_no"],
        "state": row["state"],
        "from": shown_at(row["from_at"]),
        "to": shown_at(row["to_at"]),
        "records": {"after": row["first_no"], "last": row["last_no"]},
        "rows": row["rows"],
        "totals": totals,
        "bytes": row["bytes"],
        "sha256": row["sha256"].hex() if row["sha256"] else None,
        "planned_at": shown_at(row["planned_at"]),
        "written_at": shown_at(row["written_at"]),
        "delivered_at": shown_at(row["delivered_at"]),
    }
    return told if folder is None else told | {"path": str(folder)}


def outcome_told(one: Outcome) -> dict[str, Any]:
    return {
        "recipient": one.recipient,
        "planned": one.planned,
        "written": one.written,
        "delivered": one.delivered,
        "problem": one.problem,
    }


def extract_told(path: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "path": str(path),
        "rows": manifest.totals.rows,
        "totals": manifest.totals.to_json(),
        "bytes": manifest.bytes,
        "sha256": manifest.sha256,
    }
