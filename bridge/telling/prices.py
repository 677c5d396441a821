"""Explanations and quotes as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def tell_explanation(explained: Mapping[str, Any]) -> str:
    """How a call came to its price, line by line."""
    lines = [f"Call {explained['call_id']}: {explained['state']}"]
    if explained["sell"] is None:
        return f"{lines[0]}, {(explained['refuse_reason'] or '').replace('_', ' ')}: nothing was priced"
    number = explained["number"]
    lines += ["", f"Number   dialled {number['dialled']}, that is {number['e164']}"]
    if number["origin_sets"]:
        lines.append(f"         the caller is in {', '.join(number['origin_sets'])}")
    lines += _side("Sold", explained["sell"])
    for one in explained["units"]:
        burnt = "held now" if one["burnt"] is None else f"{one['burnt']} burnt"
        lines.append(f"Bundle   {one['bundle']}: {one['held']} units of {one['unit_s']} s held, {burnt}")
    for step in explained["sell"]["steps"]:
        lines.append(f"         {step['text']}")
    if explained["sell"]["tax"] != "0.00":
        lines.append(f"         tax in it: {explained['sell']['tax']} {explained['sell']['currency']}")
    if explained["written_off"] != "0.00":
        lines.append(f"         {explained['written_off']} written off: no money was left")
    for one in explained["buy"]:
        outcome = one["outcome"].replace("_", " ")
        lines += _side("Bought", one, f"attempt {one['attempt']} over {one['trunk']}: {outcome}")
        lines += [f"         {step['text']}" for step in one["steps"]]
    for one in explained["rerated"]:
        lines.append(
            f"\nRe-rated {one['at'][:16]} by {one['author']} ({one['reason']}): {one['rate']} a minute, "
            f"charge {one['charge']}, cost {one['cost']}"
        )
    margin = (
        f"{explained['margin']} {explained['sell']['currency']}"
        if explained["margin"]
        else "in two currencies"
    )
    lines += ["", f"Margin   {margin}, without tax"]
    return "\n".join(lines)


def tell_quote(quote: Mapping[str, Any]) -> str:
    """What a call would cost."""
    who = "subscriber" if quote["subscriber"] else "nobody known"
    lines = [
        f"{quote['from']} ({who}, plan {quote['plan']}) to {quote['to']}, {quote['seconds']} s at {quote['at']}"
    ]
    if quote["verdict"] == "refused":
        detail = f": {quote['detail']}" if quote["detail"] else ""
        return f"{lines[0]}\nwould be refused, {quote['reason'].replace('_', ' ')}{detail}"
    lines.append(f"would cost {quote['charge']} {quote['currency']} ({quote['destination']})")
    lines += [
        f"  {one['units']} units of {one['bundle']} pay for {one['pays_for_s']} s" for one in quote["bundles"]
    ]
    lines += [f"  {step}" for step in quote["steps"]]
    if quote["lasts_s"] < quote["seconds"]:
        lines.append(
            f"  but it would be cut after {quote['lasts_s']} s: nothing pays for more, or no call is longer"
        )
    if quote["on_net"]:
        return "\n".join([*lines, "  it would ring another user of the app, over no carrier"])
    lines.append(
        f"  at first {quote['first_hold']} {quote['currency']} would be held for {quote['first_limit_s']} s"
    )
    for place, one in enumerate(quote["routes"], 1):
        lines.append(f"{place}. {one['trunk']}: cost {one['cost']} {one['currency']}, margin {one['margin']}")
    lines += [f"left out: {name}, {why}" for name, why in quote["left_out"].items()]
    return "\n".join(lines)


def _side(title: str, side: Mapping[str, Any], head: str = "") -> list[str]:
    lines = [f"\n{title.ljust(9)}{head}" if head else ""]
    origin = f" for callers from {side['origin_set']}" if side["origin_set"] else ""
    free = f", free: {side['free']}" if side["free"] else ""
    begin = " " * 9 if head else title.ljust(9)
    lines.append(
        f"{begin}deck {side['deck']}, version {side['version']}: prefix {side['prefix']}"
        f"{origin} ({side['destination']}), {side['rate']} {side['currency']} a minute, {side['increment']}{free}"
    )
    for one in side["candidates"]:
        name = one["prefix"] + (f" ({one['origin_set']})" if one["origin_set"] else "")
        lines.append(f"           {name:18} {one['why']}")
    return lines
