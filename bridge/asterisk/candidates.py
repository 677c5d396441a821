"""Addresses at which a browser could be told to find the switch's media.

ICE leaves loopback addresses out (RFC 8445, 5.1.1.1), also where browser and switch are on one machine: without another
address, calls of phones in browsers are set up and nobody hears anything.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from array import array
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

# netdevice(7), on 64 bits: a name of 16 bytes and 24 with the address.
_SIOCGIFCONF: Final = 0x8912
_IFREQ_BYTES: Final = 40
_ADDRESSES_MAX: Final = 256
_INET6: Final = Path("/proc/net/if_inet6")


def addresses() -> list[IPv4Address | IPv6Address]:
    """This machine's, without loopback and without those that count on one link only."""
    found: list[IPv4Address | IPv6Address] = [*_ipv4(), *_ipv6()]
    return [one for one in found if not (one.is_loopback or one.is_link_local)]


def _ipv4() -> list[IPv4Address]:
    room = array("B", bytes(_IFREQ_BYTES * _ADDRESSES_MAX))
    at, size = room.buffer_info()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        told = fcntl.ioctl(asking, _SIOCGIFCONF, struct.pack("iL", size, at))
    (used,) = struct.unpack_from("i", told)
    return [IPv4Address(room[begin + 20 : begin + 24].tobytes()) for begin in range(0, used, _IFREQ_BYTES)]


def _ipv6() -> list[IPv6Address]:
    lines = _INET6.read_text().splitlines() if _INET6.is_file() else []
    return [IPv6Address(bytes.fromhex(line.split()[0])) for line in lines]
