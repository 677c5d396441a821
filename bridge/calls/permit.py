"""Whether somebody may call a number at all: before it is asked over what, and for how much."""

from __future__ import annotations

from bridge.calls.caller import Caller
from bridge.telephony.cause import Refuse, RefuseReason, refuse
from bridge.telephony.number import Number, barred


def permitted(caller: Caller | None, number: Number | Refuse) -> Refuse | tuple[Caller, Number]:
    """In this order: number, account state, what they want to be seen as, rollout, barred ranges, concurrency."""
    if isinstance(number, Refuse) and number.reason is RefuseReason.invalid_number:
        return number
    if caller is None:
        return refuse(RefuseReason.unknown_caller)
    if caller.subscriber_state != "active" or caller.account_state != "active":
        return refuse(RefuseReason.account_suspended)
    if not caller.may_show:
        return refuse(RefuseReason.caller_id)
    if not caller.allowed:
        return refuse(RefuseReason.not_invited)
    if isinstance(number, Refuse):
        return number
    if (range_name := barred(number)) is not None:
        return refuse(RefuseReason.barred_destination, range_name)
    if caller.call_cap is not None and caller.live >= caller.call_cap:
        return refuse(RefuseReason.too_many_calls, f"{caller.live} of {caller.call_cap}")
    return caller, number
