"""A generated pjsip.conf, read as Asterisk reads it: a semicolon begins a comment unless a backslash is before it."""

from __future__ import annotations

import re


def sections(text: str) -> dict[tuple[str, str], dict[str, list[str]]]:
    """Values by key, by name and template, or type where there is no template."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    parsed: list[tuple[str, str, dict[str, list[str]]]] = []
    for line in text.splitlines():
        bare = re.sub(r"(?<!\\);.*", "", line).strip()
        head = re.fullmatch(r"\[([^]]+)\](?:\(([^)]+)\))?", bare)
        if head:
            parsed.append((head[1], head[2] or "", {}))
        elif bare:
            key, _, value = bare.partition(" = ")
            parsed[-1][2].setdefault(key, []).append(value)
    for name, template, values in parsed:
        kind = template or values["type"][0]
        assert (name, kind) not in found, (name, kind)
        found[name, kind] = values
    return found
