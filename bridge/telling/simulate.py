"""What a simulation made, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def tell_simulation(told: Mapping[str, Any]) -> str:
    """One line a count."""
    width = max(map(len, told))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in told.items())
