"""The kinds of events there are, and what each is about."""

from __future__ import annotations

from typing import Final, Literal, get_args

Kind = Literal[
    "call.admitted",
    "call.ringing",
    "call.answered",
    "call.ended",
    "call.refused",
    "balance.low",
    "allowance.low",
    "trunk.down",
    "trunk.up",
    "deck.applied",
    "fraud.blocked",
    "origination.changed",
    "subscriber.changed",
    "subscriber.wake",
    "voice_message.left",
    "rollout.changed",
    "member.waiting",
    "member.activated",
    "window.opened",
    "window.paused",
    "window.closed",
    "trial.passed",
    "trial.failed",
    "export.done",
    "export.failed",
    "statement.changed",
    "invoice.changed",
    "dispute.changed",
    "webhook.test",
]
KINDS: Final[tuple[str, ...]] = get_args(Kind)

# The prefix of the id of what an event is about, by the first word of its kind.
_PREFIX: Final = {
    "call": "call",
    "fraud": "call",
    "balance": "acc",
    "allowance": "alw",
    "trunk": "trk",
    "deck": "deck",
    "origination": "org",
    "subscriber": "sub",
    "voice_message": "msg",
    "rollout": "rol",
    "member": "sub",
    "window": "win",
    "trial": "win",
    "export": "exp",
    "statement": "stm",
    "invoice": "inv",
    "dispute": "dsp",
    "webhook": "whk",
}
PREFIXES: Final = tuple(sorted(set(_PREFIX.values())))


def prefix_of(kind: str) -> str:
    """`call` for call.ended: what the id of its subject begins with."""
    word = kind.partition(".")[0]
    return _PREFIX.get(word, word)
