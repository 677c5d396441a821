"""What the failsafe decides on while no bridge answers: collected, signed and written here, and read again.

The file is two lines: the HMAC-SHA256 of the second in hex, and compact JSON. The failsafe's process imports
this module anew for every call, so nothing that is slow to load stands at its top.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.errors import ConfigError
from bridge.telephony.number import Number

if TYPE_CHECKING:
    from bridge.calls.book import Book
    from bridge.config import Settings
    from bridge.database import Connection
    from bridge.rating.store import Plan
    from bridge.routing.router import Router
    from bridge.routing.trunk import Trunk

KEY_BYTES: Final = 32
CLOCK_S_MAX: Final = 60  # so far a clock may have been set back since the snapshot was made
_E164_DIGITS_MIN: Final = 5
_MODE: Final = 0o640  # the bridge writes; Asterisk's user reads as a member of the folder's group

Routes = dict[str, str | None]
"""Trunk by prefix, where the longest counts; None or no prefix: the number cannot be called."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Who may call whom over which trunk without the bridge.

    made_at      seconds since 1970
    age_s_max    not used when older
    limit_s      hard limit of a call
    home         ISO 3166 region for numbers dialled without a country code
    subscribers  by app, then A-number: subscriber_id and plan_id
    routes       by plan_id
    ring_s       by trunk
    """

    made_at: int
    age_s_max: int
    limit_s: int
    home: str
    subscribers: Mapping[str, Mapping[str, list[str]]]
    routes: Mapping[str, Mapping[str, str | None]]
    ring_s: Mapping[str, int]

    def subscriber(self, app: str, a_number: str) -> tuple[str, str] | None:
        """(subscriber_id, plan_id); None for whoever must wait for the bridge."""
        found = self.subscribers.get(app, {}).get(a_number)
        return (found[0], found[1]) if found is not None else None

    def trunk(self, plan_id: str, number: Number) -> str | None:
        """The trunk that was best for this number."""
        table = self.routes[plan_id]
        return table.get(longest(table, number.digits))


def longest(prefixes: Container[str], digits: str) -> str:
    """The longest of the prefixes that `digits` begin with; empty when there is none."""
    for length in range(len(digits), 0, -1):
        if digits[:length] in prefixes:
            return digits[:length]
    return ""


def seal(snapshot: Snapshot, key: bytes) -> bytes:
    """The file's content."""
    content = {field.name: getattr(snapshot, field.name) for field in fields(snapshot)}
    body = json.dumps(content, separators=(",", ":")).encode()
    return _signature(body, key) + b"\n" + body


def unseal(content: bytes, key: bytes, now: float) -> Snapshot:
    """The inverse of `seal`.

    raises   ValueError: signed with another key, changed, too old, or of another version
    """
    signature, _, body = content.partition(b"\n")
    if not hmac.compare_digest(signature, _signature(body, key)):
        raise ValueError("the snapshot's signature is wrong")
    try:
        snapshot = Snapshot(**json.loads(body))
    except TypeError:
        raise ValueError("the snapshot is of another version") from None
    age_s = now - snapshot.made_at
    if not -CLOCK_S_MAX <= age_s <= snapshot.age_s_max:
        raise ValueError(f"the snapshot is {age_s:.0f} s old; up to {snapshot.age_s_max} s are allowed")
    return snapshot


def make_key(path: Path) -> bool:
    """Make a signing key where none is. False: there is one."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        os.fchmod(handle, _MODE)  # whatever the umask
        file.write(os.urandom(KEY_BYTES).hex() + "\n")
    return True


def read_key(path: Path) -> bytes:
    """raises   ConfigError: there is no key, it cannot be read, or it is too short to sign with"""
    fix = f"Write {KEY_BYTES} random bytes into it in hex, and let only the bridge and Asterisk read it."
    try:
        key = bytes.fromhex(path.read_text("ascii"))
    except OSError as error:
        raise ConfigError("failsafe.key_file", f"{path}: {error.strerror}", fix) from None
    except ValueError:
        raise ConfigError("failsafe.key_file", f"{path} is not hexadecimal", fix) from None
    if len(key) < KEY_BYTES:
        raise ConfigError("failsafe.key_file", f"{path} holds {len(key)} bytes", fix)
    return key


def write(path: Path, content: bytes) -> None:
    """Put a new snapshot in place: whoever reads meanwhile, or after a crash, finds a whole one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            os.fchmod(file.fileno(), _MODE)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def best_routes(subscribed: Plan, trunks: Sequence[Trunk], prefixes: Iterable[str], at: datetime) -> Routes:
    """The first route of `routing.plan`, for every number there is, while no trunk is full.

    A caller is of no origin set here.

    prefixes  all of the plan's deck and the trunks' decks; more do no harm. Numbers with the same longest one
              get the same rate from every deck, so one of them stands for all
    at        decides which bands count
    """
    from bridge.routing.router import Router  # noqa: PLC0415 - slow to load, see above

    known = frozenset(prefixes)
    router = Router(trunks)
    table: Routes = {}
    for prefix in sorted(known):  # each before those that begin with it
        number = _number_of(prefix, known)
        if number is None:
            continue
        best = _best(subscribed, router, number, at)
        if best != table.get(longest(table, prefix)):
            table[prefix] = best
    return table


class SnapshotWriter:
    """Keeps the snapshot of one switch fresh. Routes are worked out only when the book has changed.

    raises   ConfigError: there is no key to sign with
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key = read_key(settings.failsafe.key_file)
        self._book: Book | None = None
        self._routes: dict[str, Routes] = {}

    async def put(self, snapshot: Snapshot) -> None:
        """Write what the failsafe may decide on from now on.

        raises   OSError: the file cannot be written; the old one stands
        """
        import asyncio  # noqa: PLC0415 - slow to load, see above

        content = await asyncio.to_thread(seal, snapshot, self._key)
        await asyncio.to_thread(write, self._settings.failsafe.snapshot, content)

    async def collect(self, conn: Connection, book: Book, now: float) -> Snapshot:
        """Read the subscribers and put what the book says beside them."""
        from bridge import queries  # noqa: PLC0415 - slow to load, see above

        subscribers: dict[str, dict[str, list[str]]] = {}
        plan_ids: set[str] = set()
        for row in await queries.failsafe.subscribers.all(conn):
            plan_id = str(row["plan_id"])
            if plan_id in book.plans:  # else it is newer than the book
                plan_ids.add(plan_id)
                subscribers.setdefault(row["app"], {})[row["a_number"]] = [str(row["subscriber_id"]), plan_id]
        rules = self._settings.failsafe
        return Snapshot(
            made_at=int(now),
            age_s_max=rules.age_s_max,
            limit_s=rules.limit_s,
            home=self._settings.calls.home_region,
            subscribers=subscribers,
            routes=await self._routes_of(conn, book, plan_ids, datetime.fromtimestamp(now, UTC)),
            ring_s={trunk.name: trunk.ring_s for trunk in book.trunks},
        )

    async def _routes_of(
        self, conn: Connection, book: Book, plan_ids: Set[str], at: datetime
    ) -> dict[str, Routes]:
        import asyncio  # noqa: PLC0415 - slow to load, see above

        from bridge import queries  # noqa: PLC0415 - slow to load, see above

        if book is not self._book:
            self._book, self._routes = book, {}
        for plan_id in plan_ids - self._routes.keys():
            subscribed = book.plans[plan_id]
            decks = [subscribed.deck, *(trunk.deck for trunk in book.trunks)]
            prefixes = await queries.failsafe.prefixes.value(conn, deck_ids=[deck.deck_id for deck in decks])
            # In a thread: 80 000 prefixes on four trunks take seconds, and callers must not wait for them.
            self._routes[plan_id] = await asyncio.to_thread(
                best_routes, subscribed, book.trunks, prefixes, at
            )
        return {plan_id: self._routes[plan_id] for plan_id in plan_ids}


def _signature(body: bytes, key: bytes) -> bytes:
    return hmac.new(key, body, hashlib.sha256).hexdigest().encode()


def _number_of(prefix: str, known: Container[str]) -> Number | None:
    """A number whose longest known prefix is this one; None when every number goes on to a longer one."""
    if prefix.startswith("0"):
        return None  # no country code does
    missing = max(0, _E164_DIGITS_MIN - len(prefix))
    if missing == 0:
        return Number(f"+{prefix}")
    for tail in range(10**missing):
        digits = f"{prefix}{tail:0{missing}}"
        if longest(known, digits) == prefix:
            return Number(f"+{digits}")
    return None


def _best(subscribed: Plan, router: Router, number: Number, at: datetime) -> str | None:
    sell = subscribed.deck.tariff(number.digits)
    if sell is None or sell.rate.blocked:
        return None
    floor_micro = subscribed.margin_floor_micro
    # With no attempt to make, the best trunk is the first of the spare ones, and no route need be drawn up.
    spare = router.plan(number, sell, {}, margin_floor_micro=floor_micro, limit=0, at=at).spare
    return spare[0] if spare else None
