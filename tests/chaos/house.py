"""A house to break: a stack that no other test uses, and what is asked of it before, during and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from bridge.asterisk.conf import FOLDER, JOURNAL
from bridge.database import Connection
from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.process import Deadline
from bridge.sandbox.stack import Stack
from tests.asterisk.scene import ALPHA_MICRO_PER_S, BERLIN, Scene, World, started_seconds
from tests.asterisk.sipp import Caller, Peer, Seen, answers
from tests.databases import copy_database

SECOND_MICRO: Final = 1_000  # what a second to Berlin is sold for in the plan used here
MARGIN_MS: Final = 250  # calls.cut_margin_ms: the switch cuts so long before the money ends
BACK_S: Final = 20.0  # a part that was killed is at work again

_serial = count(1)


@dataclass(frozen=True, slots=True)
class Talk:
    """A call somebody has answered, and its two ends."""

    call_id: UUID
    app: Peer
    carrier: Peer

    def well(self) -> None:
        """Both ends saw what they had expected, to the end."""
        seen = ended(self.app, self.carrier)
        assert [each.code for each in seen] == [0, 0], [each.said for each in seen]

    def app_s(self) -> float:
        """Talk time by the app's clock."""
        return self.app.clock("BYE") - self.app.clock("ACK")

    def carrier_s(self) -> float:
        """Talk time by the carrier's clock."""
        return self.carrier.clock("BYE") - self.carrier.clock("ACK")


class House(Scene):
    """A scene whose parts may be killed: nobody else needs them."""

    def payer(self, seconds: int = 600, **given: Any) -> str:
        """Somebody who pays by the second and can afford so many."""
        return self.subscriber(plan="by the second", balance_micro=seconds * SECOND_MICRO, **given)

    def talk(self, a_number: str, *, talk_s: float | None = None) -> Talk:
        """Call Berlin; returns when the bridge knows of the answer.

        talk_s   the app hangs up then; None: it waits for the other side to do so
        """
        carrier = self.alpha(answers())
        caller = Caller(a_number, BERLIN)
        call = self.calls(caller.listens() if talk_s is None else caller.talks(talk_s))
        self.wait_live(call, answered=True)
        call_id = self.value("SELECT call_id FROM call WHERE sip_call_id = $1", call.call_id)
        return Talk(call_id, call, carrier)

    def until(self, sql: str, *values: object, within_s: float = BACK_S) -> Any:
        """The value of the query as soon as it is true."""
        deadline = Deadline(within_s)
        while not (found := self.value(sql, *values)):
            assert deadline.pause(), f"not within {within_s:g} s: {sql}"
        return found

    def until_ended(self, talk: Talk, within_s: float = BACK_S) -> dict[str, Any]:
        """The story of a call whose row is closed."""
        self.until("SELECT state <> 'live' FROM call WHERE call_id = $1", talk.call_id, within_s=within_s)
        return self.story_of(str(talk.call_id))

    def extensions(self, talk: Talk) -> int:
        """How often its hold has been extended."""
        return int(self.value("SELECT extensions FROM hold WHERE call_id = $1", talk.call_id))

    def wait_for(self, found: Callable[[], bool], what: str, within_s: float = BACK_S) -> None:
        """Return when it is so."""
        deadline = Deadline(within_s)
        while not found():
            assert deadline.pause(), f"not within {within_s:g} s: {what}"

    def said(self, event: str) -> list[dict[str, Any]]:
        """What the bridge logged under this name in all its lives, oldest first."""
        lines = _lines(self.stack.bridge_log)
        told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [line for line in told if line.get("event") == event]

    def wait_said(self, event: str, times: int = 1, within_s: float = BACK_S) -> dict[str, Any]:
        """The line that says it for the nth time."""
        self.wait_for(lambda: len(self.said(event)) >= times, f"{event!r} {times} times", within_s)
        return self.said(event)[times - 1]

    def journal(self, kind: str) -> list[list[str]]:
        """The lines of this kind the switch has written, cut apart."""
        lines = _lines(self.stack.settings.switch.record_dir / JOURNAL)
        return [line.split("|") for line in lines if line.startswith(f"{kind}|")]

    def wait_journal(self, kind: str, times: int = 1, within_s: float = BACK_S) -> list[str]:
        """The nth line of this kind, whether or not somebody reads it."""
        self.wait_for(lambda: len(self.journal(kind)) >= times, f"{kind!r} in the journal", within_s)
        return self.journal(kind)[times - 1]

    def start_bridge(self) -> None:
        """Return when calls are taken and the switch is kept."""
        before = len(self.said("ami_up"))
        self.stack.start_bridge()
        self.wait_said("ami_up", before + 1)

    def transactions_since(self, at: datetime) -> list[str]:
        """What clients have open in transactions that began before `at`: their last statements."""

        async def work(conn: Connection) -> list[str]:
            rows = await conn.fetch(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND xact_start < $1",
                at,
            )
            return [row["query"] for row in rows]

        return self.ask(work)

    def same_talk(self, told: Mapping[str, Any], talk: Talk) -> None:
        """Where the app hung up, the talk we bill is what it saw, or longer by less than the margin."""
        app_ms = talk.app_s() * 1000
        assert app_ms - 1 <= told["talk_ms"] <= app_ms + MARGIN_MS

    def charged_once(self, talk: Talk, *, ended_by: str = "journal") -> dict[str, Any]:
        """The call is one record, priced by its talk time, paid once, and nothing is left held. Returns its story."""
        told = self.until_ended(talk)
        billed_s = started_seconds(told["talk_ms"])
        assert (told["state"], told["cdr"]["ended_by"], told["billed_s"]) == ("answered", ended_by, billed_s)
        assert micro(told["charge"]) == billed_s * SECOND_MICRO
        assert micro(told["cost"]) == billed_s * ALPHA_MICRO_PER_S
        assert (told["written_off"], told["hold"]["state"]) == ("0.00", "settled")
        assert len(told["entries"]) == 4
        assert self.value("SELECT count(*) FROM lease WHERE call_id = $1", talk.call_id) == 0
        return told

    def close(self) -> None:
        for peer in self._peers:
            peer.stop()
        self._open.close()

    def prove(self) -> None:
        """All that was begun is over, both files are read, no witness contradicts another, and the books are sound."""
        self.until("SELECT count(*) = 0 FROM lease")
        self.wait_files_read()
        assert self.value("SELECT count(*) FROM discrepancy") == 0
        self.prove_books()


@contextmanager
def build_house(
    postgres: EmbeddedPostgres,
    template: str,
    install: AsteriskInstall,
    sipp: tuple[str, ...],
    where: Path,
    *,
    workers: int = 1,
    manager_port: int | None = None,
    **overrides: Mapping[str, Any],
) -> Iterator[House]:
    """A house that runs.

    template      a migrated, empty database there
    manager_port  where the switch's manager listens, when that is not where the bridge looks for it
    overrides     settings by section, beyond those of the real-Asterisk scenarios
    """
    world = World()
    settings = {section: {**world.overrides.get(section, {}), **overrides.get(section, {})}
                for section in {**world.overrides, **overrides}}  # fmt: skip
    name = f"chaos_{next(_serial)}"
    copy_database(postgres, template, name)
    with Stack(where / "s", install, postgres, database=name, workers=workers, overrides=settings) as stack:
        stack.prepare()
        stack.database_call(world.seed)
        house = House(stack, world, sipp, where)
        try:
            stack.render()
            if manager_port is not None:
                conf = stack.conf_dir / FOLDER / "manager.conf"
                conf.write_text(
                    conf.read_text().replace(
                        f"port = {stack.settings.ami.port}\n", f"port = {manager_port}\n"
                    )
                )
            stack.switch.start()
            house.start_bridge()
            yield house
        finally:
            house.close()


def ended(*peers: Peer) -> list[Seen]:
    return [peer.ended() for peer in peers]


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def micro(amount: str) -> int:
    """A decimal amount of a story in micro-units."""
    return int(Decimal(amount).scaleb(6))
