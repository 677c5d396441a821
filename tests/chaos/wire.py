"""A TCP connection's middle: what comes in at one port goes on to another, until it is silenced or cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from bridge.sandbox.ports import LOOPBACK, free_ports


class Wire:
    """Listens on `port`; what connects there talks to `far_port`."""

    def __init__(self) -> None:
        self.port, self.far_port = free_ports(2)
        self._ends: list[socket.socket] = []
        self._passes, self._back = threading.Event(), threading.Event()
        self._passes.set()
        self._back.set()
        self._lock = threading.Lock()
        self._listening = socket.create_server((LOOPBACK, self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def silence(self) -> None:
        """Whatever is said from now on is not heard at the other end; the connections stay open."""
        self._passes.clear()

    def mute(self) -> None:
        """What the far end says from now on is not heard; it still hears all."""
        self._back.clear()

    def cut(self) -> None:
        """Every connection is lost with what was on its way; new ones work."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._passes.set()
        self._back.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((LOOPBACK, self.far_port))
            except OSError:
                near.close()
                continue
            with self._lock:
                self._ends += [near, far]
            threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, self._back), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, also: threading.Event | None = None) -> None:
        with one:
            with suppress(OSError):
                while said := one.recv(65536):
                    self._passes.wait()
                    if also is not None:
                        also.wait()
                    other.sendall(said)
            with suppress(OSError):
                other.shutdown(socket.SHUT_RDWR)
