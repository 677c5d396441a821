"""Bundles, allowances and usage as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.rating.store.usage import Usage
from bridge.telephony.money import format_micro
from bridge.telling.calls import text_table


def tell_bundles(bundles: Sequence[Mapping[str, Any]]) -> str:
    """One line a bundle."""
    rows = [
        (
            one["name"],
            f"{one['price']} {one['currency']}",
            "without limit" if one["units"] is None else one["units"],
            f"{one['days']} days",
            _covers(one["covers"]),
            one["zone"],
            "" if one["on_sale"] else "off sale",
            "renews" if one["renews"] else "",
        )
        for one in bundles
    ]
    columns = ("bundle", "price", "units", "for", "a unit pays for", "zone", "", "")
    return text_table(f"{len(bundles)} bundles", *columns, rows=rows)


def tell_allowances(allowances: Sequence[Mapping[str, Any]]) -> str:
    """One line an allowance, the newest first."""
    rows = [
        (
            one["allowance"],
            one["bundle"],
            f"{one['used']} used, {one['held']} held"
            + (f" of {one['units']}" if one["units"] is not None else ""),
            one["until"][:16].replace("T", " "),
            "renews" if one["renews"] else "renewed" if one["renewed_by"] else "",
        )
        for one in allowances
    ]
    return text_table(
        f"{len(allowances)} allowances", "allowance", "bundle", "units", "until (UTC)", "", rows=rows
    )


def usage_json(usage: Usage, key: str) -> dict[str, Any]:
    """A usage for people and for --json; money as decimal strings."""
    return {
        "usage": str(usage.usage_id),
        "burns": [burn.to_json() for burn in usage.burns],
        "charged_quantity": usage.charged_quantity,
        "amount": format_micro(usage.amount_micro),
        "written_off": format_micro(usage.written_off_micro),
        "currency": usage.currency,
        "throttled": usage.throttled,
        "key": key,
    }


def tell_usage(usage: Mapping[str, Any]) -> str:
    """What a usage burnt and cost."""
    lines = [f"{burn['units']} units of {burn['bundle']}" for burn in usage["burns"]]
    lines.append(
        f"{usage['amount']} {usage['currency']} for {usage['charged_quantity']} beyond the allowances"
    )
    if usage["written_off"] != "0.00":
        lines.append(f"{usage['written_off']} {usage['currency']} written off: the balance did not cover it")
    if usage["throttled"]:
        lines.append("fair use is exceeded: throttle the service")
    return "\n".join([*lines, f"key {usage['key']}"])


def _covers(covers: Mapping[str, int]) -> str:
    said = {"voice": "{} s of talk", "sms": "{} message"}
    return ", ".join(
        said.get(service, "{} bytes of " + service).format(per) for service, per in covers.items()
    )
