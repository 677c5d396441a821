"""Whether a browser could find the switch's media: looked at in network namespaces of our own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOOK = "from bridge.asterisk import candidates; print(*candidates.addresses())"


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ("ip link set lo up", ""),
        ("ip link set lo up && ip address add 192.0.2.1/32 dev lo", "192.0.2.1"),
        ("ip link set lo up && ip address add 2001:db8::7/128 dev lo", "2001:db8::7"),
    ],
)
def test_only_addresses_beyond_loopback_count(made: str, found: str) -> None:
    argv = (
        "unshare",
        "--map-root-user",
        "--net",
        "sh",
        "-c",
        f'{made} && exec "$0" -c "$1"',
        sys.executable,
        LOOK,
    )
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ)
    if "unshare" in ran.stderr:
        pytest.skip("no network namespaces here")
    assert (ran.stdout.strip(), ran.stderr) == (found, "")
