"""Where a stranger may have us send: never into our own networks, whatever a name says and whenever it says it.

`read_url` takes apart what it understands completely and refuses the rest. `check` looks up the name and refuses when
any of its addresses is not public. Sending looks it up again, and connects to what was checked then (`send`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from bridge.errors import BridgeError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str], Awaitable[Sequence[str]]]

URL_CHARS_MAX: Final = 2048
RESOLVE_S: Final = 3.0
ADDRESSES_MAX: Final = 32
PORT_MIN: Final = 1024  # below it only 443: nothing else there speaks to strangers over TLS

# RFC 3986 characters only: no blanks, controls, backslashes, user info, fragments or letters beyond ASCII.
_URL: Final = re.compile(
    r"(https?)://(\[[0-9a-f:.]{2,45}\]|[a-z0-9.-]{1,254})(?::([0-9]{1,5}))?"
    r"((?:/[a-z0-9._~!$&'()*+,;=:@%/-]*)?)((?:\?[a-z0-9._~!$&'()*+,;=:@%/?-]*)?)",
    re.IGNORECASE | re.ASCII,
)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.ASCII)
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
# Names that mean this machine or this network, wherever they are asked (RFC 6761, 6762, 7686, 8375, ICANN's .internal).
_OURS: Final = (
    "localhost",
    "local",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "arpa",
    "onion",
    "invalid",
)

# Not public: IANA's special-purpose registries, what is reserved, and the address by which a cloud's machines reach
# their host. In IPv6 only 2000::/3 is public, without these.
_CLOSED_NETWORKS: Final = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
    192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15
    198.51.100.0/24 203.0.113.0/24 224.0.0.0/3
    2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
"""
_CLOSED: Final[tuple[Network, ...]] = tuple(map(ipaddress.ip_network, _CLOSED_NETWORKS.split()))
_GLOBAL_6: Final = ipaddress.IPv6Network("2000::/3")


class AddressRefused(BridgeError):
    """Nothing is sent there. The message says why, to whoever named the address."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was understood. host: in lower case, without a trailing dot, IPv6 without brackets."""

    scheme: str
    host: str
    port: int
    path: str  # with the query


def read_url(text: str) -> Target:
    """raises   AddressRefused: no URL that we would send to"""
    found = _URL.fullmatch(text) if len(text) <= URL_CHARS_MAX else None
    if found is None:
        raise AddressRefused(
            "It should be like https://hooks.example.com/path: ASCII (write other names in punycode), without user "
            f"name and fragment, up to {URL_CHARS_MAX} characters."
        )
    scheme, host, port, path, query = found.groups()
    scheme, host = scheme.lower(), host.lower()
    host = host[1:-1] if host.startswith("[") else host.removesuffix(".")
    _check_host(host)
    number = int(port) if port is not None else (443 if scheme == "https" else 80)
    if number != 443 and not PORT_MIN <= number <= 65535 and (scheme == "https" or port is not None):
        raise AddressRefused(f"Its port should be 443, or {PORT_MIN} to 65535.")
    return Target(scheme, host, number, (path or "/") + query)


def _check_host(host: str) -> None:
    labels = host.split(".")
    if ":" in host or _NUMERIC.fullmatch(labels[-1]):
        # Decimal, octal, hexadecimal and short forms of addresses are read differently by everyone: by us not at all.
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise AddressRefused("Its host looks like an IP address and is none in the usual form.") from None
    elif len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise AddressRefused("Its host is no name.")
    elif len(labels) < 2 or labels[-1] in _OURS:
        raise AddressRefused("Its host is no public name.")


def is_public(address: Address) -> bool:
    """Neither ours, nor nobody's, nor a way around: mapped and tunnelled addresses (NAT64, 6to4, Teredo) are not."""
    if isinstance(address, ipaddress.IPv6Address) and (address not in _GLOBAL_6 or address.scope_id):
        return False
    return not any(address.version == network.version and address in network for network in _CLOSED)


def checked(target: Target, found: Sequence[str], allowed: Sequence[Network]) -> list[str]:
    """The addresses of a name, when a message may go to each of them.

    allowed   networks to which it may besides, also without TLS
    raises    AddressRefused
    """
    addresses = []
    for text in found[:ADDRESSES_MAX]:
        try:
            addresses.append(ipaddress.ip_address(text))
        except ValueError:
            raise AddressRefused("Its name leads to something that is no address.") from None
    if not addresses:
        raise AddressRefused("Its name leads nowhere.")
    let_in = [
        any(one.version == network.version and one in network for network in allowed) for one in addresses
    ]
    if not all(let or is_public(one) for let, one in zip(let_in, addresses, strict=True)):
        raise AddressRefused("Its host is no public address.")
    if target.scheme == "http" and not all(let_in):
        raise AddressRefused("It should begin with https://.")
    return [str(one) for one in addresses]


class Names:
    """Looks up names in threads of its own: a name server that does not answer holds up nobody else's work.

    One that is being looked up is not looked up a second time, so a name takes one thread at most.
    """

    def __init__(self, threads: int = 16) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="names")
        self._asked: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str) -> Sequence[str]:
        """All addresses of a name, or the address itself.

        raises   OSError: there are none
        """
        if _is_address(host):
            return [host]
        asked = self._asked.get(host)
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host)
            self._asked[host] = asked
            asked.add_done_callback(lambda done: self._done(host, done))
        return await asyncio.shield(asked)

    def _done(self, host: str, done: asyncio.Future[list[str]]) -> None:
        self._asked.pop(host, None)
        if not done.cancelled():
            done.exception()  # whoever asked may have gone

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def resolve(target: Target, names: Resolve, allowed: Sequence[Network]) -> list[str]:
    """The addresses a message to `target` may go to, now.

    raises   AddressRefused
    """
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await names(target.host)
    except (OSError, UnicodeError):  # a TimeoutError is an OSError
        raise AddressRefused("Its name cannot be looked up.") from None
    return checked(target, found, allowed)


async def check(url: str, names: Resolve, allowed: Sequence[Network]) -> None:
    """What holds for a URL when it is given to us; it will be looked at again whenever something is sent there.

    raises   AddressRefused
    """
    await resolve(read_url(url), names, allowed)
