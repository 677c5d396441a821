"""From what the switch recorded to what is booked."""

from dataclasses import replace
from uuid import UUID

import pytest

from bridge.calls.ended import EndRecord, Ledgers, instant, price, talk_ms
from bridge.calls.frozen import Frozen, thaw
from bridge.calls.store import compact
from bridge.calls.way import Way
from bridge.rating.deck import Deck
from bridge.rating.rate import Rate
from bridge.rating.tariff import Tariff
from bridge.resources import SQL
from bridge.routing.plan import plan
from bridge.routing.trunk import Trunk
from bridge.telephony.number import Number

ID = UUID("01a203c8-4c13-7987-9c96-f6a99d52ec62")
SELL = Tariff(Rate("s", "sell", "49", "Germany", "EUR", 60_000))
BUY = Rate("b", "buy", "49", "Germany", "EUR", 12_000, initial_s=6, next_s=6)
TRUNK = Trunk("t1", "alpha", "carrier alpha", Deck("buy", "buy", "EUR", 1, [BUY]), None)
PLAN = plan(Number("+493023125000"), SELL, [TRUNK], {})
FROZEN = Frozen(ID, SELL, PLAN.routes, "+493023125000")
LEDGERS = Ledgers("revenue", "cost", "carrier")
T0 = 1_795_358_452_000_000


def ended(answered_us: int = T0, ended_us: int = T0 + 61_000_000, attempt_no: int | None = 1, **more):
    return price(EndRecord(ID, attempt_no, answered_us, ended_us, "journal", **more), FROZEN, LEDGERS)


def test_an_answered_call_is_charged_and_costs():
    call = ended()
    assert (call.state, call.talk_ms, call.billed_s, call.amount_micro) == ("answered", 61_000, 120, 120_000)
    assert (call.buy_billed_s, call.cost_micro, call.outcome, call.sip_code) == (66, 13_200, "answered", 200)


@pytest.mark.parametrize(
    ("dialstatus", "cause", "state", "outcome"),
    [
        ("BUSY", 17, "unanswered", "busy"),
        ("CANCEL", None, "unanswered", "gave_up"),
        ("CONGESTION", 34, "failed", "congested"),
    ],
)
def test_an_unanswered_call_costs_nothing(dialstatus, cause, state, outcome):
    call = ended(0, T0, dialstatus=dialstatus, q850_cause=cause)
    assert (call.state, call.outcome) == (state, outcome)
    assert (call.amount_micro, call.cost_micro, call.billed_s, call.answered_at) == (0, 0, 0, None)


def test_a_call_given_up_before_it_was_dialled_has_no_attempt():
    call = ended(0, T0, None)
    assert (call.state, call.attempt_no, call.trunk_id, call.cost_micro) == ("unanswered", None, None, 0)


def test_an_answer_of_no_length_is_still_an_answer():
    assert ended(T0, T0).amount_micro == 60_000


def test_fractions_of_a_millisecond_are_the_callers():
    assert talk_ms(T0, T0 + 60_000_999) == 60_000
    assert ended(T0, T0 + 60_000_999).billed_s == 60


def test_a_clock_that_stepped_back_never_makes_talk_negative():
    assert talk_ms(T0, T0 - 5_000_000) == 0


def test_instants_are_exact():
    assert instant(T0 + 123_457).microsecond == 123_457


def test_frozen_and_thawed_is_the_same():
    row = {"call_id": ID, "sell": compact(SELL.to_json()), "routes": compact(PLAN.to_json())}
    row |= {"b_number": FROZEN.b_number, "a_number": "", "sip_call_id": "", "bundled": False}
    assert thaw(row | {"subscriber_id": None} | FROZEN.way.columns()) == FROZEN
    way = Way("on_net", callee_id=ID, anonymous=True, after_call_id=ID)
    assert thaw(row | {"subscriber_id": ID} | way.columns()) == replace(FROZEN, subscriber_id=ID, way=way)


def test_the_row_has_the_columns_of_the_sql_type():
    text = (SQL / "schema.sql").read_text()
    columns = text[text.index("CREATE TYPE ended_call AS (") :].split(");")[0].split("(", 1)[1]
    names = [column.split()[0] for column in columns.replace("\n", " ").split(",")]
    assert names == list(type(ended()).__slots__)
