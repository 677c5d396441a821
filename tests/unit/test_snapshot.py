"""The snapshot: sealed and read back, and its routes the same as the bridge's own for every number."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.snapshot import (
    CLOCK_S_MAX,
    Snapshot,
    best_routes,
    longest,
    make_key,
    read_key,
    seal,
    unseal,
    write,
)
from bridge.errors import ConfigError
from bridge.rating.deck import Deck
from bridge.rating.plan import Plan
from bridge.rating.rate import Rate
from bridge.routing.plan import plan
from bridge.routing.router import Router
from bridge.routing.trunk import Trunk
from bridge.telephony.number import Number

KEY = bytes(range(32))
BERLIN = Number("+493023125000")
NOW = 1_800_000_000
AT = datetime.fromtimestamp(NOW, UTC)
SNAPSHOT = Snapshot(
    made_at=NOW,
    age_s_max=3600,
    limit_s=600,
    home="DE",
    subscribers={"app1": {"+4915112345678": ["0198c0de-0000-7000-8000-000000000001", "plan-1"]}},
    routes={"plan-1": {"49": "broad", "4930": "berlin", "49301": None}},
    ring_s={"broad": 45, "berlin": 30},
)


def deck(name: str, rates: dict[str, int | None]) -> Deck:
    """Micro-units a minute by prefix; None is blocked."""
    return Deck(
        name,
        name,
        "EUR",
        1,
        [
            Rate(f"{name}-{prefix}", name, prefix, "somewhere", "EUR", price or 0, blocked=price is None)
            for prefix, price in rates.items()
        ],
    )


def trunk(name: str, rates: dict[str, int | None], **fields: Any) -> Trunk:
    return Trunk(f"id-{name}", name, name, deck(name, rates), **({"capacity": None} | fields))


def subscribed(rates: dict[str, int | None], floor_micro: int = 0) -> Plan:
    return Plan("plan-1", "retail", deck("sell", rates), floor_micro)


# ---------------------------------------------------------------- the file


def test_what_is_sealed_is_read_back() -> None:
    assert unseal(seal(SNAPSHOT, KEY), KEY, NOW + 10) == SNAPSHOT


@pytest.mark.parametrize("age_s", [-CLOCK_S_MAX, 0, 3600])
def test_a_snapshot_is_used_until_its_age_is_reached(age_s: int) -> None:
    assert unseal(seal(SNAPSHOT, KEY), KEY, NOW + age_s) == SNAPSHOT


@pytest.mark.parametrize("age_s", [-CLOCK_S_MAX - 1, 3601, 10**9])
def test_a_snapshot_that_is_too_old_or_from_the_future_is_refused(age_s: int) -> None:
    with pytest.raises(ValueError, match="s old"):
        unseal(seal(SNAPSHOT, KEY), KEY, NOW + age_s)


@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_no_bit_can_be_changed(position: int, bit: int) -> None:
    content = bytearray(seal(SNAPSHOT, KEY))
    content[position % len(content)] ^= 1 << bit
    with pytest.raises(ValueError, match="signature"):
        unseal(bytes(content), KEY, NOW)


@given(st.binary(max_size=200))
def test_rubbish_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="signature"):
        unseal(content, KEY, NOW)


def test_another_key_is_refused() -> None:
    with pytest.raises(ValueError, match="signature"):
        unseal(seal(SNAPSHOT, KEY), KEY[::-1], NOW)


def test_the_snapshot_of_another_version_is_refused() -> None:
    _, _, body = seal(SNAPSHOT, KEY).partition(b"\n")
    other = json.dumps(json.loads(body) | {"later": 1}).encode()
    signature = hmac.new(KEY, other, hashlib.sha256).hexdigest().encode()
    with pytest.raises(ValueError, match="another version"):
        unseal(signature + b"\n" + other, KEY, NOW)


def test_writing_replaces_the_file_whole_and_lets_the_group_read(tmp_path: Path) -> None:
    path = tmp_path / "failsafe.json"
    mask = os.umask(0o077)
    try:
        write(path, b"first")
        with path.open("rb") as reader:
            write(path, b"second")
            assert reader.read() == b"first"
    finally:
        os.umask(mask)
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "failsafe.json"
    (path / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write(path, b"new")
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------- the key


def test_a_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "failsafe.key"
    assert make_key(path)
    key = read_key(path)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not make_key(path)
    assert read_key(path) == key


def test_without_a_key_the_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"failsafe\.key_file: .*No such file"):
        read_key(tmp_path / "missing")


@pytest.mark.parametrize(
    ("text", "why"), [("", "0 bytes"), ("00" * 31, "31 bytes"), ("secret", "hexadecimal")]
)
def test_a_key_too_weak_to_sign_with_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(ConfigError, match=why) as caught:
        read_key(tmp_path / "key")
    assert "secret" not in str(caught.value)


# ---------------------------------------------------------------- who and where


def test_a_subscriber_is_found_by_app_and_number_only() -> None:
    assert SNAPSHOT.subscriber("app1", "+4915112345678") == (
        "0198c0de-0000-7000-8000-000000000001",
        "plan-1",
    )
    assert SNAPSHOT.subscriber("app2", "+4915112345678") is None
    assert SNAPSHOT.subscriber("app1", "+4915112345679") is None


@pytest.mark.parametrize(
    ("number", "name"),
    [("+498912345678", "broad"), ("+493023125000", "berlin"), ("+493012345678", None), ("+4312345678", None)],
)
def test_the_longest_prefix_gives_the_trunk(number: str, name: str | None) -> None:
    assert SNAPSHOT.trunk("plan-1", Number(number)) == name


def test_a_place_the_carrier_charges_more_for_than_we_do_is_not_reached() -> None:
    # One number for all of 49 would not have shown it: only the buy deck tells 4916 apart.
    table = best_routes(subscribed({"49": 20_000}), Router([trunk("a", {"49": 10_000, "4916": 90_000})]), AT)
    assert table == {"49": "a", "4916": None}


def test_a_prefix_that_changes_nothing_is_left_out() -> None:
    table = best_routes(
        subscribed({"49": 20_000, "4930": 30_000}),
        Router([trunk("a", {"49": 1, "49301": 2})]),
        AT,
    )
    assert table == {"49": "a"}


def test_disabled_full_and_foreign_trunks_and_blocked_prefixes_have_no_route() -> None:
    trunks = [
        trunk("disabled", {"49": 1}, enabled=False),
        trunk("full", {"49": 1}, capacity=0),
        trunk("emergency", {"49": 1}, policy_class="emergency"),
    ]
    assert best_routes(subscribed({"49": 20_000}), Router(trunks), AT) == {}
    open_trunk = trunk("open", {"49": 1, "4915": None})
    sell = subscribed({"49": 20_000, "4917": None})
    table = best_routes(sell, Router([open_trunk]), AT)
    assert table == {"49": "open", "4915": None, "4917": None}


# Few digits, so that prefixes of different decks run into each other, and short ones are filled up entirely.
PREFIX = st.text("123", min_size=1, max_size=7)
PRICE = st.none() | st.integers(0, 5).map(lambda n: n * 10_000)
RATES = st.dictionaries(PREFIX, PRICE, max_size=8)


@given(
    sell=RATES,
    buys=st.lists(RATES, max_size=3),
    floor_micro=st.sampled_from([-20_000, 0, 15_000]),
    digits=st.text("123", min_size=5, max_size=9),
)
def test_for_every_number_the_trunk_is_the_one_the_bridge_would_try_first(
    sell: dict[str, int | None],
    buys: list[dict[str, int | None]],
    floor_micro: int,
    digits: str,
) -> None:
    payer = subscribed(sell, floor_micro)
    trunks = [trunk(f"t{n}", rates) for n, rates in enumerate(buys)]
    table = best_routes(payer, Router(trunks), AT)
    rate = payer.deck.tariff(digits)
    wanted = None
    if rate is not None and not rate.rate.blocked:
        routes = plan(Number(f"+{digits}"), rate, trunks, {}, margin_floor_micro=floor_micro).routes
        wanted = routes[0].name if routes else None
    assert replace(SNAPSHOT, routes={"p": table}).trunk("p", Number(f"+{digits}")) == wanted


def test_a_prefix_whose_every_number_goes_on_to_a_longer_one_needs_no_route() -> None:
    ten: dict[str, int | None] = {f"49{n}": 1 for n in range(10)}
    table = best_routes(subscribed({"49": 20_000}), Router([trunk("a", ten)]), AT)
    assert table == dict.fromkeys(ten, "a")


def test_longest_of_none_is_empty() -> None:
    assert longest({}, "4930") == ""
    assert longest({"4931", "5"}, "4930") == ""
