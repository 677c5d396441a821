"""Routes of audit_log."""

from __future__ import annotations

from bridge.api.route import routes

router = routes("audit-log")
