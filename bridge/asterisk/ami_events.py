"""What goes over the switch's manager interface (AMI): checked on the way out, typed values on the way in.

Messages come in as `Headers`: names in lower case, values as sent; a header sent twice has its values joined
by a line feed, which no single value can contain. What is missing or malformed raises RemoteProtocolError.
No error here quotes a value: values carry phone numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from bridge.errors import BridgeError, ChannelGone, LocalProtocolError, RemoteProtocolError

Headers = Mapping[str, str]

_GREETING = b"Asterisk Call Manager/"
_MESSAGE_BYTES_MAX = 256 * 1024
_DURATION = re.compile(r"([0-9]{2,6}):([0-5][0-9]):([0-5][0-9])")
_CAUSE = re.compile(r"[0-9]{1,3}")
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LINE_BYTES_MAX = 1022  # without CR LF; Asterisk 22 refuses an action with a longer line


class Framing:
    """Cuts what the peer sends into whole messages; panoramisk decodes each read alone.

    Whole messages never cut a character in two. Latin-1 on the wire would not do instead: panoramisk strips
    each message, and a last header ending in "à" (C3 A0) would lose its A0 as white space.
    """

    def __init__(self) -> None:
        self.greeted = False
        self._unread = bytearray()

    def feed(self, data: bytes) -> str:
        """The messages that `data` completes, "" when none; what is not UTF-8 becomes U+FFFD.

        raises  RemoteProtocolError: the peer is no Asterisk manager, or sends a message without end
        """
        self._unread += data
        if not self.greeted and not self._greeting():
            whole = b""
        else:
            end = self._unread.rfind(b"\r\n\r\n", max(0, len(self._unread) - len(data) - 3))
            whole = bytes(self._unread[: end + 4]) if end >= 0 else b""
            del self._unread[: len(whole)]
        if len(self._unread) > _MESSAGE_BYTES_MAX:
            raise RemoteProtocolError(f"AMI: a message longer than {_MESSAGE_BYTES_MAX} bytes")
        return whole.decode("utf-8", "replace")

    def _greeting(self) -> bool:
        line, found, rest = self._unread.partition(b"\r\n")
        if line[: len(_GREETING)] != _GREETING[: len(line)] or (found and len(line) <= len(_GREETING)):
            raise RemoteProtocolError("AMI: wrong greeting, the peer is not an Asterisk manager")
        if found:
            self.greeted, self._unread = True, rest
        return self.greeted


class AmiRefused(BridgeError):
    """The switch understood an action and said no. `answer` is its own word."""

    def __init__(self, action: str, answer: str) -> None:
        super().__init__(f"the switch refused {action}: {answer}")
        self.action, self.answer = action, answer


@dataclass(frozen=True, slots=True)
class AmiReply:
    """A successful answer, and the events of its list, if any (the closing event included)."""

    fields: Headers = field(repr=False)
    events: tuple[Headers, ...] = field(default=(), repr=False)

    @classmethod
    def from_messages(cls, action: str, messages: Sequence[Headers]) -> AmiReply:
        """raises  ChannelGone: no such channel; AmiRefused: any other Error; RemoteProtocolError"""
        first, *events = messages
        match first.get("response"):
            case "Success" | "Goodbye":
                return cls(first, tuple(events))
            case "Error" if first.get("message", "").lower().startswith("no such channel"):
                raise ChannelGone(f"the channel was gone before {action}")
            case "Error":
                raise AmiRefused(action, first.get("message", "no reason given"))
            case _:
                raise RemoteProtocolError(f"AMI {action}: the answer is neither Success nor Error")


@dataclass(frozen=True, slots=True)
class LiveChannel:
    """One `CoreShowChannel`. `channel` may contain a dialled number (Local/…@…): do not log it."""

    channel: str
    uniqueid: str
    linkedid: str
    state: str  # the switch's own word: Down, Ring, Ringing, Up, Busy, …
    application: str  # "" while none runs
    duration_s: int  # since the channel was created, not since answer
    caller_number: str = field(repr=False)  # as received; "" when unknown

    @classmethod
    def from_message(cls, message: Headers) -> LiveChannel:
        duration = _DURATION.fullmatch(_required(message, "duration"))
        if duration is None:
            raise RemoteProtocolError("AMI CoreShowChannel: Duration is not HH:MM:SS")
        hours, minutes, seconds = (int(part) for part in duration.groups())
        caller = message.get("calleridnum", "")
        return cls(
            channel=_required(message, "channel"),
            uniqueid=_required(message, "uniqueid"),
            linkedid=_required(message, "linkedid"),
            state=_required(message, "channelstatedesc"),
            application=message.get("application", ""),
            duration_s=hours * 3600 + minutes * 60 + seconds,
            caller_number="" if caller == "<unknown>" else caller,
        )


@dataclass(frozen=True, slots=True)
class Hangup:
    """A channel is gone. `cause` is Q.850; 0 when the switch itself ended it, as TIMEOUT(absolute) does."""

    channel: str
    uniqueid: str
    cause: int


@dataclass(frozen=True, slots=True)
class FullyBooted:
    """Every module is loaded: from here on an action means what it says."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The switch says goodbye, an instant before it closes the connection."""

    restart: bool


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Somebody has proved to be that endpoint: a gateway that calls, or a user's phone that calls or registers."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class Stranger:
    """A SIP request of somebody who is nobody here, or has not proved to be who they say.

    endpoint   as they say; "" where that is unknown
    """

    address: IPv4Address | IPv6Address
    endpoint: str = field(repr=False)


Event = Hangup | FullyBooted | Shutdown | Authenticated | Stranger


def event_from(message: Headers) -> Event | None:
    """The event in `message`, None for the many we do not consume."""
    match message.get("event", "").lower():
        case "hangup":
            cause = _required(message, "cause")
            if not _CAUSE.fullmatch(cause):
                raise RemoteProtocolError("AMI Hangup: Cause is not a Q.850 number")
            return Hangup(_required(message, "channel"), _required(message, "uniqueid"), int(cause))
        case "fullybooted":
            return FullyBooted()
        case "shutdown":
            return Shutdown(restart=message.get("restart", "").lower() == "true")
        case "successfulauth" if message.get("service") == "PJSIP":
            return Authenticated(_required(message, "accountid"))
        case "challengeresponsefailed" | "invalidaccountid" | "invalidpassword" if (
            message.get("service") == "PJSIP"
        ):
            account = message.get("accountid", "")
            return Stranger(
                _remote_address(message), "" if account == "<unknown>" or "\n" in account else account
            )
        case _:
            return None


def _remote_address(message: Headers) -> IPv4Address | IPv6Address:
    """IPV4/UDP/192.0.2.1/5060: family, transport, address, port."""
    parts = _required(message, "remoteaddress").split("/")
    try:
        return ip_address(parts[2].strip("[]"))
    except (IndexError, ValueError):
        raise RemoteProtocolError("AMI: a security event has no address") from None


def listed_channels(events: tuple[Headers, ...]) -> list[LiveChannel]:
    """The channels of a `CoreShowChannels` answer, which ends by saying how many there were.

    A list that does not add up raises RemoteProtocolError: whoever ends the calls missing from a
    snapshot must never be given half of one.
    """
    channels = [
        LiveChannel.from_message(e) for e in events if e.get("event", "").lower() == "coreshowchannel"
    ]
    announced = events[-1].get("listitems") if events else None
    if announced != str(len(channels)):
        raise RemoteProtocolError(
            f"AMI CoreShowChannels: {len(channels)} channels came, {announced} announced"
        )
    return channels


def headers(message: Mapping[str, object]) -> Headers:
    """A message as panoramisk gives it: names as sent, a list of values where a name came twice."""
    return {
        name.lower(): "\n".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in message.items()
    }


def check_action(name: str, fields: Mapping[str, str | int]) -> None:
    """LocalProtocolError for what Asterisk (or panoramisk) would take for something else than it is."""
    if name.lower() == "originate" and "Async" not in fields:
        raise LocalProtocolError(
            "AMI: an Originate without Async blocks every other action until it is answered"
        )
    for header, value in (("Action", name), *fields.items()):
        if not _FIELD_NAME.fullmatch(header) or (
            header in fields and header.lower() in ("action", "actionid")
        ):
            raise LocalProtocolError(f"AMI: {header!r} cannot be the name of a field")
        if _CONTROL.search(str(value)):
            raise LocalProtocolError(f"AMI: control character in {header}")
        try:
            length = len(f"{header}: {value}".encode())
        except UnicodeEncodeError:
            raise LocalProtocolError(f"AMI: {header} is not text") from None
        if length > _LINE_BYTES_MAX:
            raise LocalProtocolError(f"AMI: {header} takes {length} bytes, a line holds {_LINE_BYTES_MAX}")


def one_channel(name: str) -> str:
    """`name`, unless Asterisk would act beyond one channel: "" means the globals, "/…/" is a pattern."""
    if not name or name.startswith("/"):
        raise LocalProtocolError("AMI: an empty channel name or a pattern would reach beyond one channel")
    return name


def _required(message: Headers, header: str) -> str:
    value = message.get(header, "")
    if not value or "\n" in value:
        raise RemoteProtocolError(
            f"AMI {message.get('event', 'reply')}: header {header} is missing or doubled"
        )
    return value
