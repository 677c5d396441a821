"""What the failsafe decides on while no bridge answers: collected, signed and written here, and read again.

The file is two lines: the HMAC-SHA256 of the second in hex, and compact JSON. The failsafe's process imports
this module anew for every call, so nothing that is slow to load stands at its top.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import AsyncIterator, Container, Mapping, Set
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, Final

from bridge.errors import ConfigError
from bridge.telephony.number import Number
from bridge.telephony.writing import AS_IS, Writing

if TYPE_CHECKING:
    from asyncpg import Pool

    from bridge.calls.book import Book
    from bridge.config import Settings
    from bridge.rating.plan import Plan
    from bridge.rating.prefixes import Prefixes
    from bridge.routing.router import Router

KEY_BYTES: Final = 32
CLOCK_S_MAX: Final = 60  # so far a clock may have been set back since the snapshot was made
_E164_DIGITS_MIN: Final = 5
_SLICE: Final = 1000
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
    writing      B-format, A-format and tech prefix, by those trunks that want numbers written otherwise than we do
    """

    made_at: int
    age_s_max: int
    limit_s: int
    home: str
    subscribers: Mapping[str, Mapping[str, list[str]]]
    routes: Mapping[str, Mapping[str, str | None]]
    ring_s: Mapping[str, int]
    writing: Mapping[str, list[str]] = field(default_factory=dict)

    def subscriber(self, app: str, a_number: str) -> tuple[str, str] | None:
        """(subscriber_id, plan_id); None for whoever must wait for the bridge."""
        found = self.subscribers.get(app, {}).get(a_number)
        return (found[0], found[1]) if found is not None else None

    def user(self, subscriber_id: str, a_number: str) -> tuple[str, str] | None:
        """The same for a user's own phone, which says whose it is; the number is what the switch knows of it."""
        for numbers in self.subscribers.values():
            found = numbers.get(a_number)
            if found is not None and found[0] == subscriber_id:
                return found[0], found[1]
        return None

    def trunk(self, plan_id: str, number: Number) -> str | None:
        """The trunk that was best for this number."""
        table = self.routes[plan_id]
        return table.get(longest(table, number.digits))

    def written(self, trunk: str) -> Writing:
        """How the trunk's carrier wants numbers."""
        found = self.writing.get(trunk)
        return Writing(*found) if found else AS_IS


def longest(prefixes: Container[str], digits: str) -> str:
    """The longest of the prefixes that `digits` begin with; empty when there is none."""
    for length in range(len(digits), 0, -1):
        if digits[:length] in prefixes:
            return digits[:length]
    return ""


def seal(snapshot: Snapshot, key: bytes) -> bytes:
    """The file's content."""
    members = (f'"{one.name}":{_written(getattr(snapshot, one.name))}' for one in fields(snapshot))
    body = ("{" + ",".join(members) + "}").encode()
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


def best_routes(subscribed: Plan, router: Router, at: datetime) -> Routes:
    """The router's first route for every number there is, while no trunk is full.

    Numbers with the same longest prefix, of all that the plan's deck, the trunks' decks and their bands' decks
    have, get the same rate from each: so one of them stands for all. A caller is of no origin set here, at home,
    and nothing is zero-rated.

    at   decides which bands count
    """
    from bridge.rating.prefixes import Prefixes, decode, union  # noqa: PLC0415 - slow to load, see above

    deck = subscribed.deck
    known = Prefixes(union([router.keys, deck.keys, *(other.keys for _, other in deck.bands)]))
    table: Routes = {}
    for prefix in map(decode, known.keys):  # each before those that begin with it
        sleep(0)  # whatever waits for the interpreter goes first
        number = _number_of(prefix, known)
        if number is None:
            continue
        best = _best(subscribed, router, number, at)
        if best != table.get(longest(table, prefix)):
            table[prefix] = best
    return table


class SnapshotWriter:
    """Keeps the snapshot of one switch fresh. Subscribers are read each time; a plan's routes are worked out when its
    deck, its margin floor, a trunk or a trunk's deck has changed, and each day where a carrier has another currency.

    Limits: bands count as they stood when the routes were worked out. With 50 trunks of 100 000 rates that takes
    minutes for each plan, in a thread, during which the last snapshot stands. And the failsafe reads the whole file
    for each call: it is made for some ten plans, not for a thousand.

    raises   ConfigError: there is no key to sign with
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key = read_key(settings.failsafe.key_file)
        self._routes: dict[str, tuple[object, Routes]] = {}  # by plan, with what they were worked out from

    async def put(self, snapshot: Snapshot) -> None:
        """Write what the failsafe may decide on from now on.

        raises   OSError: the file cannot be written; the old one stands
        """
        import asyncio  # noqa: PLC0415 - slow to load, see above

        content = await asyncio.to_thread(seal, snapshot, self._key)
        await asyncio.to_thread(write, self._settings.failsafe.snapshot, content)

    async def collect(self, pool: Pool, book: Book, now: float) -> Snapshot:
        """Read the subscribers and put what the book says beside them."""
        subscribers: dict[str, dict[str, list[str]]] = {}
        plan_ids: set[str] = set()
        async for row in _subscribers(pool):
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
            routes=await self._routes_of(book, plan_ids, datetime.fromtimestamp(now, UTC)),
            ring_s={trunk.name: trunk.ring_s for trunk in book.trunks},
            writing={
                peer.trunk.name: [peer.writing.b_format, peer.writing.a_format, peer.writing.tech_prefix]
                for peer in book.peers.values()
                if peer.writing != AS_IS
            },
        )

    async def _routes_of(self, book: Book, plan_ids: Set[str], at: datetime) -> dict[str, Routes]:
        import asyncio  # noqa: PLC0415 - slow to load, see above

        from bridge.routing.router import Router  # noqa: PLC0415 - slow to load, see above

        # One of its own: what callers ask for stays in the book's, which shares the prefixes with it.
        router = Router(book.trunks, book.fx, book.router, keep=False)
        current: dict[str, tuple[object, Routes]] = {}
        for plan_id in plan_ids:
            subscribed = book.plans[plan_id]
            origin = _origin(subscribed, book)
            before = self._routes.get(plan_id)
            if before is None or before[0] != origin:
                # In a thread: 80 000 prefixes on four trunks take seconds, and callers must not wait for them.
                before = origin, await asyncio.to_thread(best_routes, subscribed, router, at)
            current[plan_id] = before
        self._routes = current
        return {plan_id: routes for plan_id, (_, routes) in current.items()}


async def _subscribers(pool: Pool) -> AsyncIterator[Any]:
    """The connection goes back when the last is read: working out routes needs none."""
    from bridge import queries  # noqa: PLC0415 - slow to load, see above
    from bridge.database import transaction  # noqa: PLC0415 - slow to load, see above

    async with transaction(pool) as conn:
        async for row in queries.failsafe.subscribers.stream(conn):
            yield row


def _origin(subscribed: Plan, book: Book) -> object:
    """All that `best_routes` depends on. Decks that changed are other objects."""
    currencies = {trunk.deck.currency for trunk in book.trunks}
    fx = book.fx if currencies - {subscribed.deck.currency} else None
    return subscribed.deck, subscribed.margin_floor_micro, book.trunks, fx


def _written(value: Any) -> str:
    """As JSON. One call for a big object would keep other threads waiting: it is written a slice at a time."""
    if not isinstance(value, Mapping):
        return json.dumps(value)
    if any(isinstance(one, Mapping) for one in islice(value.values(), 1)):
        return "{" + ",".join(f"{json.dumps(key)}:{_written(one)}" for key, one in value.items()) + "}"
    items = iter(value.items())
    slices = iter(lambda: json.dumps(dict(islice(items, _SLICE)), separators=(",", ":"))[1:-1], "")
    return "{" + ",".join(slices) + "}"


def _signature(body: bytes, key: bytes) -> bytes:
    return hmac.new(key, body, hashlib.sha256).hexdigest().encode()


def _number_of(prefix: str, known: Prefixes) -> Number | None:
    """A number whose longest known prefix is this one; None when every number goes on to a longer one."""
    from bridge.rating.prefixes import encode  # noqa: PLC0415 - slow to load, see above

    if prefix.startswith("0"):
        return None  # no country code does
    missing = max(0, _E164_DIGITS_MIN - len(prefix))
    if missing == 0:
        return Number(f"+{prefix}")
    key = encode(prefix)
    for tail in range(10**missing):
        digits = f"{prefix}{tail:0{missing}}"
        if known.keys[known.longest(encode(digits))] == key:
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
