"""Names of app users' phones at the switch."""

from __future__ import annotations

from uuid import UUID

import pytest

from bridge.telephony.endpoint import endpoint_name, subscriber_of

SUBSCRIBER = UUID("0190c7a0-0000-7000-8000-00000000abcd")


def test_a_name_leads_back_to_its_subscriber() -> None:
    name = endpoint_name(SUBSCRIBER)
    assert name == "u0190c7a00000700080000000 0000abcd".replace(" ", "")
    assert subscriber_of(name) == SUBSCRIBER


@pytest.mark.parametrize(
    "name",
    [
        "",
        "u",
        "upstream",
        "whatsapp",
        "u0190c7a000007000800000000000abc",  # a digit short
        "u0190c7a000007000800000000000abcd0",
        "U0190C7A000007000800000000000ABCD",  # the switch compares to the letter
        "u0190c7a0-0000-7000-8000-00000000abcd",
        "u0190c7a000007000800000000000abcd\n",
        "u0190c7a000007000800000000000abc٣",
        " u0190c7a000007000800000000000abcd",
    ],
)
def test_anything_else_is_no_app_user(name: str) -> None:
    assert subscriber_of(name) is None
