"""The name under which an app user's phone is known to the switch: endpoint, address of record and user name in one."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

_NAME: Final = re.compile(r"u([0-9a-f]{32})", re.ASCII)


def endpoint_name(subscriber_id: UUID) -> str:
    """`u` and 32 lower-case hexadecimal digits. No number is in it, so that a log of the switch holds none."""
    return f"u{subscriber_id.hex}"


def subscriber_of(endpoint: str) -> UUID | None:
    """Whose phone it is; None: no app user's name, as of a trunk or a gateway."""
    found = _NAME.fullmatch(endpoint)
    return UUID(found.group(1)) if found else None
