"""The processes in which jobs are done."""

from __future__ import annotations

import os
from pathlib import Path


def job_processes() -> set[int]:
    """Those of this process. What they are to do, and by which password, is told in no argument."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    job = b"\0-m\0bridge\0job\0"
    return {pid for pid in map(int, found) if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(job)}
