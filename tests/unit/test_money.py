from __future__ import annotations

import pytest

from bridge.telephony.money import Money, Rounding, check_currency, divide, format_micro, parse_micro


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        (Rounding.HALF_UP, [-3, -2, -2, -1, 0, 1, 2, 2, 3]),
        (Rounding.HALF_EVEN, [-2, -2, -2, -1, 0, 1, 2, 2, 2]),
        (Rounding.UP, [-3, -2, -2, -1, 0, 1, 2, 2, 3]),
        (Rounding.DOWN, [-2, -2, -1, 0, 0, 0, 1, 2, 2]),
    ],
)
def test_divide_rounds_quarters_as_named(rounding: Rounding, expected: list[int]) -> None:
    quarters = [-10, -8, -7, -3, 0, 3, 7, 8, 10]
    assert [divide(n, 4, rounding) for n in quarters] == expected


def test_divide_up_moves_on_the_slightest_rest() -> None:
    assert divide(10**30 + 1, 10**15, Rounding.UP) == 10**15 + 1
    assert divide(10**30 + 1, 10**15, Rounding.HALF_UP) == 10**15


@pytest.mark.parametrize("denominator", [0, -1])
def test_divide_refuses_a_denominator_that_is_not_positive(denominator: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        divide(1, denominator, Rounding.UP)


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("0", 0),
        ("-0", 0),
        ("0.07", 70_000),
        ("0.000001", 1),
        ("-1.5", -1_500_000),
        ("007.10", 7_100_000),
        ("999999999999.999999", 10**18 - 1),
    ],
)
def test_parse_micro_is_exact(text: str, micro: int) -> None:
    assert parse_micro(text) == micro


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1\n",
        "+1",
        "--1",
        "-",
        ".",
        ".5",
        "5.",
        "1,5",
        "1_000",
        "1e3",
        "1E-6",
        "0.0000001",
        "0x1",
        "NaN",
        "inf",
        "1000000000000",
        "٣",
        "１",
        "1.٣",
        "-" + "9" * 5000,
    ],
)
def test_parse_micro_refuses_with_the_fix(text: str) -> None:
    with pytest.raises(ValueError, match="at most six decimals") as refused:
        parse_micro(text)
    assert len(str(refused.value)) < 250, "a hostile amount must not flood a log"


@pytest.mark.parametrize(
    ("micro", "places_min", "text"),
    [
        (0, 2, "0.00"),
        (0, 0, "0"),
        (70_000, 2, "0.07"),
        (7_000, 2, "0.007"),
        (-1_500_000, 2, "-1.50"),
        (-1, 0, "-0.000001"),
        (3_000_000, 0, "3"),
        (3_000_000, 6, "3.000000"),
        (10**18, 2, "1000000000000.00"),
    ],
)
def test_format_micro(micro: int, places_min: int, text: str) -> None:
    assert format_micro(micro, places_min) == text


@pytest.mark.parametrize("places_min", [-1, 7])
def test_format_micro_knows_six_places(places_min: int) -> None:
    with pytest.raises(ValueError, match="outside 0 to 6"):
        format_micro(1, places_min)


@pytest.mark.parametrize("code", ["EUR", "USD", "CHF", "JPY", "XAF"])
def test_active_currencies_pass(code: str) -> None:
    assert check_currency(code) == code


@pytest.mark.parametrize("code", ["", "eur", "EU", "EURO", "DEM", "HRK", "XXX", "XTS", "XAU", "EUR\n", "ЕUR"])
def test_other_codes_do_not(code: str) -> None:
    with pytest.raises(ValueError, match="ISO 4217"):
        check_currency(code)


def test_money_adds_subtracts_and_mirrors() -> None:
    five, two = Money(5_000_000, "EUR"), Money(2_000_000, "EUR")
    assert five + two == Money(7_000_000, "EUR")
    assert two - five == -Money(3_000_000, "EUR")
    assert str(two - five) == "-3.00 EUR"


def test_money_of_two_currencies_never_meets() -> None:
    euro, dollar = Money(1, "EUR"), Money(1, "USD")
    with pytest.raises(ValueError, match="do not mix"):
        euro + dollar
    with pytest.raises(ValueError, match="do not mix"):
        euro - dollar


@pytest.mark.parametrize("amount", [1.0, True, "1"])
def test_money_is_an_integer(amount: object) -> None:
    with pytest.raises(TypeError, match="must be an int"):
        Money(amount, "EUR")  # type: ignore[arg-type]


def test_money_knows_its_currency() -> None:
    with pytest.raises(ValueError, match="ISO 4217"):
        Money(1, "BTC")
