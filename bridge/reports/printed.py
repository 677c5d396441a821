"""Documents made in a process of their own, for the API: the calls of the worker do not wait for them."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

from bridge.config import Settings
from bridge.errors import Conflict, Invalid, NotFound, StoreUnavailable

PATIENCE_S: Final = 90.0  # then it is ended
_SAID: Final = {one.__name__: one for one in (Conflict, Invalid, NotFound)}


async def printed(job: dict[str, Any]) -> bytes:
    """The PDF of a job, from a process of its own.

    job      kind ("monthly" or "bill"), dsn, month, language, partner_id or subscriber_id, and what `settings_of` says
    raises   as the making of it · StoreUnavailable: it did not come about
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge.reports.print_process",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await child.communicate(json.dumps(job).encode())
    except TimeoutError:
        raise StoreUnavailable("the document took too long to make. Ask again later") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    head, _, pdf = out.partition(b"\n")
    said = json.loads(head) if head else {"error": "", "detail": "the document could not be made"}
    if "error" in said:
        raise _SAID.get(said["error"], StoreUnavailable)(said["detail"])
    return pdf


def settings_of(settings: Settings) -> dict[str, Any]:
    """What of the settings a document needs: no secrets."""
    return {
        "company": settings.company.model_dump(mode="json"),
        "bills": settings.bills.model_dump(mode="json"),
        "home_region": settings.calls.home_region,
    }
