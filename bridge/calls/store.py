"""Calls in the database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from bridge import queries
from bridge.calls.caller import Caller, Rung, SwitchCall, Written, allowances_of, burns_of, caller_of
from bridge.calls.ended import Ended
from bridge.calls.frozen import Frozen, thaw
from bridge.calls.way import OUT, Way
from bridge.database import Connection, connection, transaction
from bridge.rating.allowance import Allowance, Burn
from bridge.rating.reserve import Reservation
from bridge.rating.tariff import Tariff
from bridge.routing.plan import Route, RoutePlan
from bridge.telephony.cause import Outcome, Refuse, RefuseReason

__all__ = ["CallStore", "Caller", "Rung", "Session", "SwitchCall", "Written", "caller_of"]

PARTITION_MONTHS = 3


class Session:
    """One connection for the two round trips of an admission."""

    def __init__(self, conn: Connection, switch_id: UUID) -> None:
        self._conn, self._switch_id = conn, switch_id

    @property
    def conn(self) -> Connection:
        """For what only calls from the network ask."""
        return self._conn

    async def caller(self, app: str, a_number: str, b_number: str | None, at: datetime) -> Caller | None:
        """The subscriber of an app with this number, and what they may burn at `at`.

        b_number   to ask whether it belongs to the same app; None: that makes no difference
        """
        row = await queries.calls.caller.one(self._conn, app=app, a_number=a_number, b_number=b_number, at=at)
        return None if row is None else caller_of(row)

    async def caller_known(
        self, subscriber_id: UUID, b_number: str | None, at: datetime, *, shown: str | None = None
    ) -> Caller | None:
        """The same of a subscriber who is known. shown: the number they want to be seen as; None: their own."""
        row = await queries.calls.caller_known.one(
            self._conn, subscriber_id=subscriber_id, b_number=b_number, at=at, shown=shown
        )
        return None if row is None else replace(caller_of(row), may_show=row["may_show"])

    async def ring(
        self,
        asked: SwitchCall,
        caller: Caller,
        a_number: str,
        b_number: str,
        sell: Tariff,
        way: Way,
        *,
        activate: bool,
        limit_ms: int,
        lease_s: int,
        wake_s: int,
        at: datetime,
    ) -> Rung:
        """Write a call that rings the phones of `way.callee_id`, or nothing. Nobody pays for it.

        activate   the callee may not use the app yet, and the call may enable them
        """
        row = await queries.calls.ring.one(
            self._conn,
            switch_id=self._switch_id,
            uniqueid=asked.uniqueid,
            sip_call_id=asked.sip_call_id,
            channel=asked.channel,
            subscriber_id=caller.subscriber_id,
            account_id=caller.account_id,
            a_number=a_number,
            dialled=asked.dialled,
            b_number=b_number,
            sell=compact(sell.to_json()),
            routes=compact(RoutePlan((), ()).to_json()),
            currency=sell.currency,
            limit_ms=limit_ms,
            lease_s=lease_s,
            at=at,
            direction=way.direction,
            callee_id=way.callee_id,
            trunk_in_id=way.trunk_in_id,
            leg_class=way.leg_class,
            anonymous=way.anonymous,
            activate=activate,
            wake_s=wake_s,
        )
        return Rung(row["status"], row["call_id"], bool(row["reached"]))

    async def trunks_live(self) -> dict[str, int]:
        """Calls now on each trunk that has a capacity."""
        return {str(row["trunk_id"]): row["live"] for row in await queries.calls.trunks_live.all(self._conn)}

    async def live_now(self) -> int:
        """Calls of the switch that may still be running."""
        return int(await queries.calls.live_now.value(self._conn, switch_id=self._switch_id))

    async def admit(
        self,
        asked: SwitchCall,
        caller: Caller,
        a_number: str,
        b_number: str,
        sell: Tariff,
        routes: RoutePlan,
        *,
        trunk_cap: int | None,
        reserved: Reservation,
        lease_s: int,
        at: datetime,
        trunk_cps: int | None = None,
        way: Way = OUT,
    ) -> Written:
        """Write call, lease, hold and burns, or nothing."""
        query, pace = queries.calls.admit, {}
        if trunk_cps is not None:
            query, pace = queries.calls.admit_paced, {"trunk_cps": trunk_cps}
        row = await query.one(
            self._conn,
            switch_id=self._switch_id,
            uniqueid=asked.uniqueid,
            sip_call_id=asked.sip_call_id,
            channel=asked.channel,
            subscriber_id=caller.subscriber_id,
            account_id=caller.account_id,
            a_number=a_number,
            dialled=asked.dialled,
            b_number=b_number,
            sell=compact(sell.to_json()),
            routes=compact(routes.to_json()),
            trunk_id=routes.routes[0].trunk_id,
            trunk_cap=trunk_cap,
            hold_micro=reserved.hold_micro,
            currency=sell.currency,
            limit_ms=reserved.limit_ms,
            lease_s=lease_s,
            at=at,
            leg_class=way.leg_class,
            anonymous=way.anonymous,
            after_call_id=way.after_call_id,
            **units_of(reserved.burns),
            **pace,
        )
        return Written(row["status"], row["call_id"], row["available_micro"] or 0)

    async def refuse(
        self,
        asked: SwitchCall,
        caller: Caller | None,
        b_number: str | None,
        refused: Refuse,
        way: Way = OUT,
    ) -> None:
        """Record a refusal. What a stranger sent is kept short, and free of what text columns cannot hold."""
        await queries.calls.refuse.run(
            self._conn,
            switch_id=self._switch_id,
            uniqueid=asked.uniqueid,
            sip_call_id=kept(asked.sip_call_id),
            subscriber_id=caller.subscriber_id if caller else None,
            account_id=caller.account_id if caller else None,
            a_number=kept(asked.caller),
            dialled=kept(asked.dialled),
            b_number=b_number,
            reason=refused.reason.value,
            q850_cause=refused.cause,
            # What other refusals say in detail is for whoever runs the house, and in the log.
            detail=refused.detail if refused.reason is RefuseReason.not_enabled else None,
            **way.columns(),
        )


class CallStore:
    """Calls of one switch."""

    def __init__(self, pool: asyncpg.Pool, switch_id: UUID) -> None:
        self._pool, self.switch_id = pool, switch_id

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        async with connection(self._pool) as conn:
            yield Session(conn, self.switch_id)

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Connection]:
        """A transaction in which records of the switch are used and its file position is moved."""
        async with transaction(self._pool) as conn:
            yield conn

    async def frozen(self, call_ids: Sequence[UUID], conn: Connection | None = None) -> dict[UUID, Frozen]:
        """What calls were admitted on; unknown and refused ones are missing."""
        if conn is None:
            async with connection(self._pool) as own:
                return await self.frozen(call_ids, own)
        rows = await queries.calls.frozen.all(conn, call_ids=call_ids)
        return {row["call_id"]: thaw(row) for row in rows if row["sell"] is not None}

    async def reached(self, subscriber_id: UUID) -> bool:
        """Whether a phone of a subscriber is registered now."""
        async with connection(self._pool) as conn:
            return bool(await queries.calls.reached.value(conn, subscriber_id=subscriber_id))

    async def attempt_ended(
        self,
        call_id: UUID,
        attempt_no: int,
        route: Route,
        outcome: Outcome,
        *,
        sip_code: int | None,
        q850_cause: int | None,
        pdd_ms: int | None,
        next_no: int,
        next_route: Route | None,
        next_cap: int | None,
        lease_s: int,
        next_cps: int | None = None,
    ) -> str:
        """Keep a failed attempt and move the lease on; a repeat changes nothing.

        returns  ok · full: the next trunk is, and nothing was written · gone: the call has ended
        """
        query, pace = queries.calls.attempt_ended, {}
        if next_cps is not None:
            query, pace = queries.calls.attempt_ended_paced, {"next_cps": next_cps}
        async with connection(self._pool) as conn:
            said: str = await query.value(
                conn,
                call_id=call_id,
                attempt_no=attempt_no,
                trunk_id=route.trunk_id,
                outcome=outcome.reason,
                fault=outcome.fault.value,
                sip_code=sip_code,
                q850_cause=q850_cause,
                pdd_ms=pdd_ms,
                currency=route.buy.currency,
                buy=compact(route.buy.to_json()),
                next_attempt_no=next_no,
                next_trunk_id=next_route.trunk_id if next_route else None,
                next_cap=next_cap,
                lease_s=lease_s,
                **pace,
            )
            return said

    async def answered(
        self,
        conn: Connection,
        rows: Iterable[tuple[UUID, datetime, int | None]],
        *,
        lead_s: float,
        grace_s: int,
    ) -> None:
        """Note answers: (call, instant, PDD in ms). The first note of a call stands."""
        call_ids, ats, pdds = zip(*rows, strict=True)
        await queries.calls.answered.run(
            conn, call_ids=call_ids, answered_ats=ats, pdd_mss=pdds, lead_s=lead_s, grace_s=float(grace_s)
        )

    async def cut_elsewhere(self, conn: Connection, channels: Mapping[UUID, str]) -> None:
        """The channel on which the switch limits each of these calls; from here on extensions go there."""
        await queries.originations.cut_elsewhere.run(
            conn, call_ids=list(channels), channels=list(channels.values())
        )

    async def end(self, conn: Connection, ended: Sequence[Ended]) -> dict[UUID, tuple[int, int]]:
        """End calls, each once. Returns (charged, written off) in micro-units of those that were ended here."""
        rows = await queries.calls.end.all(conn, ended=[one.row() for one in ended])
        return {row["ended_call_id"]: (row["charged_micro"], row["written_off_micro"]) for row in rows}

    async def due_for_extension(self) -> list[Mapping[str, Any]]:
        async with connection(self._pool) as conn:
            return list(await queries.calls.due_for_extension.all(conn, switch_id=self.switch_id))

    async def extend(
        self, call_id: UUID, reserved: Reservation, *, extend_at: datetime, expires_at: datetime, at: datetime
    ) -> tuple[str, int]:
        """Raise a hold to new totals of money and talk, and add units.

        returns  ok, no_credit, units_gone or gone; and what is available beyond the hold
        """
        async with connection(self._pool) as conn:
            row = await queries.calls.extend.one(
                conn,
                call_id=call_id,
                held_micro=reserved.hold_micro,
                limit_ms=reserved.limit_ms,
                extend_at=extend_at,
                expires_at=expires_at,
                at=at,
                **units_of(reserved.burns),
            )
            return row["status"], row["available_micro"] or 0

    async def bundled(
        self, call_id: UUID, subscriber_id: UUID, at: datetime
    ) -> tuple[Sequence[Burn], tuple[Allowance, ...]]:
        """The units a call holds, and the allowances its subscriber has left at `at`."""
        async with connection(self._pool) as conn:
            row = await queries.calls.bundled.one(conn, call_id=call_id, subscriber_id=subscriber_id, at=at)
            return burns_of(row["burns"]), allowances_of(row["allowances"])

    async def burns(self, conn: Connection, call_ids: Sequence[UUID]) -> dict[UUID, Sequence[Burn]]:
        """The units that calls hold, or have burnt."""
        rows = await queries.calls.burns.all(conn, call_ids=call_ids)
        return {row["call_id"]: burns_of(row["burns"]) for row in rows}

    async def ask_again(self, call_id: UUID, later_s: float) -> None:
        async with connection(self._pool) as conn:
            await queries.calls.ask_again.run(conn, call_id=call_id, later_s=later_s)

    async def leases(self) -> list[Mapping[str, Any]]:
        """Calls of this switch that may still be running."""
        async with connection(self._pool) as conn:
            return list(await queries.calls.leases.all(conn, switch_id=self.switch_id))

    async def endings(self, conn: Connection, call_ids: Sequence[UUID]) -> dict[UUID, Mapping[str, Any]]:
        rows = await queries.calls.endings.all(conn, call_ids=call_ids)
        return {row["call_id"]: row for row in rows}

    async def disagree(self, conn: Connection, call_id: UUID, kind: str, detail: Mapping[str, Any]) -> None:
        """Record that two witnesses of one call differ; the first record of a kind stands."""
        await queries.calls.disagree.run(conn, call_id=call_id, kind=kind, detail=compact(detail))

    async def ensure_partitions(self) -> int:
        """Make the months that are missing. Returns how many were."""
        async with connection(self._pool) as conn:
            return int(await queries.switch.partitions.value(conn, months=PARTITION_MONTHS))


def units_of(burns: Sequence[Burn]) -> dict[str, list[Any] | None]:
    """As call_admit_v2 and call_extend_v2 take them."""
    return {
        "allowance_ids": [burn.allowance_id for burn in burns] or None,
        "units": [burn.units for burn in burns] or None,
        "pers": [burn.per for burn in burns] or None,
    }


def compact(value: Mapping[str, Any]) -> str:
    """JSON without spaces: it is written with every call."""
    return json.dumps(value, separators=(",", ":"))


def kept(text: str) -> str:
    """What a stranger sent, short, and free of what text columns cannot hold."""
    return text[:64].encode("ascii", "replace").decode().replace("\0", "?")
