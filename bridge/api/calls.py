"""Routes of calls."""

from __future__ import annotations

from bridge.api.route import routes

router = routes("calls")
