"""A browser phone asks: whose it is, and its way to the database. Every answer is about that one subscriber.

The session finds the subscriber, and each query takes the subscriber from here, never from the request.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials

from bridge.api.desk import bearer, turned_away
from bridge.api.problems import Problem
from bridge.api.route import StrictRoute
from bridge.api.services import Services
from bridge.database import Connection, connection, store_errors
from bridge.partners.store.phone import PhoneSession, enter_with_session

BASE: Final = "/phone/api"


class PhoneDesk:
    """One request of a browser that is signed in. conn: the house's own, until the route is through."""

    def __init__(self, services: Services, conn: Connection, session: PhoneSession) -> None:
        self.services, self.conn, self.session = services, conn, session

    @property
    def subscriber_id(self) -> UUID:
        return self.session.subscriber_id


async def signed_in(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> AsyncIterator[PhoneDesk]:
    """raises   Problem 401: no session, or it is over · 429: too much, of a subscriber or of an address without one"""
    services: Services = request.app.state.services
    async with connection(services.asking) as conn:
        session = await enter_with_session(conn, given.credentials) if given else None
        if session is not None:
            taken = services.phones.take(session.subscriber_id, time.monotonic())
            request.scope["rate"] = taken
            if taken.retry_s:
                raise Problem(429, f"Too many requests. Ask again in {taken.retry_s} s.")
            async with store_errors():
                yield PhoneDesk(services, conn, session)
            return
    raise turned_away(request, services, not_signed_in())


def not_signed_in() -> Problem:
    """No session, or one that is over; which of these is not told."""
    return Problem(401, "Sign in again.")


Signed = Annotated[PhoneDesk, Depends(signed_in, scope="function")]


def routes() -> APIRouter:
    """A router of the phone's own API. It serves our page and changes with it, so the partners' document lacks it."""
    return APIRouter(prefix=BASE, route_class=StrictRoute, include_in_schema=False)


def told(content: object, status: int = 200) -> Response:
    return JSONResponse(content, status)
