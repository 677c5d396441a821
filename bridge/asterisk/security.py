"""Who is to be banned: failures counted by address, or by user where many share an address. Values in, values out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final
from uuid import UUID

from bridge.telephony.endpoint import subscriber_of

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

WINDOW_S: Final = 60
TRACKED_MAX: Final = (
    10_000  # addresses and users counted at a time; beyond, the one heard of first is forgotten
)
_IPV6_BITS: Final = 64  # what one customer has


@dataclass(frozen=True, slots=True)
class Ban:
    """One of the two is given."""

    network: Network | None
    subscriber_id: UUID | None
    failures: int
    until: datetime


class Failures:
    """Counts failures, and says when somebody has had enough of them.

    A bucket (GCRA): `ban_after` failures at once or spread over a minute are borne, one more leads to a ban, and
    after it the count begins anew. Bounded, whatever comes.

    spared   whether an address is never banned: a gateway, a carrier, a proxy with all its users behind
    """

    def __init__(self, ban_after: int, ban_s: int, spared: Callable[[Address], bool]) -> None:
        self._ban_after, self._ban_s, self._spared = ban_after, ban_s, spared
        self._each = timedelta(seconds=WINDOW_S / ban_after)
        self._banned: dict[Network | UUID, datetime] = {}  # a phone that goes on trying does not prolong it
        self._full_at: dict[Network | UUID, datetime] = {}  # when the bucket will be empty again

    def failed(self, address: Address, endpoint: str, at: datetime) -> Ban | None:
        """One more failure; a ban, where it was one too many."""
        who = self._who(address, endpoint)
        if who is None or self._banned.get(who, at) > at:
            return None
        empty_at = max(self._full_at.pop(who, at), at) + self._each
        if empty_at - at <= timedelta(seconds=WINDOW_S):
            self._full_at[who] = empty_at
            if len(self._full_at) > TRACKED_MAX:
                del self._full_at[next(iter(self._full_at))]
            return None
        until = at + timedelta(seconds=self._ban_s)
        self._banned = {one: end for one, end in self._banned.items() if end > at} | {who: until}
        failures = self._ban_after + 1
        return Ban(None, who, failures, until) if isinstance(who, UUID) else Ban(who, None, failures, until)

    def _who(self, address: Address, endpoint: str) -> Network | UUID | None:
        """Whose failure it is: the address's, or of many behind one the user's; None: nobody can be told."""
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if self._spared(address):
            return subscriber_of(endpoint)
        return network_of(address)


def network_of(address: Address) -> Network:
    """What is banned with an address: itself, or the network that one IPv6 customer has."""
    bits = 32 if address.version == 4 else _IPV6_BITS
    return ip_network((address, bits), strict=False)
