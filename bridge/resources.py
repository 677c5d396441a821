"""Where the SQL and the Asterisk configuration lie: in the wheel beside this package, in a checkout at the top."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def _find(name: str) -> Path:
    shipped = _PACKAGE / "_share" / name
    return shipped if shipped.is_dir() else _PACKAGE.parent / name


SQL = _find("sql")
ASTERISK_CONF = _find("asterisk-conf")
