"""Contacts as the switch lists them."""

from __future__ import annotations

import json
from uuid import UUID

from bridge.asterisk.phones import read_contacts, rest_s
from bridge.telephony.endpoint import endpoint_name

USER = endpoint_name(UUID(int=7))


def event(key: str, **value: object) -> dict[str, str]:
    return {"event": "DBGetTreeResponse", "key": f"/registrar/contact/{key}", "val": json.dumps(value)}


def test_only_phones_of_users_that_make_sense_are_read() -> None:
    good = event(f"{USER};@abc", uri="sip:x@192.0.2.1:5060", endpoint="other")
    odd = (
        event("messenger;@abc", uri="sip:x@192.0.2.1"),
        event(f"{USER};@def", uri="sip:" + "x" * 2000),
        event(f"{USER};@ghi", uri=7),
        event(f"{USER};@jkl"),
        {"event": "DBGetTreeResponse", "key": f"/registrar/contact/{USER};@mno", "val": "no json"},
        {"event": "DBGetTreeResponse", "key": f"/registrar/contact/{USER};@pqr", "val": "[]"},
        {"event": "DBGetTreeComplete"},
    )
    assert read_contacts((good, *odd)) == {f"{USER};@abc": "sip:x@192.0.2.1:5060"}


def test_a_list_that_is_slow_once_is_read_again_soon() -> None:
    """While the switch reads its configuration anew it answers late, and a second phone is found by the list only."""
    assert rest_s(3.0, 0.01) < 1
    assert rest_s(0.01, 3.0) < 1
    assert rest_s(1.0, 1.5) == 20
