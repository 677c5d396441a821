"""Where nothing may be sent, in every way of writing it that was thought of."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading

import pytest

from bridge.events import address as module
from bridge.events.address import AddressRefused, Target, check, checked, is_public, read_url

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example.com/a?b=c", Target("https", "hooks.example.com", 443, "/a?b=c")),
        ("HTTPS://Hooks.EXAMPLE.com.", Target("https", "hooks.example.com", 443, "/")),
        ("https://hooks.example.com:8443/", Target("https", "hooks.example.com", 8443, "/")),
        ("https://hooks.example.com?x", Target("https", "hooks.example.com", 443, "/?x")),
        ("https://xn--bcher-kva.example/", Target("https", "xn--bcher-kva.example", 443, "/")),
        ("https://93.184.215.14/", Target("https", "93.184.215.14", 443, "/")),
        ("https://[2606:4700::1111]:4443/", Target("https", "2606:4700::1111", 4443, "/")),
        ("http://127.0.0.1:9000/x", Target("http", "127.0.0.1", 9000, "/x")),
    ],
)
def test_understood(url, target):
    assert read_url(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "https:hooks.example.com",
        "https:///hooks.example.com",
        "https://",
        "https://user@hooks.example.com/",
        "https://user:pass@hooks.example.com/",
        "https://hooks.example.com@127.0.0.1/",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com/#a",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/a\r\nHost: x",
        "https://hooks.example.com/\x00",
        " https://hooks.example.com/",
        "https://hooks.example.com/\n",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:25/",
        "https://hooks.example.com:22/",
        "https://hooks.example.com:80/",
        "https://hooks.example.com:65536/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:/",
        "https://hooks.example.com:443:443/",
        "https://bücher.example/",
        "https://hooks.example。com/",
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://a.localhost/",
        "https://metadata.google.internal/",
        "https://printer.local/",
        "https://1.0.0.127.in-addr.arpa/",
        "https://intranet/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.1/",
        "https://127.0.1/",
        "https://0/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://hooks.example.0x10/",
        "https://hooks..example.com/",
        "https://hooks.example.com../",
        "https://-a.example.com/",
        "https://a-.example.com/",
        "https://" + "a" * 64 + ".example.com/",
        "https://" + "a." * 127 + "com/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://[::ffff:127.0.0.1]x/",
        "https://[1:2:3]/",
        "https://a_b.example.com/",
        "https://hooks.example.com/" + "a" * 2048,
    ],
)
def test_not_understood(url):
    with pytest.raises(AddressRefused):
        read_url(url)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
        "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.0.192", "192.0.2.1",
        "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1",
        "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378::1", "2001:10::1", "2001:db8::1",
        "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
        "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_not_public(text):
    assert not is_public(ipaddress.ip_address(text))
    with pytest.raises(AddressRefused, match="no public address"):
        checked(Target("https", "hooks.example.com", 443, "/"), ["93.184.215.14", text], ())


@pytest.mark.parametrize(
    "text",
    ["1.1.1.1", "93.184.215.14", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::1"],
)
def test_public(text):
    assert is_public(ipaddress.ip_address(text))


def test_what_an_operator_allows_may_also_do_without_tls():
    plain = Target("http", "127.0.0.1", 9000, "/")
    assert checked(plain, ["127.0.0.1"], LOOPBACK) == ["127.0.0.1"]
    with pytest.raises(AddressRefused, match="https"):
        checked(plain, ["127.0.0.1", "93.184.215.14"], LOOPBACK)
    with pytest.raises(AddressRefused, match="no public"):
        checked(plain, ["127.0.0.1", "10.0.0.1"], LOOPBACK)
    with pytest.raises(AddressRefused, match="no public"):
        checked(plain, ["::ffff:127.0.0.1"], LOOPBACK)


def test_a_name_that_leads_nowhere():
    target = Target("https", "hooks.example.com", 443, "/")
    with pytest.raises(AddressRefused, match="nowhere"):
        checked(target, [], ())
    with pytest.raises(AddressRefused, match="no address"):
        checked(target, ["not an address"], ())


async def test_a_name_is_looked_up_and_all_its_addresses_count():
    async def two_faced(_: str) -> list[str]:
        return ["93.184.215.14", "10.0.0.1"]

    async def unknown(_: str) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(AddressRefused, match="no public"):
        await check("https://hooks.example.com/", two_faced, ())
    with pytest.raises(AddressRefused, match="looked up"):
        await check("https://hooks.example.com/", unknown, ())


async def test_a_name_server_that_says_nothing_does_not_hold_us_up(monkeypatch):
    async def silent(_: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(module, "RESOLVE_S", 0.01)
    with pytest.raises(AddressRefused, match="looked up"):
        await check("https://hooks.example.com/", silent, ())


async def test_names_in_hosts_files_are_no_way_in():
    names = module.Names()
    try:
        assert set(await names("localhost")) <= {"127.0.0.1", "::1"}
        assert await names("127.0.0.1") == ["127.0.0.1"]
        with pytest.raises(AddressRefused, match="no public"):
            await check("https://127.0.0.1:8443/", names, ())
    finally:
        names.close()


async def test_a_slow_name_takes_one_thread_however_often_it_is_asked(monkeypatch):
    """And others are looked up meanwhile."""
    answered, asked = threading.Event(), []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        if host == "slow.example.com":
            answered.wait(20)
        return ["93.184.215.14"]

    monkeypatch.setattr(module, "_look_up", look_up)
    monkeypatch.setattr(module, "RESOLVE_S", 0.05)
    names = module.Names(2)
    try:
        for _ in range(5):
            with pytest.raises(AddressRefused, match="looked up"):
                await check("https://slow.example.com/", names, ())
        await check("https://quick.example.com/", names, ())
        assert asked == ["slow.example.com", "quick.example.com"]
    finally:
        answered.set()
        names.close()
