"""`callbridge up` and `down`: the whole house in the background, to play with. `dial` places a call in it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from bridge import config
from bridge.api.auth import create_key
from bridge.api.phone import link_url
from bridge.asterisk import candidates
from bridge.asterisk.conf import NO_CANDIDATE
from bridge.database import Connection
from bridge.errors import BridgeError, ConfigError, SwitchUnavailable
from bridge.ledger.listing import account_id_of
from bridge.partners.store.phone import add_link, subscriber_by_number
from bridge.rating.store.allowances import allowances
from bridge.sandbox import circle
from bridge.sandbox.carriers import AppUser, place_call
from bridge.sandbox.demo import latest, wait_for_end
from bridge.sandbox.magic import DRAMA_RANGES, MAGIC
from bridge.sandbox.process import Deadline, tail
from bridge.sandbox.progress import shown
from bridge.sandbox.seed import APP, account_of, ensure_partner
from bridge.sandbox.stack import ask
from bridge.sandbox.world import CALLED, CALLER, PARTNER, World, world

START_S: Final = 300.0  # the first start downloads
STOP_S: Final = 30.0
LINK_S: Final = 86_400


def state_dir() -> Path:
    """Where the running sandbox keeps its files; its database stays there between runs."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "callbridge" / "sandbox"


def up() -> dict[str, Any]:
    """Start it in the background, or find it running. Returns what a person needs to know.

    raises   BridgeError with the end of its log
    """
    root = state_dir()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not running(root):
        (root / "facts.json").unlink(missing_ok=True)
        log = root / "up.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                (sys.executable, "-m", "bridge.sandbox.up"),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        _follow(root, log, process)
    facts: dict[str, Any] = json.loads((root / "facts.json").read_text())
    return facts


def down() -> str:
    """End it. Says what was done."""
    root = state_dir()
    if not running(root):
        return "nothing is running"
    pid = int((root / "pid").read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = Deadline(STOP_S)
    while running(root):
        if not deadline.pause():
            raise BridgeError(f"process {pid} has not ended within {STOP_S:g} s; see {root / 'up.log'}")
    return f"stopped; its database stays in {root}"


def dial(b_number: str, talk_s: float) -> dict[str, Any]:
    """Call somebody as the sandbox's app user and return the story.

    raises   SwitchUnavailable: the sandbox is not running · ConfigError: not a number
    """
    root = state_dir()
    if not running(root):
        raise SwitchUnavailable("the sandbox is not running. Start it with `callbridge up`.")
    facts = json.loads((root / "facts.json").read_text())
    user = AppUser(facts["a_number"], facts["sip_user"], facts["sip_password"])
    dsn = config.require_dsn(config.load(root / "callbridge.toml", {}))
    before = ask(dsn, latest)
    try:
        place_call(root / "carriers" / "spool", user, facts["sip"], b_number, talk_s)
    except ValueError:
        raise ConfigError(
            "B_NUMBER", "is not a number", f"Write digits with or without +, e.g. {CALLED}."
        ) from None
    with shown() as progress:
        progress(f"calling {b_number} as {user.number}", 0, 0)
        return wait_for_end(dsn, progress, after=before["call_id"] if before else None)


def running(root: Path) -> bool:
    """Whether a sandbox holds the lock of this folder. A stale pid file proves nothing."""
    try:
        with (root / "pid").open() as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def tell(facts: dict[str, Any]) -> str:
    """What to do with it."""
    bundles = ", ".join(f'"{one["bundle"]}" until {one["until"][:10]}' for one in facts["bundles"]) or "none"
    magic = "\n".join(f"    …{one.ending.removeprefix('_'):8} {one.meaning}" for one in MAGIC)
    silent = "" if candidates.addresses() else f"               but {NO_CANDIDATE.what}. {NO_CANDIDATE.fix}\n"
    return f"""callbridge is running.
  API          {facts["api"]}/docs    to read: {facts["api"]}/reference
  keys         {facts["partner_key"]}    of the partner {facts["partner"]}
               {facts["operator_key"]}    of an operator
  SIP          {facts["sip"]}, app user {facts["a_number"]}
  phone        {facts["phone"]}
               signs a browser in as {facts["a_number"]}, once; another: callbridge phone link {facts["a_number"]}
               of an app in a rollout: {circle.ENABLED} may call and invite, {circle.WAITING} waits for that
{silent}  bundles      {bundles}
  database     {facts["dsn"]}
  files, logs  {facts["root"]}

Try:
  export CALLBRIDGE_CONFIG={facts["root"]}/callbridge.toml
  callbridge dial {CALLED}                      # the first carrier fails, the second takes it
  callbridge bundle show '{facts["account"]}'   # what is left of the units
  callbridge quote --from {facts["a_number"]} --to {CALLED} --seconds 36060   # when they end, money pays
  callbridge audit
  curl -H 'Authorization: Bearer {facts["partner_key"]}' {facts["api"]}/v1/cdrs    # more: docs/partners.md
  callbridge down

Numbers that do something, in {", ".join(DRAMA_RANGES)}:
{magic}"""


def exports(facts: dict[str, Any]) -> str:
    """For `eval "$(callbridge up --env)"`."""
    told = {"API": "api", "KEY": "partner_key", "OPERATOR": "operator_key", "PHONE": "phone"}
    return "export " + " ".join(f"{name}={facts[key]}" for name, key in told.items())


def _follow(root: Path, log: Path, process: subprocess.Popen[bytes]) -> None:
    """Pass on what the background process says until it is up."""
    deadline, shown_bytes = Deadline(START_S), 0
    while True:
        said = log.read_bytes()
        sys.stderr.write(said[shown_bytes:].decode(errors="replace"))
        sys.stderr.flush()
        shown_bytes = len(said)
        if (root / "facts.json").exists():
            return
        if process.poll() is not None:
            raise BridgeError(f"the sandbox did not start:\n{tail(log)}")
        if not deadline.pause():
            process.terminate()
            raise BridgeError(f"the sandbox was not up after {START_S:g} s:\n{tail(log)}")


def _facts(root: Path, parts: World) -> dict[str, Any]:
    stack = parts.stack
    return {
        "root": str(root),
        "api": stack.api_url,
        "operator_key": stack.database_call(_operator_key),
        "partner": PARTNER.name,
        "partner_key": stack.database_call(_partner_key),
        "sip": stack.sip_address,
        "phone": stack.database_call(partial(_phone, settings=stack.settings)),
        "a_number": parts.user.number,
        "account": account_of(parts.user.number),
        "bundles": stack.database_call(partial(_bundles, account=account_of(parts.user.number))),
        "sip_user": parts.user.username,
        "sip_password": parts.user.password,
        "dsn": stack.dsn,
    }


async def _operator_key(conn: Connection) -> str:
    return await create_key(conn, "sandbox")


async def _partner_key(conn: Connection) -> str:
    partner_id = await ensure_partner(conn, PARTNER)
    return await create_key(conn, "sandbox", partner_id=partner_id)


async def _phone(conn: Connection, settings: config.Settings) -> str:
    """Good for a day: nobody but whoever started the sandbox reads it."""
    subscriber_id = await subscriber_by_number(conn, CALLER, APP)
    async with conn.transaction():
        return link_url(settings, (await add_link(conn, subscriber_id, LINK_S)).token)


async def _bundles(conn: Connection, account: str) -> list[dict[str, Any]]:
    """What the app user has now."""
    now = datetime.now(UTC).isoformat()
    return [
        {"bundle": one["bundle"], "until": one["until"]}
        for one in await allowances(conn, await account_id_of(conn, account))
        if one["until"] > now
    ]


def _background() -> None:
    """The process behind `up`: everything is its child and ends with it."""
    root = state_dir()
    held = (root / "pid").open("a+")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another sandbox was started at the same moment")
    held.truncate(0)
    held.write(str(os.getpid()))
    held.flush()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    facts = root / "facts.json"
    try:
        with shown() as progress, world(root, progress) as parts:
            part = root / "facts.json.part"
            part.touch(mode=0o600)
            part.write_text(json.dumps(_facts(root, parts)))
            part.replace(facts)
            stop.wait()
    except BridgeError as error:
        sys.exit(str(error))
    finally:
        facts.unlink(missing_ok=True)


if __name__ == "__main__":
    _background()
