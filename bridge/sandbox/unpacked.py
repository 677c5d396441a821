"""Packages unpacked into a folder of the cache, once, however many processes ask for them at the same time."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bridge.errors import SwitchUnavailable
from bridge.sandbox.debian import PrivateApt
from bridge.sandbox.progress import Progress


def private_root(
    names: Sequence[str],
    cache: Path,
    progress: Progress,
    *,
    release: str | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """The directory `names` and all they need are unpacked in: an earlier one, or made now by one process
    while others wait.

    release  this machine's, when the packages are to be those of it and run on its own C library; None:
             those of the release that has what we need, C library included
    without  how the names of packages begin that are not needed after all
    raises   SwitchUnavailable: not there and not to be had
    """
    try:
        return _kept_or_made(names, cache, progress, release, without)
    except OSError as error:
        raise SwitchUnavailable(f"the cache cannot be written: {error}") from error


def _kept_or_made(
    names: Sequence[str], cache: Path, progress: Progress, release: str | None, without: tuple[str, ...]
) -> Path:
    stem = f"{names[0]}-{release}" if release else names[0]
    with _one_at_a_time(cache, progress):
        if kept := sorted(cache.glob(f"{stem}_*"), key=lambda path: path.stat().st_mtime):
            return kept[-1]
        with tempfile.TemporaryDirectory(prefix="apt-", dir=cache) as scratch:
            apt = PrivateApt(Path(scratch, "apt"), progress)
            apt.update(own_release=release is not None)
            packages = apt.resolve(names)
            version = next((package.version for package in packages if package.name == names[0]), None)
            if version is None:
                raise SwitchUnavailable(f"the archive has no {names[0]}")
            apt.download(names, packages)
            made = Path(scratch, "root")
            made.mkdir()
            apt.unpack([package for package in packages if not package.name.startswith(without)], made)
            versions = hashlib.sha256(
                "\n".join(sorted(package.file for package in packages)).encode()
            ).hexdigest()[:8]
            return made.rename(cache / f"{stem}_{version}_{versions}")


@contextmanager
def _one_at_a_time(cache: Path, progress: Progress) -> Iterator[None]:
    """A lock the kernel drops with its holder. What a killed holder left half done, the next sweeps away."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("Waiting for another process that unpacks the same", 0, 0)
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left_behind in cache.glob("apt-*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        yield
