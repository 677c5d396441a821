"""A carrier's price put right within the simulated month, as the product's own re-rating leaves it.

The product books now, and what is learnt now counts now. For the month to have corrections in it,
they are dated here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from bridge.calls.book import Book
from bridge.calls.ended import Ended
from bridge.calls.impact import Impact
from bridge.calls.reprice import Differences, Recorded, Repriced
from bridge.calls.store import compact
from bridge.rating.charge import charge
from bridge.rating.deck import Deck
from bridge.rating.tariff import Tariff
from bridge.routing.plan import Route
from bridge.sandbox.simulate_rows import Ids, Rows, at_of
from bridge.sandbox.simulate_world import Person, World

AUTHOR: Final = "simulation"
REASON: Final = "the carrier's price to mobile phones, as agreed"


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that may be priced again. paid: of its charge, what was not written off."""

    who: Person
    b_number: str
    admitted_ms: int
    sell: Tariff
    route: Route
    ended: Ended
    paid: int

    def recorded(self) -> Recorded:
        """As the query `recorded` has it, apart from the texts of the tariffs."""
        one, call_id = self.ended, self.ended.call_id
        booked = call_id if self.paid or one.cost_micro else None
        assert one.answered_at is not None
        return Recorded(
            call_id, self.who.account_id, self.who.a_number, self.b_number, at_of(self.admitted_ms), one.answered_at,
            one.talk_ms, one.covered_s, 0, booked, "", one.billed_s, one.amount_micro, "", one.buy_billed_s,
            one.cost_micro,
        )  # fmt: skip


def correct(
    answered: list[Answered], deck: Deck, book: Book, world: World, rows: Rows, ids: Ids, at_ms: int
) -> int:
    """Price these on another buy deck, and book what differs. Returns how many did."""
    run_id, impact, differs = ids(at_ms), Impact(), Differences()
    tariffs: dict[str, int] = {}
    changed = []
    for one in sorted(answered, key=lambda one: one.ended.call_id):
        tariff = deck.tariff(one.b_number[1:])
        assert tariff is not None
        bought = charge(tariff, one.ended.talk_ms, answered_at=one.ended.answered_at)
        found = Repriced(one.recorded(), one.sell, one.route.buy, None, bought)
        impact.add(found)
        if found.changed:
            no = tariffs.setdefault(compact(tariff.to_json()), len(tariffs))
            changed.append((one, found, no))
    for text, no in tariffs.items():
        rows.add("rerate_tariff", run_id, no, text)
    texts = list(tariffs)
    for one, found, no in changed:
        call = found.call
        rows.add(
            "rerate_item", run_id, call.call_id, call.account_id, 1, None, call.billed_s, call.billed_s,
            call.amount_micro,
            call.amount_micro, no, found.buy and found.buy.billed_s, call.cost_micro, found.cost_micro,
            differs(found),
        )  # fmt: skip
        reversal_id, rebooking_id = _book(one, found, run_id, world, book, rows, ids, at_ms)
        assert found.buy is not None
        rows.add(
            "rerating", call.call_id, 1, run_id, compact(one.sell.to_json()), call.billed_s, call.amount_micro,
            call.amount_micro - one.paid, texts[no], found.buy.billed_s, found.cost_micro, reversal_id, rebooking_id,
        )  # fmt: skip
    last = changed[-1][1].call.call_id if changed else UUID(int=0)
    at = at_of(at_ms)
    criteria = json.dumps({"carrier": "nordlicht", "on": [deck.name]})
    rows.add(
        "rerate_run",
        run_id,
        criteria,
        AUTHOR,
        REASON,
        "done",
        json.dumps(impact.to_json()),
        last,
        at,
        at_of(at_ms + 5_000),
    )
    return len(changed)


def _book(
    one: Answered, found: Repriced, run_id: UUID, world: World, book: Book, rows: Rows, ids: Ids, at_ms: int
) -> tuple[UUID | None, UUID | None]:
    """Reverse what stands, and book it again."""
    call, ended = found.call, one.ended
    carrier = UUID(book.peers[one.route.trunk_id].carrier_account_id)
    revenue, cost = (UUID(str(world.accounts[f"{role} {ended.currency}"])) for role in ("revenue", "cost"))
    made: list[UUID | None] = []
    for sign, kind, cost_micro in ((-1, "reversal", call.cost_micro), (1, "rebooking", found.cost_micro)):
        if not one.paid and not cost_micro:
            made.append(None)
            continue
        transfer_id = ids(at_ms + 1_000)
        key = f"rerate:{run_id}:{call.call_id}" + (":reversal" if sign < 0 else "")
        reverses = call.call_id if sign < 0 else None
        rows.add(
            "transfer", transfer_id, kind, key, REASON, at_of(at_ms + 1_000), AUTHOR, reverses, ended.ended_at
        )
        legs = (
            (one.who.account_id, -one.paid),
            (revenue, one.paid),
            (cost, -cost_micro),
            (carrier, cost_micro),
        )
        for no, (account_id, micro) in enumerate(legs, 1):
            if micro:
                rows.add("entry", transfer_id, no, account_id, sign * micro, ended.currency)
        made.append(transfer_id)
    return made[0], made[1]
