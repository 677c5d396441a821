"""Who calls whom: as the switch presents a call, and as the database knows the caller and the callee."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bridge.rating.allowance import Allowance, Burn
from bridge.rating.plan import HOME


@dataclass(frozen=True, slots=True)
class SwitchCall:
    """A call as the switch presents it. `caller`, `dialled` and `shown` come from a stranger.

    app        the endpoint: of an app's gateway, or a user's own phone
    shown      what the caller wants to be seen as, as a SIP header has it; "": their own number
    anonymous  the caller does not want to be seen
    to_self    the first leg of a call that was ordered: it goes to the caller's own number
    trunk_in_id  over which it comes from the network
    """

    app: str
    caller: str
    dialled: str
    channel: str
    uniqueid: str
    sip_call_id: str
    shown: str = ""
    anonymous: bool = False
    to_self: bool = False
    trunk_in_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of the subscriber who calls. `live` is counted only where there is a cap.

    spend_left_micro   what the account's cap leaves for this day or month; None: it has none
    may_show           the number they want to be seen as is theirs
    """

    subscriber_id: UUID
    account_id: UUID
    plan_id: str
    subscriber_state: str
    account_state: str
    currency: str
    available_micro: int
    call_cap: int | None
    allowed: bool
    live: int
    zone: str = HOME
    on_net: bool = False
    allowances: tuple[Allowance, ...] = ()
    spend_left_micro: int | None = None
    app_id: UUID | None = None
    a_number: str = ""
    may_show: bool = True

    @property
    def budget_micro(self) -> int:
        """What a call may cost: the smaller of what is available and what the cap leaves."""
        return self.available_micro if not self.capped else self.spend_left_micro or 0

    @property
    def capped(self) -> bool:
        """The cap ends a call before the money does."""
        return self.spend_left_micro is not None and self.spend_left_micro < self.available_micro


@dataclass(frozen=True, slots=True)
class Callee:
    """Another user of the caller's app. allowed: they may use it already."""

    subscriber_id: UUID
    allowed: bool


@dataclass(frozen=True, slots=True)
class Rung:
    """What the admission of a call that rings phones said: ok, no_credit, too_many_calls, or why the rollout does not
    let the callee in. reached: a phone is there."""

    status: str
    call_id: UUID | None
    reached: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What the atomic admission said: ok, no_credit, spend_cap, too_many_calls, trunk_full, trunk_paced, units_gone."""

    status: str
    call_id: UUID
    available_micro: int


def caller_of(row: Mapping[str, Any]) -> Caller:
    """As the query `caller` has it."""
    return Caller(
        subscriber_id=row["subscriber_id"],
        account_id=row["account_id"],
        plan_id=str(row["plan_id"]),
        subscriber_state=row["subscriber_state"],
        account_state=row["account_state"],
        currency=row["currency"],
        available_micro=row["available_micro"],
        call_cap=row["call_cap"],
        allowed=row["allowed"],
        live=row["live"],
        zone=row["zone"],
        on_net=row["on_net"],
        allowances=allowances_of(row["allowances"]),
        spend_left_micro=row["spend_left_micro"],
        app_id=row["app_id"],
        a_number=row["a_number"],
    )


def allowances_of(told: str | None) -> tuple[Allowance, ...]:
    """As the query `caller` has them."""
    if told is None:
        return ()
    return tuple(
        Allowance(allowance_id, name, per, left, tuple(prefixes))
        for allowance_id, name, per, left, prefixes in json.loads(told)
    )


def burns_of(told: str | None) -> tuple[Burn, ...]:
    """As the query `burns` has them."""
    return () if told is None else tuple(Burn(*one) for one in json.loads(told))
