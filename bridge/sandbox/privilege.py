"""PostgreSQL refuses to run as root: what root does instead. For an ordinary user nothing here acts."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import Final

from bridge.errors import ConfigError

_SYSTEM_USER: Final = "pgserver"
_CAP_DAC_OVERRIDE: Final = 1 << 1  # capabilities(7)


def unprivileged() -> tuple[str, ...]:
    """Words before a server program: none for an ordinary user; for root, another user who still reaches our
    files.

    DAC_OVERRIDE lets that user through directories closed to others, such as /root, without opening them to
    all.
    """
    if os.geteuid() != 0:
        return ()
    words: tuple[str, ...] = (
        "setpriv",
        f"--reuid={_system_user().pw_uid}",
        f"--regid={_system_user().pw_gid}",
        "--clear-groups",
        "--no-new-privs",
    )
    if _effective_capabilities() & _CAP_DAC_OVERRIDE:
        words += ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override")
    return words


def give(path: Path) -> None:
    """Make a file or directory the server's, when that is not us."""
    if os.geteuid() == 0:
        os.chown(path, _system_user().pw_uid, _system_user().pw_gid)


def _effective_capabilities() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        pass
    argv = ("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER)
    try:
        subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            "database.dsn",
            f"PostgreSQL does not run as root, and no user {_SYSTEM_USER} could be made",
            "Run as an ordinary user",
        ) from error
    return pwd.getpwnam(_SYSTEM_USER)
