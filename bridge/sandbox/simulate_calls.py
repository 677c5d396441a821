"""The calls of a simulated month: admitted, routed, priced and booked by the product's own rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from bridge.calls.admit import Admission, decide
from bridge.calls.book import Book
from bridge.calls.caller import Callee, Caller
from bridge.calls.ended import Ended, EndRecord, Ledgers, price
from bridge.calls.frozen import Frozen
from bridge.calls.inbound import ANONYMOUS, NO_ROUTES
from bridge.calls.ring import free, ring
from bridge.calls.store import compact
from bridge.calls.way import OUT, Way
from bridge.config import Calls
from bridge.rating.allowance import Burn
from bridge.rating.reserve import reserve
from bridge.rating.tariff import Tariff
from bridge.routing.plan import Route, RoutePlan
from bridge.sandbox.simulate_corrections import Answered
from bridge.sandbox.simulate_purse import Purses
from bridge.sandbox.simulate_rows import Ids, Rows, at_of
from bridge.sandbox.simulate_traffic import ANSWER, CARRIERS, Dice, Fate
from bridge.sandbox.simulate_world import APP, CURRENCY, Person, World
from bridge.telephony.cause import Refuse, classify
from bridge.telephony.number import Number, parse_caller, parse_dialled

RULES: Final = Calls()
CUT_LATE: Final = (
    0.25  # of the calls whose money ends: the switch hangs up some hundredths of a second too late
)
SETUP_MS: Final = 60


@dataclass(slots=True)
class Exchange:
    """Makes calls, one after another in the order of their begin, and keeps their rows."""

    world: World
    book: Book
    purses: Purses
    rows: Rows
    ids: Ids
    dice: Dice
    watched: tuple[str, int, int] = ("", 0, 0)  # a trunk, and from when to when calls over it are remembered
    remembered: list[Answered] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    _numbers: dict[str, Number | Refuse] = field(default_factory=dict)
    _texts: dict[Any, str] = field(default_factory=dict)
    _plans: dict[int, tuple[RoutePlan, str]] = field(default_factory=dict)
    _ledgers: dict[str, Ledgers] = field(default_factory=dict)

    def out(self, at_ms: int, who: Person, dialled: str, talk_s: int) -> None:
        """Over a carrier, if it is admitted at all."""
        number = self._number(dialled)
        verdict = decide(self._caller(who, at_ms), number, self.book, {}, RULES, at_of(at_ms))
        if isinstance(verdict, Refuse):
            b_number = number.e164 if isinstance(number, Number) else None
            self._refuse(at_ms, who, who.a_number, dialled, b_number, verdict, OUT)
        else:
            self._carry(at_ms, who, dialled, verdict, talk_s)

    def stranger(self, at_ms: int, a_number: str, dialled: str) -> None:
        """Somebody who is no subscriber calls."""
        number = self._number(dialled)
        verdict = decide(None, number, self.book, {}, RULES, at_of(at_ms))
        assert isinstance(verdict, Refuse)
        self._refuse(at_ms, None, a_number, dialled, None, verdict, OUT)

    def on_net(self, at_ms: int, who: Person, other: Person, talk_s: int) -> None:
        """From phone to phone, for nothing."""
        number = self._number(other.a_number)
        verdict = ring(self._caller(who, at_ms), number, Callee(other.subscriber_id, True), self.book)
        way = Way("on_net", other.subscriber_id)
        if isinstance(verdict, Refuse):
            self._refuse(at_ms, who, who.a_number, other.a_number, other.a_number, verdict, way)
        else:
            self._rung(at_ms, who, who.a_number, other, verdict.sell, way, talk_s)

    def incoming(self, at_ms: int, trunk: str, shown: str, known: str, who: Person, talk_s: int) -> None:
        """From the network. shown: "" where the caller's number is withheld."""
        number = parse_caller(who.a_number)
        assert isinstance(number, Number)
        sell = free(self.book.plans[str(self.world.plans[who.plan])], number).frozen(at_of(at_ms))
        trunk_id = self.world.trunks[trunk]
        way = Way("in", who.subscriber_id, trunk_id, "pstn", not shown)
        call_id = self._rung(at_ms, who, shown or ANONYMOUS, who, sell, way, talk_s)
        if not shown:
            self.rows.add("call_withheld", call_id, known, "asked")

    def _carry(self, at_ms: int, who: Person, dialled: str, wanted: Admission, talk_s: int) -> None:
        call_id, dice = self.ids(at_ms), self.dice
        routes = wanted.routes.routes
        clock = at_ms + SETUP_MS + dice.randrange(80)
        no, route, fate, pdd_ms = 1, routes[0], ANSWER, None
        for no, route in enumerate(routes, 1):
            carrier = CARRIERS[route.name]
            lost = dice.random() < carrier.fails
            fate = dice.loss() if lost else dice.callee()
            pdd_ms = None if lost or fate.q850_cause == 1 else dice.pdd_ms(carrier.pdd_ms)
            outcome = classify(fate.dialstatus, fate.q850_cause, fate.sip_code)
            clock += (pdd_ms or 0) + dice.ring_ms(fate.ring_s)
            if not outcome.retry or no == len(routes):
                break
            self.rows.add(
                "attempt", call_id, no, UUID(route.trunk_id), outcome.reason, outcome.fault.value, fate.sip_code,
                fate.q850_cause, pdd_ms, at_of(clock), 0, 0, route.buy.currency, self._buy(route),
            )  # fmt: skip
            self.count("failovers")
            clock += dice.randrange(5, 40)
        talk_ms = 0
        burns: tuple[Burn, ...] = ()
        if fate is ANSWER:
            talk_ms, burns = self._talk(who, wanted, clock, dice.talk_ms(talk_s))
        record = self._record(call_id, no, clock, talk_ms, fate, pdd_ms)
        frozen = Frozen(call_id, wanted.sell, routes, wanted.b_number.e164)
        ended = price(record, frozen, self._ledgers_of(route), burns)
        balance, opened = who.balance, wanted.reserved.hold_micro
        self._keep(at_ms, who, who.a_number, dialled, wanted.b_number.e164, ended, wanted.sell, wanted.routes, OUT,
                   opened, burns)  # fmt: skip
        trunk, since_ms, until_ms = self.watched
        if ended.state == "answered" and route.name == trunk and since_ms <= at_ms < until_ms:
            b_number, paid = wanted.b_number.e164, balance - who.balance
            self.remembered.append(Answered(who, b_number, at_ms, wanted.sell, route, ended, paid))

    def _talk(self, who: Person, wanted: Admission, clock: int, talk_ms: int) -> tuple[int, tuple[Burn, ...]]:
        """As long as units and money last; sometimes the cut comes late."""
        answered_at = at_of(clock)
        held = reserve(
            wanted.sell, self.purses.for_calls(who, clock), wanted.b_number.digits, who.available,
            cap_ms=talk_ms, at=answered_at, answered_at=answered_at,
        )  # fmt: skip
        if held.limit_ms < talk_ms:
            self.count("cut")
            late = self.dice.random() < CUT_LATE
            talk_ms = max(held.limit_ms, 1) + (self.dice.randrange(20, 400) if late else 0)
        return talk_ms, held.burns

    def _rung(
        self, at_ms: int, who: Person, a_number: str, other: Person, sell: Tariff, way: Way, talk_s: int
    ) -> UUID:
        """Phones ring, and nobody pays."""
        call_id, dice = self.ids(at_ms), self.dice
        fate = dice.callee()
        clock = at_ms + SETUP_MS + dice.randrange(400) + dice.ring_ms(fate.ring_s)
        talk_ms = dice.talk_ms(talk_s) if fate is ANSWER else 0
        record = self._record(call_id, None, clock, talk_ms, fate, None)
        ended = price(record, Frozen(call_id, sell, (), other.a_number), self._own_ledgers())
        other.busy_until = max(other.busy_until, clock + talk_ms)
        self._keep(at_ms, who, a_number, other.a_number, other.a_number, ended, sell, NO_ROUTES, way, 0, ())
        return call_id

    def _record(
        self, call_id: UUID, no: int | None, clock: int, talk_ms: int, fate: Fate, pdd_ms: int | None
    ) -> EndRecord:
        draw = self.dice.random()
        source = "journal" if draw < 0.985 else "agi" if draw < 0.997 else "cdr"
        if not talk_ms:
            party = (
                "caller"
                if fate.dialstatus == "CANCEL"
                else "callee"
                if fate.q850_cause in (17, 19, 21)
                else "unknown"
            )
            return EndRecord(
                call_id, no, 0, clock * 1000, source, fate.dialstatus, fate.q850_cause, party, pdd_ms
            )
        party = "caller" if draw * 1000 % 1 < 0.55 else "callee"
        return EndRecord(
            call_id, no, clock * 1000, (clock + talk_ms) * 1000, source, "ANSWER", 16, party, pdd_ms
        )

    def _keep(
        self,
        at_ms: int,
        who: Person,
        a_number: str,
        dialled: str,
        b_number: str,
        ended: Ended,
        sell: Tariff,
        routes: RoutePlan,
        way: Way,
        opened: int,
        burns: tuple[Burn, ...],
    ) -> None:
        """The rows of a call as call_admit_v3 and call_end_v2 leave them."""
        call_id, ended_at, add = ended.call_id, ended.ended_at, self.rows.add
        stamp = f"{at_ms // 1000}.{len(self.counts)}{call_id.int & 0xFFFFF}"
        add(
            "call", call_id, self.world.switch_id, stamp, f"{call_id.hex[12:]}@{APP}.example.net", who.subscriber_id,
            who.account_id, a_number, dialled, b_number, ended.state, None, self._sell(sell),
            self._routes(routes),
            at_of(at_ms), ended.answered_at, ended_at, ended.talk_ms, ended.q850_cause, ended.release_party,
            ended.ended_by,
            bool(burns), who.partner_id, way.direction, way.callee_id, way.trunk_in_id, way.leg_class, way.anonymous,
        )  # fmt: skip
        amount = ended.amount_micro
        paid = min(amount, who.balance) if who.prepaid else amount
        who.balance -= paid
        who.busy_until = at_ms + (ended_at - at_of(at_ms)).seconds * 1000 + 1_000
        add("hold", call_id, who.account_id, ended.currency, "settled" if amount else "released", opened,
            max(opened, paid), paid, at_of(at_ms), ended_at)  # fmt: skip
        self.count(ended.state if way is OUT else way.direction)
        if burns:
            self.purses.burn(call_id, burns, list(ended.used_units))
        if ended.state == "answered":
            add(
                "charge",
                call_id,
                who.account_id,
                ended.billed_s,
                amount,
                amount - paid,
                ended.currency,
                ended.covered_s,
            )
            if amount > paid:
                self.count("written off")
        if ended.attempt_no is not None:
            assert ended.trunk_id is not None
            add(
                "attempt", call_id, ended.attempt_no, UUID(ended.trunk_id), ended.outcome, ended.fault,
                ended.sip_code,
                ended.q850_cause, ended.pdd_ms, ended_at, ended.buy_billed_s, ended.cost_micro,
                ended.buy_currency, ended.buy,
            )  # fmt: skip
        if paid or ended.cost_micro:
            add("transfer", call_id, "call", None, "", ended_at, "", None, None)
            legs = ((who.account_id, -paid, ended.currency), (UUID(ended.revenue_id), paid, ended.currency),
                    (UUID(ended.cost_id), -ended.cost_micro, ended.buy_currency),
                    (UUID(ended.carrier_id), ended.cost_micro, ended.buy_currency))  # fmt: skip
            for no, (account_id, micro, currency) in enumerate(legs, 1):
                if micro:
                    add("entry", call_id, no, account_id, micro, currency)

    def _refuse(
        self,
        at_ms: int,
        who: Person | None,
        a_number: str,
        dialled: str,
        b_number: str | None,
        refused: Refuse,
        way: Way,
    ) -> None:
        call_id, at = self.ids(at_ms), at_of(at_ms)
        add, of = self.rows.add, who
        add(
            "call", call_id, self.world.switch_id, f"{at_ms // 1000}.{call_id.int & 0xFFFFF}",
            f"{call_id.hex[12:]}@{APP}.example.net", of and of.subscriber_id, of and of.account_id, a_number,
            dialled, b_number,
            "refused", refused.reason.value, None, None, at, None, at, None, refused.cause, "bridge", None, False,
            of and of.partner_id, way.direction, way.callee_id, way.trunk_in_id, way.leg_class, way.anonymous,
        )  # fmt: skip
        self.count("refused")

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _caller(self, who: Person, at_ms: int) -> Caller:
        return Caller(
            who.subscriber_id, who.account_id, str(self.world.plans[who.plan]), "active", "active", CURRENCY,
            who.available, None, True, 0, allowances=self.purses.for_calls(who, at_ms), app_id=self.world.app_id,
            a_number=who.a_number,
        )  # fmt: skip

    def _number(self, dialled: str) -> Number | Refuse:
        found = self._numbers.get(dialled)
        if found is None:
            found = self._numbers[dialled] = parse_dialled(dialled)
        return found

    def _sell(self, sell: Tariff) -> str:
        key = (sell.rate, sell.version, sell.zero_rated)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = compact(sell.to_json())
        return text

    def _buy(self, route: Route) -> str:
        key = ("buy", route.buy.rate)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = compact(route.buy.to_json())
        return text

    def _routes(self, routes: RoutePlan) -> str:
        """The router keeps its plans, so that their texts are kept by identity."""
        known = self._plans.get(id(routes))
        if known is None:
            known = self._plans[id(routes)] = (routes, compact(routes.to_json()))
        return known[1]

    def _own_ledgers(self) -> Ledgers:
        ours = self.world.accounts
        return Ledgers(
            str(ours[f"revenue {CURRENCY}"]), str(ours[f"cost {CURRENCY}"]), str(ours[f"cost {CURRENCY}"])
        )

    def _ledgers_of(self, route: Route) -> Ledgers:
        found = self._ledgers.get(route.name)
        if found is None:
            ours = self.world.accounts
            carrier = str(ours[f"carrier {route.name}"])
            found = Ledgers(
                str(ours[f"revenue {CURRENCY}"]), str(ours[f"cost {route.buy.currency}"]), carrier
            )
            self._ledgers[route.name] = found
        return found
