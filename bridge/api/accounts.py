"""Routes of accounts."""

from __future__ import annotations

from bridge.api.route import routes

router = routes("accounts")
