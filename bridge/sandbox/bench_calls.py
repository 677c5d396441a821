"""Figures `bridged_cps`, `call_cpu`, `added_pdd`: a call through the whole bridge next to a bare `Dial()` in the same
Asterisk. Both kinds take turns, each time on a switch that has just started.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Final

from bridge.errors import BridgeError
from bridge.sandbox.bench_pdd import measure_pdd
from bridge.sandbox.bench_sipp import quantile
from bridge.sandbox.bench_stack import BenchStack, bench_stack, now, say
from bridge.sandbox.process import Deadline

SUBSCRIBERS: Final = 2000
VARIANTS: Final = ("bridged", "bare")
BASELINE: Final = "bare Dial() in the same Asterisk"
RATES: Final = (120, 80, 40)  # calls/s; the first that this machine carries is used
SEARCH_S_MAX: Final = 210.0


@dataclass(slots=True)
class Climb:
    """The search for the highest clean rate: up while clean, down when not, in steps that shrink at each summit.

    summits  clean rates above which the next step was not clean
    """

    rate: float
    factor: float = 1.25
    factor_min: float = 1.04
    summits: list[float] = field(default_factory=list)
    _clean: float = 0.0

    def note(self, *, clean: bool) -> None:
        """How the present rate went; sets the next one."""
        if clean:
            self._clean = self.rate
            self.rate *= self.factor
            return
        if self._clean:
            self.summits.append(self._clean)
            self._clean = 0.0
        self.factor = max(self.factor_min, math.sqrt(self.factor))
        self.rate /= self.factor

    @property
    def found(self) -> float:
        """Calls/s; 0 when no rate was clean."""
        return statistics.median(self.summits) if self.summits else self._clean


def bridged_cps(*, smoke: bool, workers: int = 1) -> list[dict[str, object]]:
    """The highest rate of calls at which none fails, is retransmitted or comes late. value: calls/s"""
    rounds, step_s, first = (1, 1.0, 40.0) if smoke else (11, 5.0, 160.0)
    climbs = {variant: Climb(first) for variant in VARIANTS}
    with bench_stack(subscribers=_subscribers(smoke=smoke), workers=workers) as bench:
        if not smoke:
            _settle_in(bench, RATES[-1])
        deadline, steps = Deadline(SEARCH_S_MAX), 0
        while steps < rounds and deadline.left_s:
            for variant, climb in climbs.items():
                fault = _step(bench, variant, climb.rate, step_s)
                say(f"bridged_cps: {variant} {climb.rate:.0f} calls/s: {fault or 'clean'}")
                climb.note(clean=not fault)
            steps += 1
    ours, theirs = climbs["bridged"], climbs["bare"]
    return [
        {
            "name": "bridged_cps",
            "value": round(ours.found),
            "unit": "calls/s",
            "baseline": BASELINE,
            "baseline_value": round(theirs.found),
            "ratio": _ratio(ours.found, theirs.found),
            "goal": 0.9,
            "n": steps,
            "workers": workers,
        }
    ]


def call_cpu(*, smoke: bool, workers: int = 1) -> list[dict[str, object]]:
    """Processor time a call at a fixed rate. value: milliseconds of switch, bridge and Postgres together"""
    pairs, warming_s, measured_s = (1, 0.0, 1.0) if smoke else (3, 2.0, 10.0)
    with bench_stack(subscribers=_subscribers(smoke=smoke), workers=workers) as bench:
        rate = RATES[-1] if smoke else _carried(bench)
        turns = []
        for _ in range(pairs):
            turn = {
                variant: _cpu_per_call(bench, variant, rate, warming_s, measured_s) for variant in VARIANTS
            }
            parts = ", ".join(f"{name} {ms:.2f}" for name, ms in turn["bridged"].items())
            say(f"call_cpu: ms a call at {rate} calls/s: bridged {parts}; bare {turn['bare']['switch']:.2f}")
            turns.append(turn)
    parts_ms = {
        name: statistics.median(turn["bridged"][name] for turn in turns) for name in turns[0]["bridged"]
    }
    sums = [(sum(turn["bridged"].values()), turn["bare"]["switch"]) for turn in turns]
    return [
        {
            "name": "call_cpu",
            "value": round(statistics.median(ours for ours, _ in sums), 2),
            "unit": "CPU ms a call",
            "baseline": f"switch alone, {BASELINE}",
            "baseline_value": round(statistics.median(theirs for _, theirs in sums), 2),
            "ratio": round(statistics.median(_ratio(ours, theirs) for ours, theirs in sums), 3),
            "goal": 1.15,
            "n": round(pairs * measured_s * rate),
            **{f"{name}_ms": round(ms, 2) for name, ms in parts_ms.items()},
            "calls_per_s": rate,
            "workers": workers,
        }
    ]


def added_pdd(*, smoke: bool, workers: int = 1) -> list[dict[str, object]]:
    """INVITE in to INVITE out, from the kernel's packet times. value: milliseconds the bridge adds to the p99"""
    rounds, calls, rate = (1, 20, 20.0) if smoke else (3, 600, RATES[0] / 2)
    turns: list[dict[str, list[float]]] = []
    with bench_stack(subscribers=_subscribers(smoke=smoke), workers=workers) as bench:
        if not smoke:
            _settle_in(bench, rate)
        for _ in range(rounds):
            turn = {variant: _pdd_ms(bench, variant, rate, calls) for variant in VARIANTS}
            said = (
                f"{name} p50 {quantile(ms, 0.5):.2f} p99 {quantile(ms, 0.99):.2f}"
                for name, ms in turn.items()
            )
            say(f"added_pdd: ms at {rate:.0f} calls/s: {', '.join(said)}")
            turns.append(turn)

    def median(variant: str, part: float) -> float:
        return statistics.median(quantile(turn[variant], part) for turn in turns)

    p50_ms, p99_ms = (
        statistics.median(quantile(turn["bridged"], part) - quantile(turn["bare"], part) for turn in turns)
        for part in (0.5, 0.99)
    )
    return [
        {
            "name": "added_pdd",
            "value": round(p99_ms, 2),
            "unit": "ms added, p99",
            "baseline": f"p99 of {BASELINE}",
            "baseline_value": round(median("bare", 0.99), 2),
            "ratio": _ratio(median("bridged", 0.99), median("bare", 0.99)),
            "goal": 5.0,
            "n": rounds * calls,
            "p50_ms": round(p50_ms, 2),
            "baseline_p50_ms": round(median("bare", 0.5), 2),
            "calls_per_s": rate,
            "workers": workers,
        }
    ]


def _subscribers(*, smoke: bool) -> int:
    return 50 if smoke else SUBSCRIBERS


def _settle_in(bench: BenchStack, rate: float) -> None:
    """Fill the tables a little, so that ANALYZE has something to see."""
    _step(bench, "bridged", rate, 3.0)
    bench.analyze()


def _carried(bench: BenchStack) -> int:
    """The first of RATES at which no call fails. A retransmission is part of a call's cost."""
    for rate in RATES:
        try:
            bench.begin("bridged")
            _offer_whole(bench, "bridged", rate, 3.0)
        except BridgeError as error:
            say(f"call_cpu: too many here: {error}")
        else:
            bench.analyze()
            return rate
    raise BridgeError(f"this machine does not carry {RATES[-1]} calls/s")


def _step(bench: BenchStack, variant: str, rate: float, step_s: float) -> str:
    """What was wrong at this rate; empty when nothing was. A bridged call counts when it has been charged."""
    bench.begin(variant)
    since = now()
    fault = bench.offer(variant, rate, round(rate * step_s)).fault
    if not fault and variant == "bridged" and not bench.settled(since, witnessed=False):
        fault = "calls were not charged in time"
    return fault


def _cpu_per_call(
    bench: BenchStack, variant: str, rate: float, warming_s: float, measured_s: float
) -> dict[str, float]:
    """Milliseconds by part. The first seconds of a new switch and bridge are left out."""
    bench.begin(variant)
    if warming_s:
        _offer_whole(bench, variant, rate, warming_s)
    before = bench.cpu(variant)
    calls = _offer_whole(bench, variant, rate, measured_s)
    after = bench.cpu(variant)
    used_ms = {"switch": after.switch_ms - before.switch_ms}
    if variant == "bridged":
        used_ms["bridge"] = after.bridge_ms - before.bridge_ms
        used_ms["postgres"] = after.postgres_ms - before.postgres_ms
    return {name: ms / calls for name, ms in used_ms.items()}


def _offer_whole(bench: BenchStack, variant: str, rate: float, offered_s: float) -> int:
    """Calls, from the INVITE to the last record read. Returns how many.

    raises  BridgeError: one failed or was not settled; processor time a call would mean nothing
    """
    since = now()
    traffic = bench.offer(variant, rate, round(rate * offered_s))
    if traffic.completed < traffic.calls:
        raise BridgeError(f"{variant}, {rate} calls/s: {traffic.fault}")
    if traffic.fault:
        say(f"{variant}, {rate} calls/s: not clean: {traffic.fault}")
    if variant == "bridged" and not bench.settled(since):
        raise BridgeError("the calls were not settled in time")
    return traffic.calls


def _pdd_ms(bench: BenchStack, variant: str, rate: float, calls: int) -> list[float]:
    """For each call; those of the first second of a new switch and bridge are left out."""
    bench.begin(variant)
    warming = round(rate)
    measured = measure_pdd(
        bench.stack.sip_address,
        caller_port=bench.ports[variant],
        carrier_port=bench.carrier_port,
        numbers=bench.numbers,
        rate=rate,
        calls=warming + calls,
    )
    return measured[warming:]


def _ratio(ours: float, theirs: float) -> float:
    return round(ours / theirs, 3) if theirs else 0.0
