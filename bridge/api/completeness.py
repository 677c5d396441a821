"""The chain by which a partner proves that it has every record, and each as it was numbered. docs/completeness.md"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Query, Response
from pydantic import Field

from bridge import queries
from bridge.api.desk import Desk, Needs
from bridge.api.fields import PartnerId, Told, show_at
from bridge.api.problems import Problem, responses
from bridge.api.route import routes
from bridge.database import Connection
from bridge.exports.completeness import chain
from bridge.exports.sequence import HOUSE, horizon

router = routes("completeness")
Reader = Annotated[Desk, Depends(Needs("cdrs:read"))]

DAYS: Final = 31  # told, unless `since` is given
DAYS_MAX: Final = 400
HASHES_MAX: Final = 10_000
NO_MAX: Final = 2**63 - HASHES_MAX - 1

Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2200, 1, 1))]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256")]


class ChainDay(Told):
    """One day (UTC) that is over. last_no: first_no - 1 where nothing happened."""

    day: date
    first_no: int = Field(examples=[1])
    last_no: int = Field(examples=[48211])
    records: int
    previous: Hash
    hash: Hash


class Completeness(Told):
    """Days, oldest first. sealed_until: all that ended before it has its number."""

    sealed_until: datetime | None
    days: list[ChainDay]


class RecordHashes(Told):
    """One for each record, in the order of their numbers."""

    first_no: int
    hashes: list[Hash]


async def _whose(desk: Desk, conn: Connection, named: UUID | None) -> UUID:
    """raises   Problem 404: there is no such partner, or it is another one than the caller"""
    partner_id = desk.partner_of(named)
    if partner_id is None:
        return HOUSE
    if await queries.cdrs.visible_partner.one(conn, partner_id=partner_id) is None:
        raise Problem(404, "There is no such partner.")
    return partner_id


@router.get("", response_model=Completeness, responses=responses(404), summary="The daily chain of records")
async def read_completeness(
    desk: Reader,
    since: Annotated[Day | None, Query(description="The first day; 31 days ago, unless given")] = None,
    until: Annotated[Day | None, Query(description="The day after the last")] = None,
    partner_id: Annotated[PartnerId | None, Query(description="For operators; none: the house's own")] = None,
) -> Response:
    last = until or datetime.now(UTC).date() + timedelta(days=1)
    first = since or last - timedelta(days=DAYS)
    if not timedelta(0) < last - first <= timedelta(days=DAYS_MAX):
        raise Problem(400, f"Ask for 1 to {DAYS_MAX} days: since before until.")
    async with desk.reading() as conn:
        owner = await _whose(desk, conn, partner_id)
        sealed = await horizon(conn)
        days = await chain(conn, owner, first, last)
    return desk.shown({"sealed_until": show_at(sealed), "days": days})


@router.get(
    "/hashes", response_model=RecordHashes, responses=responses(404), summary="What single records hash to"
)
async def read_record_hashes(
    desk: Reader,
    first_no: Annotated[int, Query(ge=1, le=NO_MAX, description="The first record asked for")],
    count: Annotated[int, Query(ge=1, le=HASHES_MAX, description="So many from there on")] = HASHES_MAX,
    partner_id: Annotated[PartnerId | None, Query(description="For operators; none: the house's own")] = None,
) -> Response:
    """To find the one record that is another than it was, once a day does not come out the same."""
    last_no = first_no + count - 1
    async with desk.reading() as conn:
        owner = await _whose(desk, conn, partner_id)
        if owner == HOUSE:
            rows = await queries.sequence.house_record_hashes.all(conn, first_no=first_no, last_no=last_no)
        else:
            rows = await queries.sequence.record_hashes.all(
                conn, partner_id=owner, first_no=first_no, last_no=last_no
            )
    return desk.shown({"first_no": first_no, "hashes": [row["hash"].hex() for row in rows]})
