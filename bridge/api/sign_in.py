"""Links with which a subscriber's browser becomes their phone: the app's own backend asks for one and passes it on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Depends, Response
from pydantic import Field

from bridge.api.desk import Desk, Made, Needs
from bridge.api.fields import SubscriberId, Told, show_at, show_id
from bridge.api.phone import link_url
from bridge.api.problems import responses
from bridge.api.route import BY_METHOD, routes
from bridge.database import Connection
from bridge.partners import store
from bridge.partners.store.phone import add_link

router = routes("subscribers")
Writer = Annotated[Desk, Depends(Needs("subscribers:write"))]


class SignInLink(Told):
    """Told once, good once. Whoever opens it is that subscriber until they sign out."""

    url: str = Field(
        description="Its token stands behind the #, which browsers send to nobody",
        examples=["https://phone.example.com/phone#6pHqW0Zq…"],
    )
    expires_at: datetime


@router.post(
    "/{subscriber_id}/sign-in-links",
    status_code=201,
    response_model=SignInLink,
    responses=responses(404, *BY_METHOD["POST"]),
    summary="A link that signs a browser phone in, once",
)
async def create_sign_in_link(desk: Writer, subscriber_id: SubscriberId) -> Response:
    settings = desk.services.settings

    async def work(conn: Connection) -> Made:
        owner = await store.subscriber(conn, subscriber_id)
        await desk.as_ours(conn)
        made = await add_link(conn, subscriber_id, settings.web.sign_in_s)
        told = {"expires_at": show_at(made.expires_at)}
        once = {"url": link_url(settings, made.token)}
        return Made(show_id("sub", subscriber_id), told, owner["partner_id"], once=once)

    return await desk.create("subscriber.sign_in", None, work)
