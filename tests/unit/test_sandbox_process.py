"""Programs of the sandbox and the ports they hold."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.sandbox.ports import LOOPBACK, explain_port_in_use, free_ports, port_in_use
from bridge.sandbox.process import Child, Deadline, descendants, tail

SHELL_WITH_CHILD = ("sh", "-c", "sleep 60 & echo ready; wait")


def _wait_for(text: str, log: Path) -> None:
    deadline = Deadline(5)
    while text not in tail(log):
        assert deadline.pause(), tail(log)


def _gone(pid: int) -> bool:
    """Ended, or ended and only waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_killing_takes_the_whole_family(tmp_path: Path) -> None:
    child = Child(SHELL_WITH_CHILD, log=tmp_path / "log")
    _wait_for("ready", child.log)
    family = [child.pid, *descendants(child.pid)]
    assert len(family) == 2
    child.kill()
    assert not child.running
    assert child.exit_code == -signal.SIGKILL
    deadline = Deadline(5)
    while not all(_gone(pid) for pid in family):
        assert deadline.pause()


def test_one_that_ignores_the_request_is_ended_all_the_same(tmp_path: Path) -> None:
    child = Child(("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60; done"), log=tmp_path / "log")
    _wait_for("ready", child.log)
    child.stop(deadline_s=0.2)
    assert child.exit_code == -signal.SIGKILL
    child.stop()


def test_its_end_and_its_last_words_are_kept(tmp_path: Path) -> None:
    child = Child(("sh", "-c", "echo oops >&2; exit 3"), log=tmp_path / "log")
    assert child.wait(5) == 3
    assert tail(child.log) == "oops"


def test_processor_time_counts_children_that_ended(tmp_path: Path) -> None:
    burn = f"{sys.executable} -c 'import time\nwhile time.process_time() < 0.3: pass'"
    child = Child(("sh", "-c", f"{burn}; echo ready; sleep 60"), log=tmp_path / "log")
    _wait_for("ready", child.log)
    assert child.cpu_ms() >= 200
    child.kill()


@pytest.mark.parametrize(
    "thread", ["threading.Thread(target=begin)", "None"], ids=["started in a thread", "main thread"]
)
def test_a_child_does_not_outlive_us_but_does_outlive_the_thread_that_started_it(
    thread: str, tmp_path: Path
) -> None:
    program = f"""
import os, sys, threading
from pathlib import Path
from bridge.sandbox.process import Child, descendants
made = []
def begin(): made.append(Child({SHELL_WITH_CHILD!r}, log=Path({str(tmp_path / "log")!r})))
thread = {thread}
if thread: thread.start(); thread.join()
else: begin()
print(made[0].pid, flush=True)
sys.stdin.readline()
assert made[0].running
print('alive', flush=True)
sys.stdin.readline()
"""
    with subprocess.Popen(
        (sys.executable, "-c", program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin and parent.stdout
        pid = int(parent.stdout.readline())
        _wait_for("ready", tmp_path / "log")
        family = [pid, *descendants(pid)]
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "alive\n"
        os.kill(parent.pid, signal.SIGKILL)
    deadline = Deadline(5)
    while not all(_gone(pid) for pid in family):
        assert deadline.pause(), "the child is still there"


def test_free_ports_are_distinct_and_free_for_both_protocols() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert not any(port_in_use(port) for port in ports)


@pytest.mark.parametrize(("kind", "name"), [(socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")])
def test_who_has_a_port_is_told(kind: socket.SocketKind, name: str) -> None:
    with socket.socket(socket.AF_INET, kind) as held:
        held.bind((LOOPBACK, 0))
        if kind is socket.SOCK_STREAM:
            held.listen()
        port = held.getsockname()[1]
        assert port_in_use(port)
        assert explain_port_in_use(port).startswith(
            f"{name} port {port} is in use by process {os.getpid()} (python"
        )
    assert not port_in_use(port)
