"""What the fuzzer is told of this API, and what it may not do by accident: lose its key, or ask for names outside."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import schemathesis
from hypothesis import strategies as st

from bridge.api.openapi import PARAMETERS

OWN_KEY = "FUZZ_KEY_ID"
DOCUMENTED = PARAMETERS["IdempotencyKey"]["example"]
# A name that would be looked up; what is no URL stays as it is.
NAMED = re.compile(r"^(https?)://[a-z0-9.-]*[a-z][a-z0-9-]*\.?(?=[:/?]|$)", re.IGNORECASE)
SOMEBODY = "key_" + 32 * "0"
MINUTES_MAX = 60 * 24 * 60


def _written(minutes: int) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(timespec="seconds")


# About now things happen: what is long ago or far away is mostly refused.
schemathesis.openapi.format("date-time", st.integers(-MINUTES_MAX, MINUTES_MAX).map(_written))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    path, headers, body = case.path_parameters, case.headers, case.body
    if path and path.get("key_id") == os.environ[OWN_KEY]:
        path["key_id"] = SOMEBODY
    if (
        headers and headers.get("Idempotency-Key") == DOCUMENTED
    ):  # of every example: only the first would be done
        headers["Idempotency-Key"] = str(uuid4())
    if isinstance(body, dict) and isinstance(body.get("url"), str):
        body["url"] = NAMED.sub(r"\1://127.0.0.1", body["url"])
