"""A job in a process of its own, at low priority: calls never wait for it, and it can be killed at any point.

It is told its task on standard input, which then stays open as a leash: when the worker is gone, however it went, it
closes, and the job ends at once. What became of it goes to standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import SecretStr
from pydantic_core import to_jsonable_python

from bridge.config import Section, Settings, require_dsn
from bridge.database import connect
from bridge.errors import BridgeError, ConfigError, Invalid, NotFound
from bridge.jobs.work import WORK, Task
from bridge.observe import log as logging

NICE: Final = 10  # calls first
OOM_SCORE: Final = "500"  # where memory runs out it is this that goes, not the switch
END_S: Final = 5.0  # from being asked to end to being killed
PROBLEM_CHARS_MAX: Final = 500
LEASH_GONE: Final = 4

log = structlog.get_logger("jobs")


@dataclass(frozen=True, slots=True)
class Outcome:
    """problem   None: it was done
    final     trying again cannot help
    """

    said: Mapping[str, Any]
    problem: str | None = None
    final: bool = False


async def run(kind: str, payload: Mapping[str, Any], settings: Settings, limit_s: float) -> Outcome:
    """Do it, for so long at most. Whoever cancels this ends it. It is never an exception that it fails."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "job",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    told = {"kind": kind, "payload": dict(payload), "settings": plain(settings)}
    try:
        async with asyncio.timeout(limit_s):
            with suppress(BrokenPipeError, ConnectionResetError):  # what ended it is said by how it ended
                child.stdin.write(json.dumps(told).encode() + b"\n")
                await child.stdin.drain()
            said = await child.stdout.read()
            code = await child.wait()
    except TimeoutError:
        return Outcome({}, f"It took longer than {limit_s:g} s and was ended.")
    finally:
        await _end(child)
    return _outcome(said, code)


async def _end(child: asyncio.subprocess.Process) -> None:
    assert child.stdin is not None
    child.stdin.close()
    if child.returncode is not None:
        return
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(END_S):
            await child.wait()
    except TimeoutError:
        pass
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()


def _outcome(said: bytes, code: int) -> Outcome:
    try:
        told = json.loads(said)
        return Outcome(told.get("said") or {}, told.get("problem"), bool(told.get("final")))
    except (ValueError, AttributeError):
        why = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return Outcome({}, f"It ended {why} before it was through.")


def plain(section: Section) -> dict[str, Any]:
    """Settings as JSON has them, secrets included: for a pipe to a child, and nothing else."""
    return {name: _plain(getattr(section, name)) for name in type(section).model_fields}


def _plain(value: object) -> Any:
    if isinstance(value, Section):
        return plain(value)
    return value.get_secret_value() if isinstance(value, SecretStr) else to_jsonable_python(value)


# ---------------------------------------------------------------- inside


def main() -> None:
    """The process itself: `python -m bridge job`."""
    told = json.loads(sys.stdin.readline())
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no answer
    threading.Thread(target=_leash, daemon=True).start()
    os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    settings = Settings.model_validate(told["settings"])
    logging.configure(settings.log)
    said = asyncio.run(_work(told["kind"], told["payload"], settings))
    with os.fdopen(out, "w") as answer:
        json.dump(said, answer, default=str)


async def _work(kind: str, payload: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    try:
        async with connect(require_dsn(settings)) as conn:
            return {"said": dict(await WORK[kind].do(Task(settings, conn, payload)))}
    except (Invalid, NotFound) as error:
        return {"problem": _line(str(error)), "final": True}
    except (BridgeError, ConfigError) as error:
        return {"problem": _line(str(error))}
    except Exception as error:  # what it was is for the log, not for a partner
        log.exception("job broke", kind=kind)
        return {"problem": f"Something broke here ({type(error).__name__}). It was logged."}


def _leash() -> None:
    """Nothing comes any more but the end of the worker. The database undoes what is half done."""
    while os.read(sys.stdin.fileno(), 4096):  # not by way of sys.stdin, whose lock would be ours at the end
        pass
    os._exit(LEASH_GONE)


def _line(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)[:PROBLEM_CHARS_MAX].strip()
