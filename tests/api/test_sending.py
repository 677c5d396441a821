"""One message over a real socket: who it is sent to, what is believed, and what is kept of the answer."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bridge.events.message import Message
from bridge.events.send import Answer, Sender
from tests.api.receiver import Got, receiving, reply

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
MESSAGE = Message({"content-type": "application/json", "webhook-id": "evt_1"}, b'{"a":1}')
HOST = "hooks.example.com"


async def post(url: str, *, timeout_s: float = 10.0, allowed=LOOPBACK, names=None, tls=None) -> Answer:
    sender = Sender(allowed, timeout_s, names, tls)
    try:
        return await sender.post(url, MESSAGE)
    finally:
        await sender.close()


async def test_what_is_sent_and_what_is_kept():
    async with receiving() as receiver:
        receiver.always("/a?b=1", reply(200, "thank\x00 you\r\n\x1b[31m" + "x" * 5000))
        answer = await post(receiver.url("/a?b=1"))
        assert (answer.status, answer.error, answer.said) == (200, None, "ok")
        assert answer.text.startswith("thank  you   [31mxxx")
        assert len(answer.text) <= 1000
        [got] = receiver.got
    assert got.body == MESSAGE.body
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["webhook-id"] == "evt_1"
    assert got.headers["user-agent"].startswith("callbridge/")


@pytest.mark.parametrize(
    ("status", "said"),
    [(200, "ok"), (299, "ok"), (302, "failed"), (404, "failed"), (410, "gone"), (503, "failed")],
)
async def test_only_2xx_is_success(status, said):
    async with receiving() as receiver:
        receiver.always("/hook", reply(status, location="http://127.0.0.1:1/", retry_after="7"))
        answer = await post(receiver.url())
        assert (answer.status, answer.said, answer.retry_after_s) == (status, said, 7.0)
        assert len(receiver.got) == 1  # a redirect is not followed


async def test_whoever_says_nothing_is_left_in_time():
    async def silent(_: Got) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with receiving() as receiver:
        receiver.answers["/hook"] = silent
        answer = await post(receiver.url(), timeout_s=0.2)
        assert (answer.status, answer.said, answer.error) == (None, "failed", "no answer within 0.2 s")


async def test_a_body_without_end_decides_nothing():
    async with receiving() as receiver:
        receiver.always("/hook", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nfirst")
        receiver.lingers = True
        answer = await post(receiver.url())
    assert (answer.said, answer.text) == ("ok", "first")


@pytest.mark.parametrize(
    "said", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 300_000, b"SSH-2.0-x\r\n"]
)
async def test_what_is_no_http_has_failed(said):
    async def answer(_: Got) -> bytes:
        return bytes(said)

    async with receiving() as receiver:
        receiver.answers["/hook"] = answer
        got = await post(receiver.url())
        assert (got.said, got.status) == ("failed", None)
        assert got.error
        assert len(got.error) <= 200


async def test_nobody_there():
    async with receiving() as receiver:
        url = receiver.url()
    answer = await post(url)
    assert answer.said == "failed"
    assert str(answer.error).startswith("no connection")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "169.254.169.254", "localhost", "0x7f000001"])
async def test_without_leave_nothing_leaves(host):
    async with receiving() as receiver:
        for scheme in ("http", "https"):
            answer = await post(f"{scheme}://{host}:{receiver.port}/", allowed=())
            assert str(answer.error).startswith("address refused"), answer
        assert receiver.got == []


async def test_a_name_that_changes_its_mind_leads_nowhere():
    """DNS rebinding: public when it was given to us and when it is asked again, ours in between."""
    asked: list[str] = []
    connected: list[tuple[str, int]] = []

    async def names(host: str) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) % 2 else ["93.184.215.14"]

    async with receiving() as receiver:
        answer = await post(f"https://{HOST}:{receiver.port}/", allowed=(), names=names)
        assert answer.error == "address refused: Its host is no public address."
        # One look-up a message: what was checked is what is connected to.
        assert asked == [HOST]
        sender = Sender((), 1.0, names)
        pool = sender._pools["https"]
        network = pool._network_backend._network  # type: ignore[attr-defined]

        async def connect(address: str, port: int, *_: object) -> object:
            connected.append((address, port))
            raise OSError("enough")

        network.connect_tcp = connect
        await sender.post(f"https://{HOST}:{receiver.port}/", MESSAGE)
        await sender.close()
        assert connected == [("93.184.215.14", receiver.port)]
        assert asked == [HOST, HOST]
        assert receiver.got == []


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server called `name` presents, and who believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))


async def names_here(_: str) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_tls_is_for_the_name_not_for_the_address(tmp_path: Path):
    server, believes = certificate(tmp_path, HOST)
    asked: list[str | None] = []
    server.sni_callback = lambda _, name, __: asked.append(name)
    async with receiving(server) as receiver:
        url = f"https://{HOST}:{receiver.port}/hook"
        assert (await post(url, names=names_here, tls=believes)).said == "ok"
        assert asked == [HOST]
        stranger = await post(url, names=names_here)
        assert (stranger.said, stranger.status) == ("failed", None)
        assert "CERTIFICATE_VERIFY_FAILED" in str(stranger.error)
        other = await post(f"https://other.example.com:{receiver.port}/", names=names_here, tls=believes)
        assert other.said == "failed"
    assert len(receiver.got) == 1


async def test_each_message_has_a_connection_of_its_own():
    async with receiving() as receiver:
        sender = Sender(LOOPBACK)
        for _ in range(3):
            assert (await sender.post(receiver.url(), MESSAGE)).said == "ok"
        assert sender._pools["http"].connections == []
        await sender.close()
