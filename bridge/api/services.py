"""What the API asks. A module of its own, so that every router can name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import asyncpg

from bridge.api.keyring import Keyring
from bridge.api.limits import Limiter
from bridge.api.slots import Slots
from bridge.calls.book_watch import BookWatch
from bridge.config import Settings
from bridge.events.address import Names, Resolve
from bridge.events.wake import Hub
from bridge.observe.requests import Requests

PHONE_QUOTA = 300  # requests of one subscriber's browsers in a minute; a running call makes thirty


@dataclass(frozen=True, slots=True)
class Services:
    """pool        the calls' own: bookings that are no partner's business to read
    asking      the API's: as a partner it sees only what is theirs (see `desk`)
    agi         sessions since the start by ending, and `accepted`
    ami_state   down, up or refused; None in a worker that does not keep the switch
    hub         wakes streams of events
    overload    what keeps new calls away, and how many it turned away; empty: nothing does
    jobs        jobs by state, and how late the latest is; empty: nobody counts them
    names       looks up the names of webhooks that are being made; sending has threads of its own
    """

    settings: Settings
    pool: asyncpg.Pool
    asking: asyncpg.Pool
    books: BookWatch
    agi: Callable[[], Mapping[str, int]]
    ami_state: Callable[[], str | None]
    limiter: Limiter = field(init=False)  # by partner
    hub: Hub = field(default_factory=Hub)
    overload: Callable[[], Mapping[str, float]] = dict
    jobs: Callable[[], Mapping[str, float]] = dict
    names: Resolve = field(default_factory=Names)
    strangers: Limiter = field(init=False)  # by address: requests without a valid key
    phones: Limiter = field(default_factory=lambda: Limiter(PHONE_QUOTA))  # by subscriber
    requests: Requests = field(default_factory=Requests)  # answered by this worker
    receiving: Slots = field(default_factory=lambda: Slots(6, 2))  # decks that are being uploaded
    staging: Slots = field(default_factory=lambda: Slots(1))
    applying: Slots = field(default_factory=lambda: Slots(1))
    keyring: Keyring = field(default_factory=Keyring)

    def __post_init__(self) -> None:
        object.__setattr__(self, "limiter", Limiter(self.settings.api.quota))
        object.__setattr__(self, "strangers", Limiter(self.settings.api.stranger_quota))
