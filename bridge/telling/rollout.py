"""Rollouts as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.telling.calls import text_table

Told = Mapping[str, Any]


def tell_rollouts(rollouts: Sequence[Told]) -> str:
    """One line a rollout."""
    rows = [
        (one["app"], one["name"], one["state"], _or(one["invite_limit"], "no limit"), one["rollout_id"])
        for one in rollouts
    ]
    return text_table(
        f"{len(rollouts)} rollouts", "app", "name", "state", "invites each", "rollout", rows=rows
    )


def tell_rollout(rollout: Told) -> str:
    """A rollout with its windows and waves."""
    head = f"{rollout['name']} of {rollout['app']}: {rollout['state']}, {rollout['active']} can call"
    return "\n".join([head, tell_windows(rollout["windows"]), tell_waves(rollout["waves"])])


def tell_windows(windows: Sequence[Told]) -> str:
    rows = [
        (
            one["name"],
            one["state"],
            one["cause"],
            f"{one['activated']} of {_or(one['quota'], 'any')}",
            _or(one["opens_at"], "by hand"),
            _or(one["closes_at"], "by hand"),
            one["window_id"],
        )
        for one in windows
    ]
    columns = ("name", "state", "by", "activated", "opens", "closes", "window")
    return text_table(f"{len(windows)} windows", *columns, rows=rows)


def tell_waves(waves: Sequence[Told]) -> str:
    rows = [
        (
            _or(one["country"], "any"),
            _or(one["platform"], "any"),
            _or(one["of_partner_id"], "any"),
            f"{one['activated']} of {_or(one['quota'], 'any')}",
            "given" if one["server_key"] else "withheld",
        )
        for one in waves
    ]
    columns = ("country", "platform", "partner", "activated", "server key")
    return text_table(f"{len(waves)} waves", *columns, rows=rows)


def tell_chain(chain: Told) -> str:
    """A line a member, below whoever brought it in."""
    depth: dict[str, int] = {}
    lines = []
    for one in chain["data"]:
        depth[one["subscriber_id"]] = depth.get(one["inviter_id"], -1) + 1
        said = f"{one['state'] or 'could call before'}, brought in {one['brought']}"
        more = one["below"] - one["brought"]
        lines.append(
            "  " * depth[one["subscriber_id"]]
            + f"{one['subscriber_id']}  {said}"
            + (f", they {more} more" if more else "")
        )
    if chain["truncated"]:
        lines.append("… and more")
    return "\n".join(lines) or "nobody was brought in yet"


def tell_forecast(found: Told) -> str:
    full = {None: "never at this rate"}.get(found["full_in_h"], f"in {found['full_in_h']} h")
    many = f"{found['expected']} ({found['low']} to {found['high']}), at most {found['at_most']}"
    return "\n".join(
        [
            f"{found['active']} can call now. After {found['hours']:g} h with the window open: {many}.",
            f"Each brings in {found['rate_h']} an hour; the quota or the waiting list is used up {full}.",
            *(f"- {one}" for one in found["assumptions"]),
        ]
    )


def tell_replay(found: Told) -> str:
    if not found["problems"]:
        return f"{found['rollout_id']}: the events lead to what the tables say"
    return "\n".join([f"{found['rollout_id']}: {len(found['problems'])} differences", *found["problems"]])


def tell_invite(invite: Told) -> str:
    return f"code {invite['code']}, good until {invite['expires_at']}; it is not kept here and cannot be shown again"


def _or(value: object, otherwise: str) -> object:
    return otherwise if value is None else value
