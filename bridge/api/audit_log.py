"""The audit log: whatever was changed through the API. A partner sees what was done to its own things."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Query, Response
from pydantic import Field

from bridge.api.desk import Desk, Needs
from bridge.api.fields import AuditId, Instant, PartnerId, Told, show_at, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import responses
from bridge.api.route import routes
from bridge.partners import store

router = routes("audit-log")
Reader = Annotated[Desk, Depends(Needs("audit:read"))]

Action = Annotated[str, Query(max_length=80, pattern=r"^[a-z_]+\.[a-z_]+$", examples=["key.create"])]
Subject = Annotated[str, Query(max_length=80, pattern=r"^[a-z]+_[0-9a-f]{32}$")]


class AuditEntry(Told):
    """One change."""

    audit_id: AuditId
    partner_id: PartnerId | None = Field(description="Whose thing was changed; null: ours")
    actor: str = Field(
        description="The key that asked, by name and prefix; `operator` where that is not yours to know",
        examples=["billing system cb_0f3a9c41"],
    )
    action: str = Field(examples=["key.create"])
    subject: str = Field(description="The id of what was changed")
    detail: dict[str, Any] | None = Field(description="What was asked for; null for an operator's changes")
    correlator: str
    remote: str | None = Field(description="The address that asked; null for an operator's changes")
    done_at: datetime


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "audit_id": show_id("aud", row["audit_id"]),
        "partner_id": show_id("prt", row["partner_id"]) if row["partner_id"] else None,
        "actor": row["actor"],
        "action": row["action"],
        "subject": row["subject"],
        "detail": json.loads(row["detail"]) if row["detail"] is not None else None,
        "correlator": row["correlator"],
        "remote": row["remote"],
        "done_at": show_at(row["done_at"]),
    }


@router.get("", response_model=Page[AuditEntry], responses=responses(404), summary="Changes, newest first")
async def list_audit_log(
    desk: Reader,
    paging: Asked,
    action: Action | None = None,
    subject: Subject | None = None,
    since: Annotated[Instant | None, Query(description="Done then or later")] = None,
    until: Annotated[Instant | None, Query(description="Done before then")] = None,
    partner_id: PartnerId | None = None,
) -> Response:
    async with desk.reading() as conn:
        rows = await store.audits(
            conn, paging.before, paging.rows, since=since, until=until, action=action, subject=subject,
            partner_id=desk.partner_of(partner_id),
        )  # fmt: skip
    return desk.shown(page(rows, paging, "audit_id", show))


@router.get("/{audit_id}", response_model=AuditEntry, responses=responses(404), summary="One change")
async def read_audit_entry(desk: Reader, audit_id: AuditId) -> Response:
    async with desk.reading() as conn:
        row = await store.audit(conn, audit_id)
    return desk.shown(show(row))
