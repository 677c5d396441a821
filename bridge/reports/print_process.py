"""A PDF that the API hands out is made in a process of its own: the calls of the worker do not wait for it.

The job comes on standard input. To standard output go a line of JSON that says what became of it, and the PDF.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from typing import Any, Final
from uuid import UUID

from bridge.config import Bills, Calls, Company, Settings
from bridge.database import connect
from bridge.errors import BridgeError
from bridge.reports import bills, printing, store
from bridge.reports.period import of_month

MEMORY_BYTES_MAX: Final = 2 << 30
CPU_S_MAX: Final = 60
NICE: Final = 10  # calls first


async def _make(job: dict[str, Any]) -> bytes:
    settings = Settings(
        company=Company(**job["company"]),
        bills=Bills(**job["bills"]),
        calls=Calls(home_region=job["home_region"]),
    )
    period = of_month(job["month"], settings.company.time_zone)
    async with connect(job["dsn"]) as conn:
        if job["kind"] == "bill":
            made = await bills.bill_of(conn, settings, f"sub_{job['subscriber_id']}", period)
            return printing.bill_pdf(made, settings.company, job["language"])
        partner = await store.partner_named(conn, f"prt_{UUID(job['partner_id']).hex}")
        return await printing.monthly(conn, period, partner, settings.company, job["language"])


def main() -> None:
    job = json.load(sys.stdin)
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
    said: dict[str, Any]
    pdf = b""
    try:
        pdf = asyncio.run(_make(job))
        said = {"bytes": len(pdf)}
    except BridgeError as error:
        said = {"error": type(error).__name__, "detail": str(error)}
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n" + pdf)


if __name__ == "__main__":
    main()
