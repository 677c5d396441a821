"""The rules of rollouts: what is due, what events lead to, the chain, the forecast."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

import pytest

from bridge.rollout.chain import Link, counts, flat, tree
from bridge.rollout.forecast import Seen, forecast
from bridge.rollout.invite import is_code, why_no_invites
from bridge.rollout.place import country_of
from bridge.rollout.replay import Event, Member, Rollout, differences, replay
from bridge.rollout.window import due

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
W, V, A, B, C = (UUID(int=number) for number in range(1, 6))


@pytest.mark.parametrize(
    ("state", "opens", "closes", "said"),
    [
        ("planned", None, None, None),
        ("planned", NOON, None, "open"),
        ("planned", NOON + HOUR, None, None),
        ("planned", NOON - HOUR, NOON, "closed"),  # nobody was there to open it
        ("open", NOON - HOUR, NOON + HOUR, None),
        ("open", None, NOON, "closed"),
        ("paused", NOON - HOUR, None, None),  # what was paused opens by hand
        ("paused", None, NOON, "closed"),
        ("closed", NOON, NOON, None),
    ],
)
def test_what_is_due(state: str, opens: datetime | None, closes: datetime | None, said: str | None) -> None:
    assert due(state, opens, closes, NOON) == said  # type: ignore[arg-type]


def story() -> list[Event]:
    """Three wait, one is enabled in a window, another keyed and enabled when the key is given."""
    no = count(1)
    return [
        Event(next(no), "rollout.made"),
        Event(next(no), "wave.made", wave_ids=(V,), data={"server_key": True}),
        Event(next(no), "window.planned", W),
        *(Event(next(no), "member.waiting", subscriber_id=one) for one in (A, B, C)),
        Event(next(no), "member.activated", None, (), A, None, {"depth": 0}),
        Event(next(no), "rollout.running"),
        Event(next(no), "window.open", W),
        Event(next(no), "member.activated", W, (V,), B, A, {"depth": 1}),
        Event(next(no), "wave.key_withheld", wave_ids=(V,)),
        Event(next(no), "member.keyed", W, (V,), C, B, {"depth": 2}),
        Event(next(no), "wave.key_given", wave_ids=(V,)),
        Event(next(no), "member.activated", W, (V,), C, B, {"depth": 2}),
        Event(next(no), "window.closed", W),
    ]


def test_events_lead_to_states_and_counters() -> None:
    made = replay(story())
    assert made == Rollout(
        "running",
        {W: ("closed", 2)},
        {V: (2, True)},
        {A: Member("activated"), B: Member("activated", A, 1, W), C: Member("activated", B, 2, W)},
    )
    assert differences(made, made) == []


def test_tables_that_tell_something_else_are_found() -> None:
    made, kept = replay(story()), replay(story())
    kept.windows[W] = ("closed", 3)
    kept.members[C] = replace(kept.members[C], state="waiting")
    kept.state = "killed"
    assert len(differences(made, kept)) == 3
    del kept.members[A]
    assert any("not there, by the events activated" in one for one in differences(made, kept))


def test_events_that_cannot_have_happened_are_found() -> None:
    whole = story()
    assert "event 5 is missing" in replay(whole[:4] + whole[5:]).wrong
    twice = [*whole, Event(16, "member.activated", W, (V,), C, B, {"depth": 2})]
    assert replay(twice).wrong  # after the end of its window, and for the second time
    assert replay([*whole, Event(16, "window.open", W)]).wrong == ["event 16, window.open: it was closed"]
    assert replay([Event(1, "member.activated", W, (), A)]).wrong
    assert replay([Event(1, "rollout.launched"), Event(2, "rollout.killed")]).wrong


def link(who: UUID, by: UUID | None, depth: int) -> Link:
    return Link(who, by, "activated", depth, NOON)


def test_a_chain_is_a_tree() -> None:
    roots = tree([link(B, A, 1), link(C, B, 2), link(V, None, 0)])
    assert [(depth, node.subscriber_id) for depth, node in flat(roots)] == [(0, A), (1, B), (2, C), (0, V)]
    assert roots[0].link is None  # could call before
    assert counts(roots) == {A: 2, B: 1, C: 0, V: 0}


def test_a_long_chain_needs_no_stack() -> None:
    people = [UUID(int=number) for number in range(1, 20_001)]
    chain = [link(who, by, 1) for who, by in zip(people[1:], people, strict=False)]
    assert counts(tree(chain))[people[0]] == len(chain)


def test_a_forecast_grows_and_is_bounded() -> None:
    seen = Seen(active=100, waiting=10_000, quota_left=None, brought=50, exposure_h=500.0)
    hours = [forecast(seen, at).expected for at in (0, 1, 10, 30, 100, 1000)]
    assert hours == sorted(hours)
    assert hours[0] == 100
    assert hours[1] == pytest.approx(110, abs=2)  # a tenth of a person an hour each
    assert hours[-1] == 10_100
    full = forecast(replace(seen, quota_left=50), 1000)
    assert (full.expected, full.at_most) == (150, 150)
    assert full.full_in_h == pytest.approx(4.1, abs=0.2)
    assert forecast(replace(seen, quota_left=50), full.full_in_h or 0).expected == 150
    some = forecast(seen, 10)
    assert some.low < some.expected < some.high


@pytest.mark.parametrize(
    "seen",
    [
        Seen(0, 100, None, 0, 0.0),
        Seen(0, 0, None, 0, 0.0),
        Seen(5, 100, None, 0, 10.0),
        Seen(5, 100, 0, 3, 10.0),
        Seen(5, 0, None, 3, 10.0),
    ],
)
def test_a_forecast_of_nothing_is_that_nothing_changes(seen: Seen) -> None:
    found = forecast(seen, 1e6)
    assert found.low == found.expected == found.high == found.active == seen.active


def test_a_forecast_far_away_does_not_overflow() -> None:
    seen = Seen(1, 10**9, None, 10**6, 1e-6)
    assert forecast(seen, 8760).expected == 10**9 + 1
    with pytest.raises(ValueError, match="hours"):
        forecast(seen, -1)


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("+493023125017", "DE"),
        ("+442079460123", "GB"),
        ("+12025550123", "US"),
        ("+80012345678", None),
        ("+1", None),
    ],
)
def test_the_country_of_a_number(number: str, country: str | None) -> None:
    assert country_of(number) == country


@pytest.mark.parametrize(
    "text", ["", "A" * 21, "A" * 23, "A" * 21 + "\n", "Ä" * 22, "A" * 21 + "'", "１" * 22]
)
def test_no_code(text: str) -> None:
    assert not is_code(text)


def test_why_one_may_not_invite() -> None:
    fine = {
        "rollout": "running",
        "may_call": True,
        "window_open": True,
        "invites_left": 1,
        "depth": 0,
        "depth_max": 2,
    }

    def why(**more: object) -> str | None:
        return why_no_invites(**(fine | more))  # type: ignore[arg-type]

    assert why() is None
    assert why(invites_left=None, depth_max=None) is None
    assert why(rollout=None) == "no_rollout"
    assert why(rollout="launched") == "enabled"
    assert why(may_call=False) == "not_enabled"
    assert why(window_open=False) == "no_window"
    assert why(invites_left=0) == "limit"
    assert why(depth=2) == "depth"
