"""What the API asks. A module of its own, so that every router can name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import asyncpg

from bridge.api.limits import Limiter
from bridge.calls.book_watch import BookWatch
from bridge.config import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """pool        the calls' own: bookings that are no partner's business to read
    asking      the API's: as a partner it sees only what is theirs (see `desk`)
    agi         sessions since the start by ending, and `accepted`
    ami_state   down, up or refused; None in a worker that does not keep the switch
    """

    settings: Settings
    pool: asyncpg.Pool
    asking: asyncpg.Pool
    books: BookWatch
    agi: Callable[[], Mapping[str, int]]
    ami_state: Callable[[], str | None]
    limiter: Limiter = field(init=False)  # by partner
    strangers: Limiter = field(
        default_factory=lambda: Limiter(60)
    )  # by address: requests without a valid key

    def __post_init__(self) -> None:
        object.__setattr__(self, "limiter", Limiter(self.settings.api.quota))
