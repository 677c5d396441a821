"""One message to one address, and what was said to it. Connects only to what was checked for this very message."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final

import httpcore

from bridge import __version__
from bridge.events.address import AddressRefused, Names, Network, Resolve, Target, read_url, resolve
from bridge.events.message import Message
from bridge.events.schedule import read_retry_after

CONNECT_S: Final = 5.0
NAME_THREADS: Final = 64
ANSWER_BYTES_MAX: Final = 1000
ANSWER_S: Final = 1.0  # for the body; what it says decides nothing
ERROR_CHARS_MAX: Final = 200
GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Answer:
    """status   None: there was no answer, see error
    error    None: it was taken
    text     the beginning of the body, printable
    """

    status: int | None
    error: str | None
    took_ms: int
    text: str = ""
    retry_after_s: float | None = None

    @property
    def said(self) -> str:
        """ok, gone or failed."""
        if self.error is None:
            return "ok"
        return "gone" if self.status == GONE else "failed"


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Looks the name up once, checks each of its addresses, and connects to one of these."""

    def __init__(self, scheme: str, names: Resolve, allowed: Sequence[Network]) -> None:
        self._scheme, self._names, self._allowed = scheme, names, allowed
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await resolve(Target(self._scheme, host, port, "/"), self._names, self._allowed)
        last: Exception = httpcore.ConnectError("no address")
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last


class Sender:
    """Sends. No proxy, no redirect, no cookie, and no connection is used for a second message.

    names   looks up names; a test may have its own
    tls     whom to believe; None: the system's authorities
    """

    def __init__(
        self,
        allowed: Sequence[Network] = (),
        timeout_s: float = 20.0,
        names: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._own_names = Names(NAME_THREADS) if names is None else None
        resolve_by: Resolve = names or self._own_names  # type: ignore[assignment]
        self._timeout_s = timeout_s
        context = tls or ssl.create_default_context()
        self._pools = {
            scheme: httpcore.AsyncConnectionPool(
                ssl_context=context,
                max_connections=None,
                max_keepalive_connections=0,
                network_backend=_CheckedNetwork(scheme, resolve_by, tuple(allowed)),
            )
            for scheme in ("http", "https")
        }

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()
        if self._own_names is not None:
            self._own_names.close()

    async def post(self, url: str, message: Message) -> Answer:
        """Send once. Whatever goes wrong is an Answer, too."""
        begun_s = monotonic()

        def failed(error: str) -> Answer:
            return Answer(None, _printable(error, ERROR_CHARS_MAX), _ms(begun_s))

        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(read_url(url), message, begun_s)
        except AddressRefused as error:
            return failed(f"address refused: {error}")
        except (TimeoutError, httpcore.TimeoutException):
            return failed(f"no answer within {self._timeout_s:g} s")
        except httpcore.ConnectError as error:
            return failed(f"no connection: {error}")
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
            return failed(f"connection broken: {str(error) or type(error).__name__}")

    async def _post(self, target: Target, message: Message, begun_s: float) -> Answer:
        host = f"[{target.host}]" if ":" in target.host else target.host
        usual = target.port == {"http": 80, "https": 443}[target.scheme]
        url = httpcore.URL(
            scheme=target.scheme.encode(),
            host=target.host.encode(),
            port=target.port,
            target=target.path.encode(),
        )
        headers: dict[bytes | str, bytes | str] = {
            "host": host if usual else f"{host}:{target.port}",
            "user-agent": f"callbridge/{__version__}",
            "accept": "*/*",
            "connection": "close",
            **dict(message.headers.items()),
        }
        waits = {"connect": CONNECT_S, "read": self._timeout_s, "write": self._timeout_s}
        async with self._pools[target.scheme].stream(
            "POST", url, headers=headers, content=message.body, extensions={"timeout": waits}
        ) as response:
            took_ms = _ms(begun_s)
            text = await _beginning(response)
            taken = 200 <= response.status < 300
            wait = next((value for name, value in response.headers if name.lower() == b"retry-after"), None)
            return Answer(
                response.status,
                None if taken else f"status {response.status}",
                took_ms,
                text,
                read_retry_after(wait.decode("latin-1"), datetime.now(UTC)) if wait else None,
            )


async def _beginning(response: httpcore.Response) -> str:
    body = b""
    try:
        async with asyncio.timeout(ANSWER_S):
            async for chunk in response.aiter_stream():
                body += chunk[: ANSWER_BYTES_MAX - len(body)]
                if len(body) >= ANSWER_BYTES_MAX:
                    break
    except (TimeoutError, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        pass  # the status has been said
    return _printable(body.decode("utf-8", "replace"), ANSWER_BYTES_MAX)


def _printable(text: str, chars_max: int) -> str:
    return "".join(one if one.isprintable() else " " for one in text)[:chars_max].strip()


def _ms(begun_s: float) -> int:
    return int((monotonic() - begun_s) * 1000)
