"""Partners in the database. Each function sees what the role of its connection may see."""

from __future__ import annotations

from bridge.partners.store.partner import add_partner, change_partner, partner, partners

__all__ = ["add_partner", "change_partner", "partner", "partners"]
