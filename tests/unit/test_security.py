"""Who is banned, and who never is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from uuid import UUID

import pytest

from bridge.asterisk import security
from bridge.asterisk.ami_events import Authenticated, Stranger, event_from
from bridge.asterisk.security import Address, Ban, Failures
from bridge.errors import RemoteProtocolError
from bridge.telephony.endpoint import endpoint_name

NOW = datetime(2031, 1, 1, tzinfo=UTC)
USER = UUID(int=7)
STRANGER = ip_address("192.0.2.9")
PROXY = ip_address("127.0.0.1")


def proxy_only(address: Address) -> bool:
    return address == PROXY


def count(
    failures: Failures, times: int, address: Address = STRANGER, endpoint: str = "", each_s: float = 0
) -> list[Ban]:
    said = (failures.failed(address, endpoint, NOW + timedelta(seconds=each_s * i)) for i in range(times))
    return [ban for ban in said if ban]


def test_one_more_than_is_borne_is_banned_for_so_long() -> None:
    failures = Failures(5, 300, proxy_only)
    assert count(failures, 5) == []
    [ban] = count(failures, 1)
    assert ban == Ban(ip_network("192.0.2.9/32"), None, 6, NOW + timedelta(seconds=300))
    assert count(failures, 50) == []  # neither prolonged nor told again
    over = NOW + timedelta(seconds=301)
    assert [failures.failed(STRANGER, "", over) for _ in range(6)][5] is not None


def test_now_and_then_is_borne_for_ever() -> None:
    assert count(Failures(5, 300, proxy_only), 100, each_s=12.1) == []
    assert len(count(Failures(5, 30, proxy_only), 100, each_s=6)) > 1


def test_behind_a_proxy_the_user_is_locked_out_and_nobody_else() -> None:
    failures = Failures(5, 300, proxy_only)
    [ban] = count(failures, 6, PROXY, endpoint_name(USER))
    assert (ban.network, ban.subscriber_id) == (None, USER)
    assert count(failures, 100, PROXY, "") == []
    assert count(failures, 100, PROXY, "messenger") == []
    assert count(failures, 100, ip_address("::ffff:127.0.0.1"), "x") == []


def test_a_customer_has_one_ipv6_network() -> None:
    failures = Failures(5, 300, proxy_only)
    said = [failures.failed(ip_address(f"2001:db8::{digit:x}"), "", NOW) for digit in range(6)]
    assert said[5] is not None
    assert said[5].network == ip_network("2001:db8::/64")


def test_a_flood_from_everywhere_needs_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "TRACKED_MAX", 100)
    failures = Failures(5, 300, proxy_only)
    for number in range(1000):
        assert failures.failed(ip_address(number + 1), "", NOW) is None
    assert len(failures._full_at) == 100
    assert len(count(failures, 6)) == 1


def message(event: str, **more: str) -> dict[str, str]:
    return {
        "event": event,
        "service": "PJSIP",
        "accountid": "u1",
        "remoteaddress": "IPV4/UDP/192.0.2.9/5060",
    } | more


def test_what_the_switch_says() -> None:
    assert event_from(message("SuccessfulAuth")) == Authenticated("u1")
    for name in ("ChallengeResponseFailed", "InvalidAccountID", "InvalidPassword"):
        assert event_from(message(name)) == Stranger(STRANGER, "u1")
        assert event_from(message(name, service="AMI")) is None
    assert event_from(message("InvalidAccountID", accountid="<unknown>")) == Stranger(STRANGER, "")
    assert event_from(message("InvalidAccountID", accountid="u1\nx: y")) == Stranger(STRANGER, "")
    long = message("InvalidAccountID", remoteaddress="IPV6/WS/[2001:db8::1]/5060")
    assert event_from(long) == Stranger(ip_address("2001:db8::1"), "u1")
    for wrong in ("", "IPV4/UDP/example.org/5060", "x"):
        with pytest.raises(RemoteProtocolError):
            event_from(message("InvalidAccountID", remoteaddress=wrong))
