"""The country of a number, by which waves are cut."""

from __future__ import annotations

import phonenumbers


def country_of(e164: str) -> str | None:
    """ISO 3166, e.g. DE; None for numbers of no country (+800, +88x).

    >>> country_of("+493023125017"), country_of("+80012345678")
    ('DE', None)
    """
    try:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(e164))
    except phonenumbers.NumberParseException:
        return None
    return region if region is not None and region.isalpha() else None
