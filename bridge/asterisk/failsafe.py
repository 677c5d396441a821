"""`callbridge-failsafe`: what the dialplan runs, as a process, when no bridge answers.

    AGI(callbridge-failsafe,<snapshot>,<key file>)

It decides from the last signed snapshot: who is billed afterwards may call, for a limited time, over the trunk
that was best; everyone else is refused as unavailable. The call's token carries all that is needed to bill it later.
Each run costs the switch a fork and some 100 ms of processor, so only what is quick to load is imported.
"""

from __future__ import annotations

import os
import sys
import syslog
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO
from uuid import UUID

from asterisk.agi import AGI, AGIHangup

from bridge.asterisk.agi_header import HEADER_LINES_MAX, parse_header
from bridge.asterisk.channel_vars import ANSWER, Verdict, dial, endpoint_of, stop
from bridge.calls.snapshot import Snapshot, read_key, unseal
from bridge.calls.token import Orphan, Token, uuid7
from bridge.errors import BridgeError, ChannelGone, ConfigError, RemoteProtocolError
from bridge.telephony.cause import Refuse, RefuseReason, refuse
from bridge.telephony.endpoint import subscriber_of
from bridge.telephony.number import barred, parse_caller, parse_dialled

UNAVAILABLE: Final = refuse(RefuseReason.unavailable)


def main() -> int:
    """Answer the dialplan with BRIDGE. Always 0: what goes wrong is an answer, too, or the caller has gone."""
    # pyst2 reports all it reads on stderr, callers' numbers among it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    syslog.openlog("callbridge-failsafe", syslog.LOG_PID)
    try:
        # Latin-1 takes any byte a caller may have sent.
        with open(0, encoding="latin-1", newline="\n", closefd=False) as asked, os.fdopen(1, "w") as answers:
            session = Session(asked, answers)
            text, note = answer(session.head, sys.argv[1:], time.time())
            try:
                session.set_variable(ANSWER, text)
            except RemoteProtocolError as untaken:
                note = f"{note}; {untaken}"
            # Afterwards: a log that hangs must not keep the caller waiting.
            syslog.syslog(syslog.LOG_WARNING, note)
    except (ChannelGone, AGIHangup, BrokenPipeError):
        pass
    except Exception as error:  # noqa: BLE001 - the last edge of this process
        syslog.syslog(syslog.LOG_ERR, f"no answer could be given: {_what(error)}")
    return 0


class Session(AGI):  # type: ignore[misc]  # published without types
    """pyst2's session, but it reads strictly, and knows a hangup when it sees one."""

    head: str  # the header as it came, every line with its line feed, without the blank line

    def __init__(self, asked: TextIO, answers: TextIO) -> None:
        super().__init__(asked, answers, sys.stderr)

    def _get_agi_env(self) -> None:
        lines: list[str] = []
        while (line := self.stdin.readline()) != "\n" and len(lines) <= HEADER_LINES_MAX:
            if not line:
                raise ChannelGone("the switch closed the header")
            lines.append(line)
        self.head = "".join(lines)

    def get_result(self) -> dict[str, tuple[str, str]]:
        """The switch's reply to our one command.

        raises   ChannelGone: the caller hung up, or the switch has closed
                 RemoteProtocolError: it did not take the command
        """
        line = self.stdin.readline()
        if not line or line.startswith(("HANGUP", "511 ")):
            raise ChannelGone("the caller has gone")
        if not line.startswith("200 result=1"):
            raise RemoteProtocolError("the switch did not take the answer")
        return {"result": ("1", "")}


def answer(head: str, arguments: Sequence[str], now: float) -> tuple[str, str]:
    """The value of BRIDGE, and a line for the log that names nobody. Never fails.

    head        the AGI header: what a stranger wrote stands in it
    arguments   the paths of snapshot and key
    now         seconds since 1970
    """
    try:
        verdict = _answer(head, arguments, now)
        if isinstance(verdict, Refuse):
            return stop(verdict.cause).text(), f"refused: {verdict.reason.value}"
        call, trunk = verdict.call.partition(":")[0], verdict.dial.partition("@")[2]
        return verdict.text(), f"admitted: {call} on {trunk}"
    except Exception as error:  # noqa: BLE001 - the caller must hear 503 and not a dead line, whatever it is
        return stop(UNAVAILABLE.cause).text(), f"refused: {_what(error)}"


def decide(snapshot: Snapshot, app: str, caller: str, dialled: str, call_id: UUID) -> Refuse | Verdict:
    """The bridge's own rules, as far as they need no database: number, caller, barred ranges, route.

    caller, dialled  as the switch presents them, so anything
    """
    number = parse_dialled(dialled, home=snapshot.home)
    if isinstance(number, Refuse):
        return number
    presented = parse_caller(caller, home=snapshot.home)
    if isinstance(presented, Refuse):
        return presented
    user = subscriber_of(app)
    subscriber = (
        snapshot.user(str(user), presented.e164) if user else snapshot.subscriber(app, presented.e164)
    )
    if subscriber is None:
        return UNAVAILABLE  # prepaid, or unknown: only the bridge can tell
    if (range_name := barred(number)) is not None:
        return refuse(RefuseReason.barred_destination, range_name)
    subscriber_id, plan_id = subscriber
    trunk = snapshot.trunk(plan_id, number)
    if trunk is None:
        return refuse(RefuseReason.no_route)
    writing = snapshot.written(trunk)
    return dial(
        trunk,
        writing.b_number(number.e164, snapshot.home),
        ring_s=snapshot.ring_s[trunk],
        limit_ms=snapshot.limit_s * 1000,
        cause=UNAVAILABLE.cause,
        call=str(Token(call_id, 1, Orphan(UUID(subscriber_id), presented.e164, number.e164, trunk))),
        cli=writing.a_number(presented.e164, snapshot.home),
    )


def _answer(head: str, arguments: Sequence[str], now: float) -> Refuse | Verdict:
    if len(arguments) != 2:
        raise ConfigError("FAILSAFE", "names no snapshot and key", "Run `callbridge conf render`.")
    snapshot_path, key_path = map(Path, arguments)
    snapshot = unseal(snapshot_path.read_bytes(), read_key(key_path), now)
    # A process is not told agi_network; from there on the header is the same.
    env = parse_header(f"agi_network: no\n{head}").env
    app = endpoint_of(env["agi_channel"])
    return decide(snapshot, app, env["agi_callerid"], env["agi_dnid"], uuid7(now))


def _what(error: Exception) -> str:
    """Our own words and the system's. Others may quote what the caller sent."""
    ours = isinstance(error, (BridgeError, OSError, ValueError))
    return " ".join(str(error).split()) if ours else type(error).__name__
