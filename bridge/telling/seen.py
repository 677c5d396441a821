"""What strangers wrote, as a terminal may have it."""

from __future__ import annotations


def seen(text: object) -> str:
    """The text with a box for all that commands a terminal, or turns the direction of what follows. Lines stay lines.

    >>> seen("a\\x1b[2Jb"), seen("a\\nb"), seen(None)
    ('a□[2Jb', 'a\\nb', 'None')
    """
    return "".join(one if one.isprintable() or one == "\n" else "□" for one in str(text))
