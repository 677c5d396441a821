"""Results that are kept: as many as allowed, the ones asked for last, and gone a few at a time."""

from __future__ import annotations

from bridge.routing.kept import Asked, Kept


def asked(most: int) -> tuple[Asked[int], list[int]]:
    worked_out: list[int] = []

    def square(n: int) -> int:
        worked_out.append(n)
        return n * n

    return Asked(most, square), worked_out


def test_a_rule_is_asked_once() -> None:
    rule, worked_out = asked(2)
    assert [rule(n) for n in (0, 3, 0, 3)] == [0, 9, 0, 9]
    assert worked_out == [0, 3]


def test_what_was_not_asked_for_longest_goes_first() -> None:
    rule, worked_out = asked(2)
    for n in (1, 2, 1, 3, 1, 2):
        assert rule(n) == n * n
    assert worked_out == [1, 2, 3, 2]
    assert len(rule) == 2


def test_nothing_is_kept_where_nothing_may_be() -> None:
    rule, worked_out = asked(0)
    assert (rule(2), rule(2), worked_out, len(rule)) == (4, 4, [2, 2], 0)


def test_what_was_put_first_goes_first() -> None:
    kept = Kept[str](2)
    for n in range(3):
        kept.put((n,), str(n))
    assert [kept.get((n,)) for n in range(3)] == [None, "1", "2"]


def test_it_is_emptied_a_few_at_a_time() -> None:
    rule, worked_out = asked(5)
    for n in range(5):
        rule(n)
    rule.forget(3)
    assert len(rule) == 2
    rule.forget(3)
    assert len(rule) == 0
    assert rule(1) == 1
    assert worked_out[-1] == 1
