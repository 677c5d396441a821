"""`callbridge serve`: one worker in this process, or several below a small supervisor that replaces those that die."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Final

import structlog
import uvloop

from bridge.config import Settings
from bridge.errors import ConfigError

RESTART_S: Final = 1.0
STOP_S: Final = 15.0

log = structlog.get_logger("serve")


def serve(settings: Settings, workers: int) -> None:
    """Serve until SIGTERM or SIGINT.

    raises   ConfigError: a port is in use; the message says which setting
    """
    require_free(settings.agi.host, settings.agi.port, "agi.port")
    require_free(settings.api.host, settings.api.port, "api.port")
    if workers == 1:
        # The supervisor needs none of it, and a port in use is told before it is read.
        from bridge.app import serve_one  # noqa: PLC0415

        uvloop.run(serve_one(settings))
    else:
        asyncio.run(_supervise(workers))


def require_free(host: str, port: int, key: str) -> None:
    """Workers share their ports, so the kernel would let us join a stranger's: look first, without sharing."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            fix = f"Stop what listens there (`ss -ltnp sport = :{port}`) or choose another port."
            raise ConfigError(key, f"{host}:{port} cannot be used: {error.strerror}", fix) from None


async def _supervise(workers: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await asyncio.gather(*(_keep_one(place, stop) for place in range(workers)))


async def _keep_one(place: int, stop: asyncio.Event) -> None:
    """Run one worker, again and again until told to stop."""
    while not stop.is_set():
        # A worker stops when its standard input closes, so it does not outlive us, however we end.
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "worker", stdin=asyncio.subprocess.PIPE
        )
        log.info("worker started", place=place, pid=worker.pid)
        died = asyncio.create_task(worker.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({died, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not died.done():
            worker.terminate()
            try:
                await asyncio.wait_for(asyncio.shield(died), STOP_S)
            except TimeoutError:
                worker.kill()
                await died
            return
        log.error("worker died", place=place, pid=worker.pid, exit=worker.returncode)
        await asyncio.sleep(RESTART_S)
