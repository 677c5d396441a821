"""Values as they may stand in a configuration file of the switch."""

from __future__ import annotations

import re
from typing import Final

from bridge.errors import ConfigError

_VALUE: Final = re.compile(r"[!-:<-~ ]+", re.ASCII)  # printable; a semicolon would begin a comment


def value(key: str, given: object) -> str:
    """One line, no comment, nothing unprintable.

    raises   ConfigError naming the key
    """
    text = str(given)
    if not _VALUE.fullmatch(text):
        raise ConfigError(
            key, "holds a control character, a semicolon or a letter outside ASCII", "Change it."
        )
    return text
