"""Calls made by order: A is rung, then B, each leg a call of A's own, admitted and billed like any other.

A leg begins once: whoever asks for it first claims it in the database, and only then is it admitted. A repeated order,
a second worker or a stranger's channel finds it claimed, and nothing rings.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from bridge import queries
from bridge.calls.admit import Admissions, Admitted
from bridge.calls.book import Book
from bridge.calls.store import CallStore, SwitchCall
from bridge.database import Connection
from bridge.telephony.cause import Refuse

LegName = Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class Leg:
    """A leg that asks to begin, on a channel of the switch."""

    origination_id: UUID
    name: LegName
    channel: str
    uniqueid: str


@dataclass(frozen=True, slots=True)
class LegGoingOn:
    """A leg whose phones were not reached."""

    origination_id: UUID
    name: LegName


class Legs:
    """Begins legs."""

    def __init__(self, admissions: Admissions, store: CallStore) -> None:
        self._admissions, self._store = admissions, store

    async def begin(self, leg: Leg, book: Book, at: datetime) -> Admitted | Refuse | None:
        """Claim and admit. Before A is rung it is seen to that B could be, too.

        returns  None: it is not this one's to begin
        raises   StoreUnavailable: nothing rings, and what was claimed is given up
        """
        async with self._store.batch() as conn:
            row = await queries.originations.leg.one(
                conn, origination_id=leg.origination_id, switch_id=self._store.switch_id, leg=leg.name
            )
        if not row["begun"]:
            return None
        a_number, b_number = row["a_number"], row["b_number"]
        asked = {
            name: SwitchCall(
                row["app"],
                a_number,
                dialled,
                leg.channel,
                leg.uniqueid,
                sip_call_id_of(leg.origination_id, name),
                to_self=name == "a",
            )
            for name, dialled in (("a", a_number), ("b", b_number))
        }
        if leg.name == "a":
            foreseen = await self._admissions.foresee(asked["a"], asked["b"], book, at)
            if foreseen is not None:
                await self._refused(leg, "b_refused", foreseen)
                return foreseen
        verdict = await self._admissions.admit(asked[leg.name], book, at)
        if isinstance(verdict, Refuse):
            await self._refused(leg, f"{leg.name}_refused", verdict)
            return verdict
        await self._is(leg.origination_id, leg.name, verdict.frozen.call_id)
        return verdict

    async def leaves(self, conn: Connection, call_id: UUID) -> LegGoingOn | None:
        """A call that reached no phone is about to end, and to go on as another. None: it is no leg."""
        row = await queries.originations.leg_goes_on.one(
            conn, call_id=call_id, switch_id=self._store.switch_id
        )
        return None if row is None else LegGoingOn(row["origination_id"], row["leg"])

    async def went_on(self, leg: LegGoingOn, verdict: Admitted | Refuse) -> None:
        """What became of it."""
        if isinstance(verdict, Refuse):
            await self._refused(leg, f"{leg.name}_refused", verdict)
        else:
            await self._is(leg.origination_id, leg.name, verdict.frozen.call_id)

    async def _is(self, origination_id: UUID, leg: LegName, call_id: UUID) -> None:
        async with self._store.batch() as conn:
            await queries.originations.leg_is.run(
                conn, origination_id=origination_id, leg=leg, call_id=call_id
            )

    async def _refused(self, leg: Leg | LegGoingOn, reason: str, refused: Refuse) -> None:
        async with self._store.batch() as conn:
            if leg.name == "a":
                await queries.originations.refused.run(
                    conn,
                    origination_id=leg.origination_id,
                    reason=reason,
                    refuse_reason=refused.reason.value,
                )
            else:
                await queries.originations.b_refused.run(
                    conn, origination_id=leg.origination_id, refuse_reason=refused.reason.value
                )


def sip_call_id_of(origination_id: UUID, leg: str) -> str:
    """No SIP dialogue stands behind a leg's first half: so its call is found by this."""
    return f"{origination_id}.{leg}"
