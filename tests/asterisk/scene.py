"""One test's stage: fresh subscribers on the shared stack, SIPp around it, and the books when the call is over."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from bridge.asterisk.conf import CDR_FILE, JOURNAL
from bridge.calls.audit import audit
from bridge.calls.story import story
from bridge.database import Connection
from bridge.sandbox.ports import free_ports
from bridge.sandbox.process import Deadline, tail
from bridge.sandbox.seed import (
    SeedRate,
    SeedSubscriber,
    SeedTrunk,
    seed_app,
    seed_plan,
    seed_subscriber,
    seed_trunk,
)
from bridge.sandbox.stack import Stack
from tests.asterisk.sipp import Peer, Seen, bound

T = TypeVar("T")

# An app is known by its address, or by address and port; loopback has many, and another is a stranger's.
APP_HOST: Final = "127.0.0.2"
GATEWAY_HOST: Final = "127.0.0.3"
STRANGER_HOST: Final = "127.0.0.4"
PHONES_HOST: Final = "127.0.0.5"  # the gateway of an app whose users have phones, too
BALANCE_MICRO: Final = 5_000_000
PRICE_MICRO: Final = 90_000  # the first minute of any call
ENDED_S: Final = 10.0

BERLIN: Final = "+493023125000"  # alpha, then beta
FRANKFURT: Final = "+496990009000"  # narrow, which carries one call at a time, then beta
HAMBURG: Final = "+494066969000"  # hasty, which lets it ring two seconds, then beta

# Whole micro-units a second, so that a cost can be worked out by heart.
ALPHA_MICRO_PER_S: Final = 200
BETA_MICRO_PER_6_S: Final = 1_800

BAN_AFTER: Final = 12
RULES: Final = {"slice_s": 4, "slice_lead_s": 2.0, "witness_s": 1.0, "wake_s": 3, "app_ring_s": 5}

MESSAGE_S_MAX: Final = 8

_serial = count(1)


class World:
    """What is seeded: two carriers' ports, four trunks on them, three apps and three plans."""

    def __init__(self, *, call_ended: str = "journal") -> None:
        self.call_ended = call_ended
        self.alpha_port, self.beta_port, gateway_port = free_ports(3)
        self.gateway = f"{GATEWAY_HOST}:{gateway_port}"
        self.apps: dict[str, str] = {}
        self.plans: dict[str, str] = {}

    async def seed(self, conn: Connection) -> None:
        per_second = SeedRate("4930", "Berlin", ALPHA_MICRO_PER_S * 60, 1, 1)
        trunks = (
            SeedTrunk("alpha", self.alpha_port, [per_second]),
            SeedTrunk("hasty", self.alpha_port, [SeedRate("4940", "Hamburg", 12_000, 1, 1)], ring_s=2),
            SeedTrunk("narrow", self.alpha_port, [SeedRate("4969", "Frankfurt", 12_000, 1, 1)], capacity=1),
            SeedTrunk("beta", self.beta_port, [SeedRate("49", "Germany", BETA_MICRO_PER_6_S * 10, 6, 6)]),
        )
        for trunk in trunks:
            await seed_trunk(conn, trunk)
        self.plans = {
            "standard": await seed_plan(conn, "standard", [SeedRate("49", "Germany", PRICE_MICRO)]),
            "by the second": await seed_plan(
                conn, "by the second", [SeedRate("49", "Germany", 60_000, 1, 1)]
            ),
            "fallback": await seed_plan(conn, "fallback", [SeedRate("49", "Germany", PRICE_MICRO)]),
        }
        await conn.execute("UPDATE plan SET on_net_fallback = true WHERE name = 'fallback'")
        self.apps = {
            "messenger": await seed_app(conn, "messenger", APP_HOST, None),
            "gateway": await seed_app(conn, "gateway", self.gateway, None),
            "phones": await seed_app(conn, "phones", PHONES_HOST, None),
        }
        await conn.execute("UPDATE app SET phones = true WHERE name = 'phones'")

    @property
    def overrides(self) -> dict[str, dict[str, Any]]:
        return {
            "calls": dict(RULES),
            "messages": {"message_s_max": MESSAGE_S_MAX},
            "switch": {"emergency_trunk": "alpha", "call_ended": self.call_ended},
            "users": {"ban_after": BAN_AFTER, "ban_s": 10, "spared": ["127.0.0.1/32"]},
        }


class Scene:
    """Everything a scenario starts ends with it."""

    def __init__(self, stack: Stack, world: World, sipp: tuple[str, ...], where: Path) -> None:
        self.stack, self.world = stack, world
        self._sipp, self._where = sipp, where
        self._peers: list[Peer] = []
        self._open = ExitStack()

    def ask(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return self.stack.database_call(work)

    def value(self, sql: str, *values: object) -> Any:
        async def work(conn: Connection) -> Any:
            return await conn.fetchval(sql, *values)

        return self.ask(work)

    def subscriber(
        self,
        *,
        app: str = "messenger",
        plan: str = "standard",
        state: str = "active",
        account_state: str = "active",
        **given: Any,
    ) -> str:
        """A new subscriber's A-number; the account has five euros unless told otherwise."""
        a_number = f"+4915112{next(_serial):06d}"
        who = SeedSubscriber(a_number, **{"balance_micro": BALANCE_MICRO, **given})

        async def work(conn: Connection) -> None:
            async with conn.transaction():
                account_id = await seed_subscriber(conn, self.world.apps[app], self.world.plans[plan], who)
                await conn.execute(
                    "UPDATE subscriber SET state = $2 WHERE account_id = $1", account_id, state
                )
                await conn.execute(
                    "UPDATE account SET state = $2 WHERE account_id = $1", account_id, account_state
                )

        self.ask(work)
        return a_number

    def alpha(self, scenario: str) -> Peer:
        """The cheaper carrier, ready for one call."""
        return self._carrier(scenario, self.world.alpha_port)

    def alpha_for_many(self, scenario: str, calls: int) -> Peer:
        """The cheaper carrier, ready for so many calls, or fewer."""
        peer = self._peer(scenario, f"127.0.0.1:{self.world.alpha_port}", calls=calls)
        peer.wait_bound()
        return peer

    def beta(self, scenario: str) -> Peer:
        """The dearer one."""
        return self._carrier(scenario, self.world.beta_port)

    def alpha_closed(self) -> None:
        """The cheaper carrier's port is closed: the kernel answers for it."""
        assert not bound(f"127.0.0.1:{self.world.alpha_port}")

    def alpha_silent(self) -> None:
        """The cheaper carrier takes what it is sent and never says a word."""
        deaf = self._open.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        deaf.bind(("127.0.0.1", self.world.alpha_port))

    def calls(self, scenario: str, *, address: str = "", host: str = APP_HOST, call_id: str = "") -> Peer:
        """Someone with the app calls, from a free port of `host` unless told the whole address; returns at once."""
        return self._peer(
            scenario,
            address or f"{host}:{free_ports(1)[0]}",
            towards=self.stack.sip_address,
            call_id=call_id or f"{next(_serial)}.{self._where.name}",
        )

    def many_call(
        self, scenario: str, *, calls: int, cps: int, host: str = APP_HOST, rows: Sequence[Sequence[str]] = ()
    ) -> Peer:
        """So many calls of an app, so many a second; returns at once. rows: what differs from one to the next."""
        return self._peer(
            scenario,
            f"{host}:{free_ports(1)[0]}",
            towards=self.stack.sip_address,
            call_id=f"{next(_serial)}.{self._where.name}",
            calls=calls,
            cps=cps,
            rows=rows,
        )

    def story(self, call: Peer) -> dict[str, Any]:
        """The whole of a call whose row is closed, or will be in a moment."""

        async def closed(conn: Connection) -> dict[str, Any]:
            deadline = Deadline(ENDED_S)
            while True:
                row = await conn.fetchrow(
                    "SELECT call_id, state FROM call WHERE sip_call_id = $1", call.call_id
                )
                if row is not None and row["state"] != "live":
                    return await story(conn, row["call_id"])
                assert deadline.pause(), (
                    f"the call is {row['state'] if row else 'unknown'} after {ENDED_S:g} s"
                )

        return self.ask(closed)

    def story_of(self, call_id: str) -> dict[str, Any]:
        return self.ask(lambda conn: story(conn, UUID(call_id)))

    def wait_live(self, call: Peer, *, answered: bool) -> None:
        """Return when the bridge has admitted the call or, with `answered`, knows of its answer."""
        sql = "SELECT count(*) FROM lease JOIN call USING (call_id) WHERE sip_call_id = $1"
        sql += " AND lease.answered_at IS NOT NULL" if answered else ""
        deadline = Deadline(ENDED_S)
        while not self.value(sql, call.call_id):
            assert deadline.pause(), "the call does not get so far"

    def account(self, a_number: str) -> tuple[int, int]:
        """Balance and what is held of it, micro-units."""

        async def work(conn: Connection) -> tuple[int, int]:
            row = await conn.fetchrow(
                "SELECT balance_micro, held_micro FROM subscriber JOIN account USING (account_id) WHERE a_number = $1",
                a_number,
            )
            assert row is not None
            return row["balance_micro"], row["held_micro"]

        return self.ask(work)

    def paid_nothing(self, a_number: str) -> bool:
        return self.account(a_number) == (BALANCE_MICRO, 0)

    def wait_files_read(self) -> None:
        """Return when every line of journal and CDR file has been used."""
        deadline = Deadline(ENDED_S)
        while not all(self._is_read(name) for name in (JOURNAL, CDR_FILE)):
            assert deadline.pause(), "the switch's records are not read to their end"

    def close(self) -> None:
        """End what a failed scenario left running, so that the next one finds a quiet switch."""
        for peer in self._peers:
            peer.stop()
        self._open.close()
        if self.value("SELECT count(*) FROM lease"):
            self.stack.switch.cli("channel request hangup all")

    def wait_quiet(self) -> None:
        """Return when no call is live."""
        deadline = Deadline(ENDED_S)
        while self.value("SELECT count(*) FROM lease"):
            assert deadline.pause(), f"a call is still live after {ENDED_S:g} s"

    def prove_books(self) -> None:
        broken = {name: rows for name, rows in self.ask(audit).items() if rows}
        assert not broken, broken

    def report(self) -> list[tuple[str, str]]:
        """What is needed to understand a failure, by title."""
        traces = [(f"sipp {number}", peer.trace()) for number, peer in enumerate(self._peers, 1)]
        return [*stack_report(self.stack), *traces]

    def _carrier(self, scenario: str, port: int) -> Peer:
        peer = self._peer(scenario, f"127.0.0.1:{port}")
        peer.wait_bound()
        return peer

    def _peer(
        self,
        scenario: str,
        address: str,
        *,
        towards: str | None = None,
        call_id: str = "",
        calls: int = 1,
        cps: int = 1,
        rows: Sequence[Sequence[str]] = (),
    ) -> Peer:
        where = self._where / f"sipp-{len(self._peers) + 1}"
        peer = Peer(
            self._sipp,
            where,
            scenario,
            address,
            towards=towards,
            call_id=call_id,
            calls=calls,
            cps=cps,
            rows=rows,
        )
        self._peers.append(peer)
        return peer

    def _is_read(self, name: str) -> bool:
        path = self.stack.settings.switch.record_dir / name
        if not path.exists():
            return True
        found = path.stat()
        return bool(
            self.value(
                "SELECT EXISTS (SELECT FROM switch_file WHERE name = $1 AND inode = $2 AND position = $3)",
                name,
                found.st_ino,
                found.st_size,
            )
        )


def well(*runs: Peer) -> list[Seen]:
    """Every run came to its end with nothing unexpected. Returns what each saw."""
    seen = [run.ended() for run in runs]
    for run, each in zip(runs, seen, strict=True):
        assert each.code == 0, f"{run.address}: {each.said}"
    return seen


def stack_report(stack: Stack) -> list[tuple[str, str]]:
    return [("bridge log", tail(stack.bridge_log, 30)), ("asterisk log", stack.switch.log_tail(30))]


def started_seconds(talk_ms: int) -> int:
    return -(-talk_ms // 1000)


def assert_booked(told: dict[str, Any], a_number: str, *, by: str = "journal") -> None:
    """One answered call over alpha on the standard plan, the whole of it: record, price, cost, hold and ledger."""
    cost = f"{started_seconds(told['talk_ms']) * ALPHA_MICRO_PER_S / 1e6:.4f}"
    assert (told["state"], told["a_number"], told["b_number"]) == ("answered", a_number, BERLIN)
    assert (told["billed_s"], told["charge"], told["written_off"], told["cost"]) == (60, "0.09", "0.00", cost)
    attempts = [(each["trunk"], each["outcome"], each["sip_code"]) for each in told["attempts"]]
    assert attempts == [("alpha", "answered", 200)]
    hold = {name: told["hold"][name] for name in ("state", "opened", "settled", "released")}
    assert hold == {"state": "settled", "opened": "0.09", "settled": "0.09", "released": "0.00"}
    assert [(entry["account"], entry["amount"]) for entry in told["entries"]] == [
        (f"subscriber {a_number}", "-0.09"),
        ("revenue EUR", "0.09"),
        ("cost EUR", f"-{cost}"),
        ("carrier alpha", cost),
    ]
    assert told["cdr"]["ended_by"] == by


def assert_free(told: dict[str, Any], *attempts: tuple[str, str, str]) -> None:
    """A call that was tried, but that nobody pays for. attempts: trunk, outcome and whose fault it was."""
    assert [(each["trunk"], each["outcome"], each["fault"]) for each in told["attempts"]] == list(attempts)
    assert (told["charge"], told["cost"], told["entries"]) == ("0.00", "0.00", [])
    assert (told["hold"]["state"], told["hold"]["released"]) == ("released", told["hold"]["held"])
