"""Loopback ports: finding free ones, and saying who holds one that is not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_LISTEN: Final = {"tcp": "0A", "udp": "07"}  # socket states of /proc/net, net/tcp_states.h


def free_ports(count: int) -> list[int]:
    """Distinct ports free on loopback for both TCP and UDP at this moment.

    All are held open together while being chosen, so one call never returns a port twice.
    """
    chosen: list[int] = []
    with ExitStack() as held:
        while len(chosen) < count:
            tcp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            udp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            tcp.bind((LOOPBACK, 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind((LOOPBACK, port))
            except OSError:  # somebody has it for UDP; the TCP side stays held, so it is not offered again
                continue
            chosen.append(port)
    return chosen


def port_in_use(port: int) -> bool:
    """True when TCP or UDP on loopback cannot be bound now."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                return True
    return False


def explain_port_in_use(port: int) -> str:
    """One sentence for an error message: who listens on `port`, as far as this user may see."""
    for protocol in ("tcp", "udp"):
        inodes = _listening_inodes(protocol, port)
        if not inodes:
            continue
        holder = _holder(inodes) or "a process of another user"
        return f"{protocol.upper()} port {port} is in use by {holder}"
    return f"port {port} is in use"


def _listening_inodes(protocol: str, port: int) -> set[str]:
    inodes: set[str] = set()
    for table in (Path(f"/proc/net/{protocol}"), Path(f"/proc/net/{protocol}6")):
        try:
            rows = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            local_port = int(fields[1].rpartition(":")[2], 16)
            if local_port == port and fields[3] == _LISTEN[protocol]:
                inodes.add(fields[9])
    return inodes


def _holder(inodes: set[str]) -> str | None:
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        if any(link in sockets for link in _open_files(process)):
            return f"process {process.name} ({_program(process)})"
    return None


def _open_files(process: Path) -> Iterator[str]:
    """Targets of its open descriptors; none when it ended or is not ours to look into."""
    with suppress(OSError):
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                yield str(link.readlink())


def _program(process: Path) -> str:
    """The program's name, without arguments: they may hold secrets."""
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "just ended"
    through_loader = Path(words[0]).name.startswith("ld-")  # `ld-linux… --library-path DIR PROGRAM …`
    program = (
        next((word for word in words[1:] if Path(word).is_file()), words[0]) if through_loader else words[0]
    )
    return Path(program).name or "unknown"
