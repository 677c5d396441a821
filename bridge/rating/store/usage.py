"""Reported usage in the database: many records in a few statements, so that no account is locked for long."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection
from bridge.errors import Conflict, Invalid, NotFound, StoreError
from bridge.rating.allowance import VOICE, Allowance, Burn
from bridge.rating.usage import FairUse, RatedUsage, ServicePrice, rate_usage

AMOUNT_MICRO_MAX: Final = 10**18  # of one booking
BOOKINGS_AT_ONCE: Final = 200  # of one statement, whose time is limited
FREE: Final = ServicePrice(0, 1)


@dataclass(frozen=True, slots=True)
class Report:
    """Messages ("sms") or bytes ("data", "data.messenger") that were used.

    key   the same again is the first one again
    """

    subscriber_id: UUID
    service: str
    quantity: int
    used_at: datetime
    key: str


@dataclass(frozen=True, slots=True)
class Usage:
    """A usage as it was recorded. Money in micro-units."""

    usage_id: UUID
    burns: tuple[Burn, ...]
    charged_quantity: int
    amount_micro: int
    written_off_micro: int
    currency: str
    throttled: bool


@dataclass(frozen=True, slots=True)
class WrongReport:
    """What is wrong with one of several reports.

    place   from 0
    field   of the report: subscriber_id, key or service
    """

    place: int
    field: str
    error: StoreError


class ReportsRefused(StoreError):
    """Something is wrong with some of the reports, and none was booked."""

    def __init__(self, wrong: Sequence[WrongReport]) -> None:
        super().__init__(str(wrong[0].error))
        self.wrong = wrong


async def report_usage(
    conn: Connection, subscriber_id: UUID, service: str, quantity: int, *, key: str, at: datetime
) -> Usage:
    """One report, as `report_all` books it.

    raises   ValueError: no quantity, or a service that is no usage · Conflict: the key was used for another usage
             NotFound: no such subscriber, or no price · Invalid: it costs more than 10^12, or the account is closed
    """
    try:
        (usage,) = await report_all(conn, [Report(subscriber_id, service, quantity, at, key)])
    except ReportsRefused as refused:
        raise refused.wrong[0].error from None
    return usage


async def report_all(conn: Connection, reports: Sequence[Report]) -> list[Usage]:
    """Record what was used, all reports or none: burn units, book the rest. In the order in which they are given.

    Inside the caller's transaction. It was used already, so what the account cannot pay is written off. Accounts are
    locked in the order of their ids, as everywhere. A key again gets the first result.

    raises   ValueError: no quantity, or a service that is no usage · ReportsRefused, with all that is wrong
    """
    if any(one.quantity <= 0 or one.service == VOICE for one in reports):
        raise ValueError("report messages or bytes, more than none of them; talk is charged by its calls")
    work = await _begin(conn, reports)
    results = [work.take(place, one) for place, one in enumerate(reports)]
    if work.wrong:
        raise ReportsRefused(work.wrong)
    await _write(conn, work.fresh)
    return [one for one in results if one is not None]


class _Bad(Exception):
    """A report that cannot be booked."""

    def __init__(self, field: str, error: StoreError) -> None:
        super().__init__(str(error))
        self.field, self.error = field, error


@dataclass(slots=True)
class _Left:
    """An allowance while reports burn it."""

    row: Mapping[str, Any]
    covers: Mapping[str, int]
    units: int | None
    fair: int | None

    def fits(self, one: Report, zone: str) -> bool:
        return (
            self.row["from_at"] <= one.used_at < self.row["until_at"]
            and self.row["zone"] in ("any", zone)
            and one.service in self.covers
            and (self.units is None or self.units > 0)
        )

    def for_service(self, service: str) -> FairUse:
        row = self.row
        having = Allowance(str(row["allowance_id"]), row["name"], self.covers[service], self.units)
        return FairUse(having, self.fair)


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A usage that is to be written."""

    report: Report
    payer: Mapping[str, Any]
    price: ServicePrice
    usage: Usage


@dataclass(slots=True)
class _Work:
    """What reports are rated from, and what has become of them so far.

    first   by key: account, service and quantity, and the result
    """

    payers: Mapping[UUID, Mapping[str, Any]]
    prices: Mapping[tuple[UUID, str, str], ServicePrice]
    left: Mapping[UUID, Sequence[_Left]]
    available_micro: dict[UUID, int]
    first: dict[str, tuple[tuple[UUID, str, int], Usage]]
    usage_ids: list[UUID]
    wrong: list[WrongReport]
    fresh: list[_Fresh]

    def take(self, place: int, one: Report) -> Usage | None:
        """None: something is wrong with the report."""
        try:
            return self._usage(place, one)
        except _Bad as bad:
            self.wrong.append(WrongReport(place, bad.field, bad.error))
            return None

    def _usage(self, place: int, one: Report) -> Usage:
        payer = self.payers.get(one.subscriber_id)
        if payer is None:
            raise _Bad("subscriber_id", NotFound(f"there is no subscriber {one.subscriber_id}"))
        same = (payer["account_id"], one.service, one.quantity)
        if one.key in self.first:
            known, usage = self.first[one.key]
            if known != same:
                raise _Bad("key", Conflict(f"key {one.key} was used for another usage"))
            return usage
        price = self.prices.get((payer["plan_id"], one.service, payer["zone"]))
        having = [left for left in self.left.get(payer["account_id"], ()) if left.fits(one, payer["zone"])]
        try:
            rated = rate_usage(one.quantity, [left.for_service(one.service) for left in having], price)
        except ValueError as error:
            raise _Bad("service", NotFound(f"{one.service}: {error}")) from None
        if rated.amount_micro > AMOUNT_MICRO_MAX:
            raise _Bad("service", Invalid(f"{one.service}: so much of it cannot be booked"))
        payable_micro = min(rated.amount_micro, max(self.available_micro[payer["account_id"]], 0))
        if payable_micro and payer["state"] == "closed":
            raise _Bad("subscriber_id", Invalid("the subscriber's account is closed"))
        self.available_micro[payer["account_id"]] -= payable_micro
        self._burn(having, rated)
        usage = Usage(
            self.usage_ids[place],
            rated.burns,
            rated.charged_quantity,
            rated.amount_micro,
            rated.amount_micro - payable_micro,
            payer["currency"],
            rated.throttled,
        )
        self.first[one.key] = same, usage
        self.fresh.append(_Fresh(one, payer, price or FREE, usage))
        return usage

    @staticmethod
    def _burn(having: Sequence[_Left], rated: RatedUsage) -> None:
        units = {burn.allowance_id: burn.units for burn in rated.burns}
        for left in having:
            used = units.get(str(left.row["allowance_id"]), 0)
            left.units = None if left.units is None else left.units - used
            left.fair = None if left.fair is None else left.fair - used


async def _begin(conn: Connection, reports: Sequence[Report]) -> _Work:
    """Lock the accounts, then read all that the reports are rated from."""
    subscribers = list({one.subscriber_id for one in reports})
    payers = {
        row["subscriber_id"]: row
        for row in await queries.allowance.payers.all(conn, subscriber_ids=subscribers)
    }
    accounts = {row["account_id"]: row["available_micro"] for row in payers.values()}
    wanted = {
        (payers[one.subscriber_id]["plan_id"], one.service, payers[one.subscriber_id]["zone"])
        for one in reports
        if one.subscriber_id in payers
    }
    plans, services, zones = zip(*wanted, strict=True) if wanted else ((), (), ())
    prices = await queries.allowance.service_prices.all(
        conn, plan_ids=list(plans), services=list(services), zones=list(zones)
    )
    left: dict[UUID, list[_Left]] = {}
    for row in await queries.allowance.left_of.all(
        conn, account_ids=list(accounts), since=min(one.used_at for one in reports)
    ):
        covers = json.loads(row["covers"])
        left.setdefault(row["account_id"], []).append(_Left(row, covers, row["units_left"], row["fair_left"]))
    return _Work(
        payers,
        {
            (row["plan_id"], row["service"], row["zone"]): ServicePrice(row["price_micro"], row["per"])
            for row in prices
        },
        left,
        accounts,
        await _known(conn, [one.key for one in reports]),
        [row["usage_id"] for row in await queries.allowance.new_usage_ids.all(conn, number=len(reports))],
        [],
        [],
    )


async def _known(conn: Connection, keys: Sequence[str]) -> dict[str, tuple[tuple[UUID, str, int], Usage]]:
    """What was reported before with these keys."""
    rows = await queries.allowance.usage_by_keys.all(conn, keys=list(keys))
    burns: dict[UUID, list[Burn]] = {}
    if rows:
        ids = [row["usage_id"] for row in rows]
        for one in await queries.allowance.usage_burns.all(conn, usage_ids=ids):
            burn = Burn(str(one["allowance_id"]), one["name"], one["per"], one["units"])
            burns.setdefault(one["usage_id"], []).append(burn)
    return {
        row["idempotency_key"]: (
            (row["account_id"], row["service"], row["quantity"]),
            Usage(
                row["usage_id"],
                tuple(burns.get(row["usage_id"], ())),
                row["charged_quantity"],
                row["amount_micro"],
                row["written_off_micro"],
                row["currency"],
                row["throttled"],
            ),
        )
        for row in rows
    }


async def _write(conn: Connection, fresh: Sequence[_Fresh]) -> None:
    burns = [(one.usage.usage_id, no, burn) for one in fresh for no, burn in enumerate(one.usage.burns, 1)]
    if burns:
        await queries.allowance.burn_now.run(
            conn,
            usage_ids=[usage_id for usage_id, _, _ in burns],
            nos=[no for _, no, _ in burns],
            allowance_ids=[burn.allowance_id for _, _, burn in burns],
            units=[burn.units for _, _, burn in burns],
            pers=[burn.per for _, _, burn in burns],
        )
    for at in range(0, len(fresh), BOOKINGS_AT_ONCE):
        some = fresh[at : at + BOOKINGS_AT_ONCE]
        await queries.allowance.record_usage.run(
            conn,
            usage_ids=[one.usage.usage_id for one in some],
            account_ids=[one.payer["account_id"] for one in some],
            partner_ids=[one.payer["partner_id"] for one in some],
            keys=[one.report.key for one in some],
            services=[one.report.service for one in some],
            zones=[one.payer["zone"] for one in some],
            quantities=[one.report.quantity for one in some],
            charged=[one.usage.charged_quantity for one in some],
            prices=[one.price.price_micro for one in some],
            pers=[one.price.per for one in some],
            amounts=[one.usage.amount_micro for one in some],
            written_off=[one.usage.written_off_micro for one in some],
            currencies=[one.usage.currency for one in some],
            throttled=[one.usage.throttled for one in some],
            used_ats=[one.report.used_at for one in some],
            taxes=[one.payer["tax"] for one in some],
        )
