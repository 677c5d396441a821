"""Traffic that a partner carries for us: by steps or at the deck's prices, and what is short of what was promised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.partners.deal import MINUTE_S, Mode, Wholesale
from bridge.partners.statement_inputs import CARRIAGE, LATE, Inputs, Part, RecordSum, last_of
from bridge.partners.statement_line import SECOND, Kind, Line, by_currency, exchanged, minutes, when
from bridge.telephony.money import Rounding, divide, format_micro


def _carried(inputs: Inputs, no: int) -> list[RecordSum]:
    return inputs.of(("termination",), no)


def _stepped_s(inputs: Inputs) -> int:
    """Seconds of the month that are priced by steps: by these the step is reached."""
    return sum(
        one.billed_s
        for no, part in enumerate(inputs.parts)
        if part.carries and part.terms.wholesale
        for one in _carried(inputs, no)
    )


def wholesale(inputs: Inputs) -> Iterator[Line]:
    before_s, total_s = 0, _stepped_s(inputs)
    for no, part in enumerate(inputs.parts):
        if not part.carries:
            continue
        carried = _carried(inputs, no)
        terms = part.terms.wholesale
        if terms is None:
            yield from _at_cost(inputs, part, carried)
            continue
        billed_s = sum(one.billed_s for one in carried)
        if terms.mode is Mode.WHOLE:
            yield from _whole(inputs, part, terms, billed_s, total_s)
        else:
            yield from _marginal(inputs, part, terms, before_s, before_s + billed_s)
        before_s += billed_s


def _marginal(inputs: Inputs, part: Part, terms: Wholesale, begin_s: int, end_s: int) -> Iterator[Line]:
    """A line a step. What is rounded is the sum so far, so that the lines come to the whole, rounded once."""
    exact = rounded = 0  # 1/60 micro-units, micro-units
    ends = [step.from_minutes * MINUTE_S for step in terms.steps[1:]] + [end_s]
    for step, until_s in zip(terms.steps, ends, strict=True):
        seconds = min(until_s, end_s) - max(step.from_minutes * MINUTE_S, begin_s)
        if seconds <= 0:
            continue
        exact += seconds * step.rate_micro
        before, rounded = rounded, divide(exact, MINUTE_S, Rounding.HALF_UP)
        yield Line(
            Kind.WHOLESALE,
            f"Traffic carried, from minute {step.from_minutes} of the month{when(inputs, part)}",
            rounded - before,
            seconds,
            SECOND,
            step.rate_micro,
            detail={"mode": terms.mode.value, "from_minutes": step.from_minutes, "version": part.version},
        )


def _whole(inputs: Inputs, part: Part, terms: Wholesale, billed_s: int, total_s: int) -> Iterator[Line]:
    if not billed_s:
        return
    step = terms.step_at(total_s)
    yield Line(
        Kind.WHOLESALE,
        f"Traffic carried, all at the step from minute {step.from_minutes}{when(inputs, part)}",
        divide(step.rate_micro * billed_s, MINUTE_S, Rounding.HALF_UP),
        billed_s,
        SECOND,
        step.rate_micro,
        detail={"mode": terms.mode.value, "from_minutes": step.from_minutes, "version": part.version},
    )


def _at_cost(inputs: Inputs, part: Part, carried: Sequence[RecordSum]) -> Iterator[Line]:
    for currency, (billed_s, amount_micro, calls) in sorted(by_currency(carried).items()):
        if not billed_s and not amount_micro:
            continue
        yield Line(
            Kind.WHOLESALE,
            f"Traffic carried, at the prices of the deck{when(inputs, part)}",
            inputs.converted(amount_micro, currency),
            billed_s,
            SECOND,
            base_micro=inputs.converted(amount_micro, currency),
            detail={"mode": "deck", "calls": calls, "version": part.version}
            | exchanged(inputs, amount_micro, currency),
        )


def late_wholesale(inputs: Inputs) -> Iterator[Line]:
    """At the rate of the step that the month has reached, or at the deck's prices."""
    carriers = [part for part in inputs.parts if part.carries]
    late = _carried(inputs, LATE)
    if CARRIAGE not in inputs.late or not carriers or not late:
        return
    terms = carriers[-1].terms.wholesale
    if terms is None:
        for currency, (billed_s, amount_micro, calls) in sorted(by_currency(late).items()):
            if not billed_s and not amount_micro:
                continue
            yield Line(
                Kind.CORRECTION,
                "Traffic carried in earlier months, at the prices of the deck",
                inputs.converted(amount_micro, currency),
                billed_s,
                SECOND,
                detail={"calls": calls} | exchanged(inputs, amount_micro, currency),
            )
        return
    step = terms.step_at(_stepped_s(inputs))
    billed_s = sum(one.billed_s for one in late)
    if not billed_s:
        return
    yield Line(
        Kind.CORRECTION,
        f"Traffic carried in earlier months, at the step from minute {step.from_minutes}",
        divide(step.rate_micro * billed_s, MINUTE_S, Rounding.HALF_UP),
        billed_s,
        SECOND,
        step.rate_micro,
        detail={"calls": sum(one.calls for one in late)},
    )


def shortfall(inputs: Inputs, due_micro: int) -> Iterator[Line]:
    """What is missing to the least of the month. Parts of a month promise their part of it, by days.

    Minutes come first, at what they would have cost; they count towards the amount.
    """
    amount_days = sum(_promised(part)[0] * part.days for part in inputs.parts)
    second_days = sum(_promised(part)[1] * MINUTE_S * part.days for part in inputs.parts)
    committed_micro = divide(amount_days, inputs.days, Rounding.HALF_UP)
    committed_s = divide(second_days, inputs.days, Rounding.HALF_UP)
    billed_s = _all_carried_s(inputs)
    if (missing_s := committed_s - billed_s) > 0:
        missing_micro, rate_micro = _missing(inputs, billed_s, committed_s)
        due_micro += missing_micro
        yield Line(
            Kind.SHORTFALL,
            f"Minutes short of the {minutes(committed_s)} committed",
            missing_micro,
            missing_s,
            SECOND,
            rate_micro,
            of=Kind.SHORTFALL,
            detail={"committed_s": committed_s, "carried_s": billed_s},
        )
    if committed_micro > due_micro:
        yield Line(
            Kind.SHORTFALL,
            f"Short of the {format_micro(committed_micro)} {inputs.currency} committed",
            committed_micro - due_micro,
            base_micro=committed_micro,
            of=Kind.SHORTFALL,
            detail={"committed": format_micro(committed_micro), "due": format_micro(due_micro)},
        )


def _promised(part: Part) -> tuple[int, int]:
    commitment = part.terms.commitment
    return (commitment.amount_micro or 0, commitment.minutes or 0) if commitment else (0, 0)


def _all_carried_s(inputs: Inputs) -> int:
    parts = [no for no, part in enumerate(inputs.parts) if part.carries]
    if CARRIAGE in inputs.late:
        parts.append(LATE)
    return sum(one.billed_s for no in parts for one in _carried(inputs, no))


def _missing(inputs: Inputs, billed_s: int, committed_s: int) -> tuple[int, int | None]:
    """What the minutes that were not sent would have cost, and their rate if they have one: by the last steps of the
    month, else at what a minute cost on average.
    """
    missing_s, billed_s = committed_s - billed_s, max(billed_s, 0)
    part = last_of(inputs.parts, CARRIAGE)
    if part is not None and part.terms.wholesale is not None:
        terms = part.terms.wholesale
        more = terms.due_micro(committed_s) - terms.due_micro(billed_s)
        alone = len(terms.steps) == 1 or terms.step_at(billed_s) == terms.step_at(committed_s)
        return max(0, more), terms.step_at(billed_s).rate_micro if alone else None
    cost_micro = sum(
        inputs.converted(amount_micro, currency)
        for no, one in enumerate(inputs.parts)
        if one.carries
        for currency, (_, amount_micro, _) in sorted(by_currency(_carried(inputs, no)).items())
    )
    return (divide(cost_micro * missing_s, billed_s, Rounding.HALF_UP) if billed_s else 0), None
