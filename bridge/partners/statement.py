"""The lines of a statement, from its frozen inputs alone. Positive: we owe it to the partner. Negative: it owes us.

Each line is rounded once, half up; the total is the sum of the lines. What was learnt late, and corrections of calls of
earlier months, count in the month they were learnt in, on lines of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from bridge.partners.deal import ON_NET, Basis, Funding, Share, format_percent, part_micro
from bridge.partners.statement_carriage import late_wholesale, shortfall, wholesale
from bridge.partners.statement_inputs import DESTINATION, LATE, ON_NET_PURPOSE, Inputs, Part, last_of
from bridge.partners.statement_line import PURCHASE, SECOND, Kind, Line, by_currency, exchanged, when
from bridge.telephony.money import Rounding, divide, format_micro

_PPM: Final = 1_000_000


def lines_of(inputs: Inputs) -> tuple[Line, ...]:
    """All lines; none where nothing happened.

    raises   Invalid: a rate of exchange is missing
    """
    carried = [*wholesale(inputs)]
    shares = [*_shares(inputs)]
    corrections = [*late_wholesale(inputs), *_late_shares(inputs)]
    due = [*carried, *shares, *corrections]
    return (
        *carried,
        *shares,
        *shortfall(inputs, sum(line.amount_micro for line in due)),
        *_funding(inputs),
        *_zero_rated(inputs),
        *corrections,
        *_late_income(inputs),
        *_disputes(inputs),
    )


def _disputes(inputs: Inputs) -> Iterator[Line]:
    for one in sorted(inputs.outcomes):
        yield Line(
            Kind.DISPUTE,
            f"Dispute: {one.title}",
            inputs.converted(one.amount_micro, one.currency),
            of=Kind.WHOLESALE if one.leg == "termination" else Kind.DISPUTE,
            detail={"dispute_id": one.dispute_id} | exchanged(inputs, one.amount_micro, one.currency),
        )


def total_micro(lines: Iterable[Line]) -> int:
    return sum(line.amount_micro for line in lines)


# ---------------------------------------------------------------- the partner's share


def _shares(inputs: Inputs) -> Iterator[Line]:
    for no, part in enumerate(inputs.parts):
        for share in sorted(part.terms.revenue_share, key=lambda one: one.of):
            yield from _share(inputs, share, no, when(inputs, part), Kind.REVENUE_SHARE)


def _late_shares(inputs: Inputs) -> Iterator[Line]:
    for basis in Basis:
        kind = f"share of {basis.value}"
        part = last_of(inputs.parts, kind)
        if kind in inputs.late and part is not None:
            share = next(one for one in part.terms.revenue_share if one.of is basis)
            yield from _share(inputs, share, LATE, " of earlier months", Kind.CORRECTION)


def _share(inputs: Inputs, share: Share, no: int, which: str, kind: Kind) -> Iterator[Line]:
    revenue = _revenue(inputs, share.of, no)
    if not revenue:
        return
    net_micro, told = _nets(inputs, revenue)
    what = "retail revenue" if share.of is Basis.RETAIL_REVENUE else "bundles sold"
    yield Line(
        kind,
        f"{format_percent(share.permyriad)} % of {what}, net{which}",
        part_micro(net_micro, share.permyriad),
        base_micro=net_micro,
        of=Kind.REVENUE_SHARE,
        detail={"percent": format_percent(share.permyriad), "of": share.of.value, "revenue": told},
    )


def _revenue(inputs: Inputs, basis: Basis, no: int) -> dict[tuple[str, int], int]:
    """Gross, by currency and the tax that is in it."""
    if basis is Basis.RETAIL_REVENUE:
        pairs = [
            ((one.currency, one.tax_ppm), one.amount_micro) for one in inputs.of(("origination", "usage"), no)
        ]
    else:
        pairs = [
            ((one.currency, one.tax_ppm), one.amount_micro) for one in inputs.purchases if one.part == no
        ]
    return _by_tax(pairs)


def _by_tax(pairs: Iterable[tuple[tuple[str, int], int]]) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    for key, amount_micro in pairs:
        found[key] = found.get(key, 0) + amount_micro
    return {key: amount_micro for key, amount_micro in found.items() if amount_micro}


def _nets(inputs: Inputs, grosses: Mapping[tuple[str, int], int]) -> tuple[int, list[dict[str, str]]]:
    """Without tax, in the deal's currency, and how it came about. An amount without tax terms is its own net."""
    net_micro, told = 0, []
    for (currency, tax_ppm), gross_micro in sorted(grosses.items()):
        net = _net(gross_micro, tax_ppm)
        net_micro += inputs.converted(net, currency)
        told.append(
            {
                "currency": currency,
                "tax_percent": format_micro(tax_ppm * 100, 0),
                "gross": format_micro(gross_micro),
                "net": format_micro(net),
            }
        )
    return net_micro, told


def _net(gross_micro: int, tax_ppm: int) -> int:
    return divide(gross_micro * _PPM, _PPM + tax_ppm, Rounding.HALF_UP)


# ---------------------------------------------------------------- what the partner pays


def _funding(inputs: Inputs) -> Iterator[Line]:
    for no, part in enumerate(inputs.parts):
        for funding in sorted(part.terms.bundle_funding, key=lambda one: one.bundle_id):
            yield from _funded(inputs, funding, no, when(inputs, part), Kind.BUNDLE_FUNDING)


def _funded(inputs: Inputs, funding: Funding, no: int, which: str, kind: Kind) -> Iterator[Line]:
    sold = [one for one in inputs.purchases if one.part == no and one.bundle_id == funding.bundle_id.hex]
    amounts = _by_tax(((one.currency, one.tax_ppm), one.amount_micro) for one in sold)
    purchases = sum(one.purchases for one in sold)
    if not purchases and not amounts:
        return
    base_micro, told = _nets(inputs, amounts)
    yield Line(
        kind,
        f"{format_percent(funding.permyriad)} % of bundle {funding.bundle}, net{which}",
        -part_micro(base_micro, funding.permyriad),
        purchases,
        PURCHASE,
        base_micro=base_micro,
        of=Kind.BUNDLE_FUNDING,
        detail={
            "percent": format_percent(funding.permyriad),
            "bundle_id": f"bdl_{funding.bundle_id.hex}",
            "revenue": told,
        },
    )


_ZERO: Final = {
    DESTINATION: "Calls to zero-rated destinations, at what they cost us",
    ON_NET_PURPOSE: "Calls between subscribers of one app",
}


def _zero_rated(inputs: Inputs) -> Iterator[Line]:
    for no, part in enumerate(inputs.parts):
        for purpose in _paid_for(part):
            yield from _free(inputs, purpose, no, when(inputs, part), Kind.ZERO_RATED)


def _paid_for(part: Part) -> Iterator[str]:
    if part.terms.zero_rated.destinations:
        yield DESTINATION
    if ON_NET in part.terms.zero_rated.services:
        yield ON_NET_PURPOSE


def _free(inputs: Inputs, purpose: str, no: int, which: str, kind: Kind) -> Iterator[Line]:
    calls = inputs.of(("origination",), no, purpose)
    costs = by_currency(inputs.of(("zero_cost",), no, purpose))
    if not any(one.calls or one.billed_s for one in calls) and not any(cost for _, cost, _ in costs.values()):
        return
    cost_micro = sum(inputs.converted(amount, currency) for currency, (_, amount, _) in sorted(costs.items()))
    yield Line(
        kind,
        f"{_ZERO[purpose]}{which}",
        -cost_micro,
        sum(one.billed_s for one in calls),
        SECOND,
        base_micro=cost_micro,
        purpose=purpose,
        of=Kind.ZERO_RATED,
        detail={"calls": sum(one.calls for one in calls)},
    )


def _late_income(inputs: Inputs) -> Iterator[Line]:
    fundings = {one.bundle_id: one for part in inputs.parts for one in part.terms.bundle_funding}
    for bundle_id, funding in sorted(fundings.items()):
        if f"funding of {bundle_id.hex}" in inputs.late:
            yield from _funded(inputs, funding, LATE, ", bought in earlier months", Kind.CORRECTION)
    for purpose in (DESTINATION, ON_NET_PURPOSE):
        if purpose in inputs.late:
            yield from _free(inputs, purpose, LATE, ", of earlier months", Kind.CORRECTION)
