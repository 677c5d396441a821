"""What tests of calls and their records share: callers of two partners, calls that ended, and what is secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bridge.sandbox.seed import SeedBundle
from tests.api.scene import Api, Partner
from tests.seeded import GERMANY, Who, ended

# Names and prices of carriers, none of which could be anything else
SECRETS = ("vega", "orion", "0.031415", "0.027182", "31415", "27182")
BUY_MICRO = {"alpha": 27_182, "beta": 31_415}
MINUTES = SeedBundle("flat minutes", 1_000_000, 10, {"voice": 60})


@dataclass
class People:
    """One caller of each partner, and one of ours."""

    alpha: Who
    beta: Who
    ours: Who


async def people(api: Api) -> People:
    """Callers with money, and carriers whose names and prices are found wherever they leak."""
    for old, new in (("alpha", "vega"), ("beta", "orion")):
        await api.house.rows("UPDATE trunk SET name = $1 WHERE name = $2", new, old)
        await api.house.rows(
            "UPDATE account SET name = $1 WHERE name = $2", f"carrier {new}", f"carrier {old}"
        )
        await api.house.rows("UPDATE deck SET name = $1 WHERE name = $2", f"buy {new}", f"buy {old}")
        await api.house.rows(
            "UPDATE rate SET rate_micro = $1 WHERE deck_id = (SELECT deck_id FROM deck WHERE name = $2)",
            BUY_MICRO[old],
            f"buy {new}",
        )
    await api.house.reload()
    made = [await api.house.subscriber(50_000_000) for _ in range(3)]
    for who, partner in zip(made[:2], (api.alpha, api.beta), strict=True):
        await belongs(api, who, partner)
    return People(*made)


async def belongs(api: Api, who: Who, partner: Partner) -> None:
    await api.own("account", partner, account_id=UUID(str(who.account_id)))
    await api.own("subscriber", partner, a_number=who.a_number)


async def called(api: Api, who: Who, talk_ms: int = 61_000, dialled: str = GERMANY) -> UUID:
    """A call that has ended; talk_ms 0: nobody answered."""
    call_id = (await api.house.admitted(who, dialled)).frozen.call_id
    await api.house.end(ended(call_id, talk_ms))
    return call_id


def strings(told: Any) -> set[str]:
    """Every string and number in a reply, keys included."""
    if isinstance(told, dict):
        return set(told) | {text for value in told.values() for text in strings(value)}
    if isinstance(told, list):
        return {text for value in told for text in strings(value)}
    return {str(told)}
