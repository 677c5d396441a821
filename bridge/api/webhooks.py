"""Routes of webhooks."""

from __future__ import annotations

from bridge.api.route import routes

router = routes("webhooks")
