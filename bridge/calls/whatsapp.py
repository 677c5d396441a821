"""What Meta says of a WhatsApp call, as it may be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from bridge import queries
from bridge.database import Connection

WACID_CHARS_MAX: Final = 256
PAYLOAD_CHARS_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class MetaCall:
    """wacid: the call's id at Meta. cta_payload: what the link or button that began it carried."""

    wacid: str | None
    cta_payload: str | None


def meta_call(wacid: str, cta_payload: str) -> MetaCall | None:
    """Headers as they came, of any length and with anything in them. None: they say nothing.

    A wacid is plain ASCII; of a payload what is printable is kept. Longer than they may be, they are cut.
    """
    payload = "".join(one for one in cta_payload if one.isprintable()).strip()[:PAYLOAD_CHARS_MAX]
    name = "".join(one for one in wacid if one.isascii() and one.isprintable()).strip()[:WACID_CHARS_MAX]
    return MetaCall(name or None, payload or None) if name or payload else None


async def keep_meta_call(conn: Connection, call_id: UUID, told: MetaCall) -> None:
    """What was kept before stands."""
    await queries.whatsapp.keep_call.run(
        conn, call_id=call_id, wacid=told.wacid, cta_payload=told.cta_payload
    )
