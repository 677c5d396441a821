"""Rows of a simulated month, on their way into the tables: many at a time, by COPY."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

from bridge.database import Connection

BATCH: Final = 20_000  # rows of one table that are written at a time
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# In the order in which they are written: what others refer to comes first.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    table: tuple(columns.split())
    for table, columns in {
        "account": "account_id kind name currency funding credit_limit_micro created_at bundled partner_id",
        "switch": "switch_id name",
        "deck": "deck_id name side currency created_at terms partner_id",
        "rate": "rate_id deck_id prefix destination rate_micro connect_fee_micro initial_s next_s minimum_s valid",
        "deck_band": "deck_id position name days from_minute to_minute band_deck_id currency",
        "plan": "plan_id name deck_id margin_floor_micro zero_rated on_net_free partner_id",
        "service_price": "plan_id service zone price_micro per",
        "bundle": "bundle_id name currency price_micro units fair_use_units covers prefixes days renews"
        " plan_id partner_id",
        "app": "app_id name sip_host phones launched",
        "trunk": "trunk_id name account_id deck_id host priority ring_s partner_id allowed_ips",
        "subscriber": "subscriber_id app_id a_number account_id plan_id state created_at partner_id",
        "fx_rate": "base quote valid_on rate_nano source noted_at",
        "partner_billing": "partner_id legal_name street postcode city country vat_id contact phone email"
        " buyer_reference iban bic"
        " reseller self_billing payment_days language changed_at",
        "cdr_recipient": "recipient_id code partner_id types format period time_zone target since_at created_at",
        "deal": "deal_id partner_id name currency state version created_at signed_at",
        "deal_version": "deal_version_id deal_id version agreed valid terms note author made_at",
        "allowance": "allowance_id account_id bundle_id idempotency_key transfer_id units fair_use_units"
        " covers zone prefixes"
        " burn_order used_units valid renews renewed_by bought_at",
        "call": "call_id switch_id uniqueid sip_call_id subscriber_id account_id a_number dialled b_number"
        " state refuse_reason"
        " sell routes admitted_at answered_at ended_at talk_ms q850_cause release_party ended_by bundled"
        " partner_id direction"
        " callee_id trunk_in_id leg_class anonymous",
        "call_withheld": "call_id a_number why",
        "attempt": "call_id attempt_no trunk_id outcome fault sip_code q850_cause pdd_ms ended_at billed_s"
        " cost_micro currency buy",
        "charge": "call_id account_id billed_s amount_micro written_off_micro currency covered_s",
        "hold": "call_id account_id currency state opened_micro held_micro settled_micro opened_at closed_at",
        "burn": "source_id burn_no allowance_id per held_units used_units",
        "usage_record": "usage_id account_id idempotency_key service zone quantity charged_quantity"
        " price_micro per amount_micro"
        " written_off_micro currency transfer_id throttled used_at reported_at partner_id tax",
        "rerate_run": "run_id criteria author reason state totals booked_to created_at closed_at",
        "rerate_tariff": "run_id tariff_no tariff",
        "rerate_item": "run_id call_id account_id revision sell_no billed_before_s billed_s amount_before_micro"
        " amount_micro buy_no buy_billed_s cost_before_micro cost_micro differs",
        "rerating": "call_id revision run_id sell billed_s amount_micro written_off_micro buy buy_billed_s cost_micro"
        " reversal_id rebooking_id",
        "transfer": "transfer_id kind idempotency_key note booked_at author reverses value_at",
        "entry": "transfer_id entry_no account_id amount_micro currency",
    }.items()
}


class Ids:
    """UUIDv7 (RFC 9562, 5.7) of a simulated instant, from the simulation's own dice: the same seed, the same ids."""

    def __init__(self, dice: Random) -> None:
        self._bits = dice.getrandbits

    def __call__(self, at_ms: int) -> UUID:
        """at_ms: milliseconds since 1970"""
        return UUID(int=at_ms << 80 | 0x7 << 76 | self._bits(12) << 64 | 0x2 << 62 | self._bits(62))


class Rows:
    """What is to be written. A table's rows wait until there are many, or all are asked for."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._waiting: dict[str, list[tuple[Any, ...]]] = {table: [] for table in COLUMNS}

    def add(self, table: str, *row: Any) -> None:
        """The columns in the order of COLUMNS."""
        self._waiting[table].append(row)

    async def write_full(self) -> None:
        """Write the tables of which many rows wait."""
        for table, rows in self._waiting.items():
            if len(rows) >= BATCH:
                await self._write(table, rows)

    async def write(self) -> None:
        """Write all."""
        for table, rows in self._waiting.items():
            if rows:
                await self._write(table, rows)

    async def _write(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        await self._conn.copy_records_to_table(
            table, records=rows, columns=COLUMNS[table], schema_name="bridge"
        )
        rows.clear()


def ms_of(at: datetime) -> int:
    """Milliseconds since 1970, exactly."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def at_of(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)
