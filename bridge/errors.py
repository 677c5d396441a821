"""The exception tree: accidents only. Refusals and trunk failures are values (`telephony.cause`).

BridgeError
├── ConfigError            a setting is wrong; the message names the key and the fix; exit code 2
├── ProtocolError          somebody broke AGI or AMI framing
│   ├── LocalProtocolError     our code asked for something the protocol forbids: a bug here
│   └── RemoteProtocolError    the peer sent something the protocol forbids: log one line, drop the peer
├── ChannelGone            the channel hung up while we spoke about it; never logged as an error
├── SwitchUnavailable      Asterisk cannot be reached, is missing, or is too old
├── StoreError             the database said no
│   ├── NotFound
│   ├── Conflict               another writer came first, or a key was used with another payload
│   ├── InsufficientFunds
│   ├── AlreadySettled
│   ├── Invalid                what is asked for makes no sense, whatever the state of the books
│   └── StoreUnavailable       no connection, or it broke: the effect is unknown, retry is safe by key
├── DeckError              a rate deck is wrong; carries row and column
└── InvariantBroken        the books are wrong; raises an alarm, caught only at the edge
"""

from __future__ import annotations


class BridgeError(Exception):
    """Everything this product raises on purpose."""


class ConfigError(BridgeError):
    """A setting is wrong. `key` names it as the operator wrote it, `fix` says what to do."""

    def __init__(self, key: str, problem: str, fix: str) -> None:
        super().__init__(f"{key}: {problem}. {fix}")
        self.key, self.problem, self.fix = key, problem, fix


class ProtocolError(BridgeError):
    """AGI or AMI framing was broken."""


class LocalProtocolError(ProtocolError):
    """Our side asked for something the protocol forbids."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something the protocol forbids."""


class ChannelGone(BridgeError):
    """The channel hung up. Ordinary life of a switch, never an error line in a log."""


class SwitchUnavailable(BridgeError):
    """Asterisk cannot be reached, is missing, or is too old. The message says what was looked for and where."""


class StoreError(BridgeError):
    """The database said no."""


class NotFound(StoreError):
    """No such row."""


class Conflict(StoreError):
    """Another writer came first, or an idempotency key came back with another payload."""


class InsufficientFunds(StoreError):
    """The account's available balance does not cover the amount."""


class AlreadySettled(StoreError):
    """The call or hold was closed before; the first result stands."""


class Invalid(StoreError):
    """What is asked for makes no sense, whatever the state of the books: asking again will not help."""


class StoreUnavailable(StoreError):
    """No connection, or it broke in the middle. The effect is unknown; every write is safe to repeat by its key."""


class DeckError(BridgeError):
    """A rate or deck is wrong. `row` is 1-based in the file (0 when not from a file), `column` its name."""

    def __init__(self, problem: str, *, row: int = 0, column: str = "") -> None:
        where = f"row {row}, column {column}: " if row else (f"{column}: " if column else "")
        super().__init__(where + problem)
        self.problem, self.row, self.column = problem, row, column


class InvariantBroken(BridgeError):
    """The books are wrong. Never handled inside a room: it must reach the edge and raise an alarm."""
