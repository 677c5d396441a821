"""The generated configuration that app users' phones need: where the switch reads of them, and where they find it.

Empty without `users.switch_dsn`: then the switch knows gateways and trunks only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from bridge.asterisk.conf_value import value
from bridge.config import Settings
from bridge.errors import ConfigError

Network = IPv4Network | IPv6Network

# `asterisk` names the section of extconfig.conf that our families are in and the database of res_pgsql.conf.
FAMILIES: Final = ("ps_endpoints", "ps_auths", "ps_aors")
BANS_CONF: Final = "bans.conf"
ROLE_HEAD: Final = "callbridge_switch_"
_FIX: Final = (
    f"Write postgresql://{ROLE_HEAD}name:password@host:port/database; the password of letters and digits."
)
# Where a proxy on this machine comes from; any other is in users.spared, or its users would ban it.
_LOCAL: Final = ("127.0.0.1", "::1")
_WORD: Final = re.compile(r"[A-Za-z0-9_./~+=-]+", re.ASCII)  # needs no quotes in a connection string
_WORD_CHARS_MAX: Final = 63  # the switch cuts off the rest of each of its options (MAX_DB_OPTION_SIZE)
# The switch waits for an answer with a lock held that every look-up needs, so that it must not wait for long. It has no
# option for that, but what follows the name of the application becomes part of the connection string.
_PATIENCE: Final = "cb connect_timeout=2 tcp_user_timeout=2000 keepalives_idle=2"


@dataclass(frozen=True, slots=True)
class SwitchLogin:
    """How the switch logs in to the database. host: a name, an address, or the folder of a Unix socket."""

    user: str
    password: str
    host: str
    port: int
    database: str


def switch_login(settings: Settings) -> SwitchLogin | None:
    """None: there are no app users here.

    raises   ConfigError: the DSN is none, or not the switch's
    """
    dsn = settings.users.switch_dsn.get_secret_value()
    if not dsn:
        return None
    try:
        parts = urlsplit(dsn)
        asked = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
        found = SwitchLogin(
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            parts.hostname or asked.get("host", [""])[0],
            parts.port or int(asked.get("port", ["5432"])[0]),
            unquote(parts.path.removeprefix("/")),
        )
    except ValueError:
        raise ConfigError("users.switch_dsn", "is no address of a database", _FIX) from None
    words = (found.user, found.password, found.host, found.database)
    whole = all(_WORD.fullmatch(word) and len(word) <= _WORD_CHARS_MAX for word in words)
    if parts.scheme not in ("postgresql", "postgres") or not whole:
        said = f"lacks a part, or one is longer than {_WORD_CHARS_MAX} characters or needs quotes"
        raise ConfigError("users.switch_dsn", said, _FIX)
    if not found.user.startswith(ROLE_HEAD):
        raise ConfigError("users.switch_dsn", f"has a user whose name does not begin with {ROLE_HEAD}", _FIX)
    return found


def files(settings: Settings) -> dict[str, str]:
    """The generated files by name, bans left out: they come and go.

    raises   ConfigError: a value cannot stand in a configuration file
    """
    login = switch_login(settings)
    if login is None:
        return {"extconfig.conf": "", "res_pgsql.conf": "", "http.conf": "enabled = no\n"}
    host = value("users.ws_host", settings.users.ws_host)
    return {
        "extconfig.conf": "".join(f"{family} => pgsql,{login.database},{family}\n" for family in FAMILIES),
        "res_pgsql.conf": (
            f"dbhost = {login.host}\ndbport = {login.port}\ndbname = {login.database}\n"
            f"dbuser = {login.user}\ndbpass = {login.password}\ndbappname = {_PATIENCE}\n"
            "requirements = warn\n"
        ),
        "http.conf": f"enabled = yes\nbindaddr = {host}\nbindport = {settings.users.ws_port}\n",
    }


def transport(settings: Settings) -> list[str]:
    """The section of pjsip.conf for phones in browsers. Where it listens, http.conf says."""
    if switch_login(settings) is None:
        return []
    host = value("users.ws_host", settings.users.ws_host)
    return [f"[ws]\ntype = transport\nprotocol = ws\nbind = {host}:{settings.users.ws_port}\n"]


def mistaken(settings: Settings, text: str) -> list[str]:
    """Endpoints of a generated pjsip.conf that are known by an address from which browsers come. Addresses count
    before names, so whoever opens the page would be that gateway or carrier, and pay with anybody's money.

    text     an address with a port is not a browser's: theirs changes with each connection
    """
    if switch_login(settings) is None:
        return []
    given = settings.users
    proxies = [one for one in given.spared if not one.is_loopback] + [ip_network(one) for one in _LOCAL]
    with suppress(ValueError):  # a name
        proxies.append(ip_network(given.ws_host))
    found, endpoint = [], ""
    for line in text.splitlines():
        key, _, said = line.partition(" = ")
        if key == "endpoint":
            endpoint = said
        elif key == "match":
            with suppress(ValueError):  # a name, or with a port
                network = ip_network(said, strict=False)
                if any(one.version == network.version and one.overlaps(network) for one in proxies):
                    found.append(f"{endpoint} is known by {said}")
    return found


def bans(networks: Iterable[Network]) -> str:
    """The list of whom the switch does not listen to, as an ACL."""
    denied = [f"deny = {one}\n" for one in sorted({ip_network(one).with_prefixlen for one in networks})]
    return "".join(["[bans]\ntype = acl\n", *denied]) if denied else ""
