"""Plans and the terms of decks as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.telling.bundle import tell_bundles
from bridge.telling.calls import text_table
from bridge.telling.deck import rates_table


def tell_plans(plans: Sequence[Mapping[str, Any]]) -> str:
    """One line a plan."""
    rows = [
        (
            one["plan"],
            one["currency"],
            one["deck"],
            one["roaming_deck"] or "as at home",
            f"{one['margin_floor']} a minute",
            one["bundles"],
            one["subscribers"],
        )
        for one in plans
    ]
    columns = ("plan", "currency", "at home", "roaming", "margin floor", "bundles", "subscribers")
    return text_table(f"{len(plans)} plans", *columns, rows=rows)


def tell_plan(plan: Mapping[str, Any]) -> str:
    """A plan with all that belongs to it."""
    lines = [f"Plan {plan['plan']}: {plan['currency']}, margin at least {plan['margin_floor']} a minute"]
    if plan["on_net_free"]:
        lines.append("Calls between subscribers of one app are free.")
    if plan["on_net_fallback"]:
        lines.append(
            "Subscribers of the app whom no phone reaches are called over a carrier, at this plan's price."
        )
    if plan["zero_rated"]:
        lines.append(f"Free destinations: {' '.join(plan['zero_rated'])}")
    parts = ["\n".join(lines)]
    for deck in plan["decks"]:
        title = f"{deck['zone']}: deck {deck['deck']}, version {deck['version']}"
        parts += [rates_table(title, deck["rates"]), tell_terms(deck)]
    if plan["services"]:
        rows = [
            (one["name"], one["zone"], f"{one['price']} {plan['currency']}", one["per"])
            for one in plan["services"]
        ]
        parts.append(text_table("Without a bundle", "service", "zone", "price", "for each begun", rows=rows))
    if plan["bundles"]:
        parts.append(tell_bundles(plan["bundles"]))
    return "\n\n".join(parts)


def tell_terms(terms: Mapping[str, Any]) -> str:
    """A deck's terms, and its bands in the order in which they are tried."""
    days = terms["holidays"]
    tax = terms["tax"]
    splits = (
        "each block by the band it begins in" if terms["boundary"] == "split" else "by the band at the answer"
    )
    lines = [
        f"Terms of {terms['deck']}: {terms['side']}, {terms['currency']}",
        f"  clock      {terms['time_zone']}; a call is priced {splits} (boundary {terms['boundary']})",
        f"  rounding   {terms['rounding']} to {terms['quantum']}",
        f"  tax        {tax['mode']}, {tax['percent']} %" if tax else "  tax        none",
        f"  holidays   {len(days)}, {days[0]} to {days[-1]}" if days else "  holidays   none",
    ]
    lines += [
        f"  band       {one['name']}: {' '.join(one['days'])} {one['from']} to {one['to']}, deck {one['deck']}"
        for one in terms["bands"]
    ]
    return "\n".join(lines)


def tell_applied(
    parts: Sequence[Mapping[str, str]], notes: Sequence[str] = (), *, dry_run: bool = False
) -> str:
    """What became of each part, or would."""
    width = max(len(one["part"]) for one in parts)
    lines = [f"{one['part']:<{width}}  {one['done']:<8}  {one['detail']}".rstrip() for one in parts]
    lines += [f"note: {one}" for one in notes]
    if dry_run:
        lines.append("Nothing was changed.")
    return "\n".join(lines)
