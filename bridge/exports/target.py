"""Where the files of a recipient go, as the database keeps it: a folder, an SFTP server, or nowhere (the API)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Literal

from bridge.errors import Invalid

PART: Final = ".part"  # a file that is not whole yet
SFTP_PORT: Final = 22
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?", re.ASCII)
_KEY: Final = re.compile(
    r"(ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa) ([A-Za-z0-9+/]{40,1400}={0,2})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Directory:
    """path: absolute, on this machine"""

    path: str


@dataclass(frozen=True, slots=True)
class Sftp:
    """folder    there; relative to where the user begins, or absolute
    host_key  the server's public key as OpenSSH writes it, without a comment: no other server is spoken to
    """

    host: str
    port: int
    user: str
    folder: str
    host_key: str


@dataclass(frozen=True, slots=True)
class Api:
    """They are fetched over the API."""


Target = Directory | Sftp | Api
Kind = Literal["directory", "sftp", "api"]
_FIELDS: Final[Mapping[str, set[str]]] = {
    "directory": {"path"},
    "sftp": {"host", "port", "user", "folder", "host_key"},
    "api": set(),
}


def read_target(given: Mapping[str, Any]) -> Target:
    """raises   Invalid: no target, and what is wrong with it"""
    kind = given.get("kind")
    fields = _FIELDS.get(str(kind))
    if fields is None:
        raise Invalid(f"target.kind is one of {', '.join(_FIELDS)}.")
    unknown = sorted(set(given) - fields - {"kind"})
    if unknown:
        raise Invalid(
            f"target.{unknown[0]} is not known for {kind}. Known: {', '.join(sorted(fields)) or 'none'}."
        )
    if kind == "api":
        return Api()
    if kind == "directory":
        return Directory(_folder(given.get("path"), "target.path", absolute=True))
    return Sftp(
        _matching(_HOST, given.get("host"), "target.host is a name or an address, such as sftp.example.com."),
        _port(given.get("port", SFTP_PORT)),
        _matching(_USER, given.get("user"), "target.user is the user name on the server."),
        _folder(given.get("folder", "."), "target.folder", absolute=False),
        check_host_key(given.get("host_key")),
    )


def check_host_key(text: object) -> str:
    """The key without its comment.

    raises   Invalid
    """
    words = " ".join(text.split()[:2]) if isinstance(text, str) and len(text) < 4096 else ""
    found = _KEY.fullmatch(words)
    try:
        blob = base64.b64decode(found[2], validate=True) if found else b""
    except binascii.Error:
        blob = b""
    # The key's own type stands at its beginning: RFC 4253, 6.6
    if found is None or blob[4 : 4 + len(found[1])] != found[1].encode():
        raise Invalid(
            "target.host_key is the server's public key, such as `ssh-ed25519 AAAA…`. The server's operator can tell"
            " it; compare it with what `ssh-keyscan` finds."
        )
    return words


def check_file_name(name: str) -> str:
    """raises   Invalid: a name that could lead elsewhere, or that a server may read otherwise than we do"""
    if _FILE_NAME.fullmatch(name) is None or name.endswith(PART):
        raise Invalid(f"{name[:80]!r} is no name of a file to send.")
    return name


def _port(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise Invalid("target.port is 1 to 65535.")
    return value


def _matching(pattern: re.Pattern[str], value: object, problem: str) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise Invalid(problem)
    return value


def _folder(value: object, name: str, *, absolute: bool) -> str:
    text = value if isinstance(value, str) else ""
    path = PurePosixPath(text)
    if not text or len(text) > 500 or not text.isprintable() or ".." in path.parts or "\\" in text:
        raise Invalid(f"{name} is a folder, without `..`.")
    if absolute and not path.is_absolute():
        raise Invalid(f"{name} is an absolute path, such as /srv/cdrs.")
    return str(path)
