"""What reports and bills read, and the little that they write."""

from bridge.reports.store.report import (
    as_partner,
    horizon,
    keep_quality,
    money,
    names,
    partner_named,
    quality,
)

__all__ = ["as_partner", "horizon", "keep_quality", "money", "names", "partner_named", "quality"]
