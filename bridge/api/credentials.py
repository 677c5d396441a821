"""SIP credentials: what a subscriber's phone registers with at the switch. Short-lived, and told once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs
from bridge.api.fields import Body, CredentialId, SubscriberId, Told, sample, show_at, show_id
from bridge.api.page import Asked, Page, page
from bridge.api.problems import Problem, responses
from bridge.api.route import BY_METHOD, routes
from bridge.config import Settings
from bridge.database import Connection
from bridge.partners import store

router = routes("subscribers", "/v1/subscribers/{subscriber_id}/sip-credentials")
Reader = Annotated[Desk, Depends(Needs("subscribers:read"))]
Writer = Annotated[Desk, Depends(Needs("subscribers:write"))]

Media = Literal["webrtc", "rtp"]


class NewSipCredential(Body):
    """A credential to be."""

    model_config = sample(media="webrtc")

    media: Media = Field(
        "webrtc",
        description="What the subscriber's phones speak from now on: as browsers do (DTLS-SRTP, ICE), or plain RTP",
    )
    lasts_s: int | None = Field(
        None,
        ge=60,
        le=86_400,
        description="So long it is good, at most as long as the operator allows; null: that",
    )


class SipCredential(Told):
    """A credential, without what makes it one."""

    credential_id: CredentialId
    subscriber_id: SubscriberId
    username: str = Field(description="User name, and user part of the address of record")
    realm: str
    media: Media
    state: Literal["valid", "expired", "ended"]
    created_at: datetime
    expires_at: datetime


class SipCredentialMade(SipCredential):
    """A new one, with its password."""

    url: str = Field(description="Where browsers register: SIP over WebSocket (RFC 7118)")
    password: str | None = Field(
        default=None,
        description="Told once: it is not kept, and is missing from an answer that is given again",
    )


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    over = row["expires_at"] <= datetime.now(UTC)
    return {
        "credential_id": show_id("sip", row["credential_id"]),
        "subscriber_id": show_id("sub", row["subscriber_id"]),
        "username": row["endpoint"],
        "realm": row["realm"],
        "media": row["media"],
        "state": "ended" if row["revoked_at"] else "expired" if over else "valid",
        "created_at": show_at(row["created_at"]),
        "expires_at": show_at(row["expires_at"]),
    }


def sip_url(settings: Settings) -> str:
    """Where phones in browsers find the switch."""
    return settings.web.sip_url or f"ws://{settings.users.ws_host}:{settings.users.ws_port}/ws"


@router.get(
    "",
    response_model=Page[SipCredential],
    responses=responses(404),
    summary="A subscriber's SIP credentials, newest first",
)
async def list_sip_credentials(desk: Reader, subscriber_id: SubscriberId, paging: Asked) -> Response:
    async with desk.reading() as conn:
        await store.subscriber(conn, subscriber_id)
        rows = await store.credentials(conn, subscriber_id, paging.before, paging.rows)
    return desk.shown(page(rows, paging, "credential_id", show))


@router.post(
    "",
    status_code=201,
    response_model=SipCredentialMade,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="Make a SIP credential for a subscriber's phone",
)
async def create_sip_credential(
    desk: Writer, subscriber_id: SubscriberId, body: NewSipCredential
) -> Response:
    """The subscriber must be active. Only so many are valid at a time: the oldest ends when there is one more."""
    settings = desk.services.settings
    users = settings.users

    async def work(conn: Connection) -> Made:
        owner = await store.subscriber(conn, subscriber_id)
        if not users.switch_dsn.get_secret_value():
            raise Problem(409, "No phones register here: the operator has not set users.switch_dsn.")
        await desk.as_ours(conn)
        made = await store.add_credential(
            conn,
            subscriber_id,
            min(body.lasts_s or users.credential_s, users.credential_s),
            contacts_max=users.contacts_max,
            media=body.media,
        )
        told = show(await store.credential(conn, subscriber_id, made.credential_id)) | {
            "url": sip_url(settings)
        }
        name = told["credential_id"]
        where = f"/v1/subscribers/{told['subscriber_id']}/sip-credentials/{name}"
        return Made(name, told, owner["partner_id"], location=where, once={"password": made.password})

    return await desk.create("sip_credential.create", body, work)


@router.get(
    "/{credential_id}", response_model=SipCredential, responses=responses(404), summary="One SIP credential"
)
async def read_sip_credential(
    desk: Reader, subscriber_id: SubscriberId, credential_id: CredentialId
) -> Response:
    async with desk.reading() as conn:
        row = await store.credential(conn, subscriber_id, credential_id)
    return desk.shown(show(row))


@router.delete("/{credential_id}", status_code=204, responses=responses(404), summary="End a SIP credential")
async def end_sip_credential(
    desk: Writer, subscriber_id: SubscriberId, credential_id: CredentialId
) -> Response:
    """At once: nobody registers or calls with it any more. Without another the subscriber's phones are not rung."""

    async def work(conn: Connection) -> Made:
        row = await store.credential(conn, subscriber_id, credential_id)
        await desk.as_ours(conn)
        await store.end_credential(conn, credential_id)
        return Made(show_id("sip", credential_id), None, row["partner_id"])

    return await desk.act("sip_credential.end", None, work)
