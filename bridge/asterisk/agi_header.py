"""The header of an AGI session: the one shape Asterisk writes, and nothing else.

Values are sent raw. A SIP peer's `%0A` in a display name arrives as a line feed, so a caller can write header
lines. Therefore every key stands in its place, none twice, none unknown. What must be trusted belongs into the
AGI URL, encoded: it precedes whatever a caller can write and cannot be said again.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bridge.errors import RemoteProtocolError

HEADER_LINES_MAX = 64


class Request(NamedTuple):
    """Asterisk asks. `env` has every `agi_*` key but the arguments; the caller chose many of its values."""

    route: str  # path of the AGI URL without slash and query: "authorise" of agi://host/authorise?a=1
    query: str  # behind the question mark, still encoded
    env: dict[str, str]
    args: tuple[str, ...]


# The order in which res_agi.c writes; the script is left out when the URL has no path.
# fmt: off
_ENV_KEYS = (
    "agi_network", "agi_network_script", "agi_request", "agi_channel", "agi_language", "agi_type",
    "agi_uniqueid", "agi_version", "agi_callerid", "agi_calleridname", "agi_callingpres", "agi_callingani2",
    "agi_callington", "agi_callingtns", "agi_dnid", "agi_rdnis", "agi_context", "agi_extension",
    "agi_priority", "agi_enhanced", "agi_accountcode", "agi_threadid",
)
# fmt: on
_OPTIONAL = "agi_network_script"
# Possessive `.*+` gives nothing back: one pass, whatever the values hold.
_HEADER = re.compile(
    "".join(f"(?:{key}: (.*+)\n)?" if key == _OPTIONAL else f"{key}: (.*+)\n" for key in _ENV_KEYS)
    + "((?:agi_arg_[1-9][0-9]?: .*+\n)*+)"
)


def parse_header(head: str) -> Request:
    """Read a complete header: every line with its line feed, without the blank line.

    raises   RemoteProtocolError: a key is unknown, twice, missing or out of order, or a value holds NUL
    """
    found = _HEADER.fullmatch(head)
    if found is None:
        raise RemoteProtocolError(_misfit(head))
    if "\0" in head:
        raise RemoteProtocolError("NUL in a header")
    *values, arg_lines = found.groups()
    env = dict(zip(_ENV_KEYS, values, strict=True))
    if env[_OPTIONAL] is None:
        env[_OPTIONAL] = ""
    route, _, query = env[_OPTIONAL].partition("?")
    return Request(route.strip("/"), query, env, _arguments(arg_lines) if arg_lines else ())


def _arguments(lines: str) -> tuple[str, ...]:
    pairs = [line.split(": ", 1) for line in lines[:-1].split("\n")]
    if len(_ENV_KEYS) + len(pairs) > HEADER_LINES_MAX:
        raise RemoteProtocolError(f"a header of more than {HEADER_LINES_MAX} lines")
    if any(key != f"agi_arg_{n}" for n, (key, _) in enumerate(pairs, 1)):
        raise RemoteProtocolError("arguments out of order")
    return tuple(value for _, value in pairs)


def _misfit(head: str) -> str:
    """Say which line broke the order, but never what it says: that may be a number or a name."""
    keys = [line.partition(": ")[0] for line in head.split("\n")[:-1]]
    wanted = [key for key in _ENV_KEYS if key != _OPTIONAL or key in keys[1:2]]
    for number, want in enumerate(wanted, 1):
        if keys[number - 1 : number] != [want]:
            return f"header line {number} is not {want}"
    return f"header line {len(wanted) + 1} or after is neither an argument nor blank"
