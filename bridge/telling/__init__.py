"""Objects as text for a terminal: the same facts as --json, in the order a person asks for them."""

from __future__ import annotations

from bridge.telling.calls import tell, tell_audit, tell_figure, tell_live

__all__ = ["tell", "tell_audit", "tell_figure", "tell_live"]
