"""Finding the programs a laptop lacks: Asterisk and SIPp, unpacked from packages when they are not installed.

An unpacked root is run through its own loader and its own libraries, so the machine's C library does not
matter.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.errors import SwitchUnavailable
from bridge.sandbox.progress import Progress
from bridge.sandbox.unpacked import private_root

VERSION_MIN: Final = 20
# Where Asterisk is installed, and what the PATH of ordinary users often lacks
SYSTEM_PLACES: Final[tuple[str, ...]] = ("/usr/sbin", "/usr/local/sbin")
_VERSION: Final = re.compile(r"^Asterisk (?:certified[/-])?(\d+)(?:\.(\d+))?(?:\.(\d+))?", re.MULTILINE)
_PACKAGES: Final = ("asterisk", "asterisk-modules", "asterisk-core-sounds-en-gsm")
# Every module we need is there if the SIP channel is
_LANDMARK: Final = "chan_pjsip.so"
_MODULE_PLACES: Final = ("lib/asterisk/modules", "lib64/asterisk/modules", "lib/*/asterisk/modules")
_DATA_PLACES: Final = ("share/asterisk", "var/lib/asterisk")
_PROBE_TIMEOUT_S: Final = 20


@dataclass(frozen=True, slots=True)
class AsteriskInstall:
    """An Asterisk that can be run: `(*argv, "-C", conf, "-f")`."""

    argv: tuple[str, ...]
    modules_dir: Path
    data_dir: Path
    version: tuple[int, int, int]


def default_cache() -> Path:
    """XDG_CACHE_HOME/callbridge, or ~/.cache/callbridge."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "callbridge"


def find_asterisk(configured: str | None, cache: Path, progress: Progress) -> AsteriskInstall:
    """An Asterisk of at least VERSION_MIN: the configured, else one on PATH, else the cache's, else unpacked
    now.

    A configured program that will not do is an error, never passed over; one on PATH that will not do is.
    raises  SwitchUnavailable: what was looked for, where, and what was found
    """
    if configured:
        return _installed(Path(configured))
    looked: list[str] = []
    if on_path := shutil.which(
        "asterisk", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    ):
        try:
            return _installed(Path(on_path))
        except SwitchUnavailable as error:
            looked.append(str(error))
    else:
        looked.append("none on PATH")
    try:
        return _unpacked(private_root(_PACKAGES, cache, progress))
    except SwitchUnavailable as error:
        looked.append(f"from packages into {cache}: {error}")
    raise SwitchUnavailable(
        f"Asterisk {VERSION_MIN} or newer was looked for and not found: " + "; ".join(looked) + "\n"
        "Install it, or set switch.asterisk to the program's path"
    )


def find_sipp(cache: Path, progress: Progress) -> tuple[str, ...]:
    """The words that start SIPp, from PATH, the cache or packages.

    raises  SwitchUnavailable: neither there nor to be had
    """
    if on_path := shutil.which("sipp"):
        return (on_path,)
    try:
        root = private_root(("sip-tester",), cache, progress)
    except SwitchUnavailable as error:
        raise SwitchUnavailable(
            f"SIPp is not on PATH, and not from packages into {cache}: {error}. Install sip-tester"
        ) from error
    return (*_loader(root), str(root / "usr/bin/sipp"))


def parse_version(text: str) -> tuple[int, int, int] | None:
    """The version in what `asterisk -V` prints; None when it is no release, such as a build from git."""
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2] or 0), int(match[3] or 0)) if match else None


def _installed(program: Path) -> AsteriskInstall:
    """One installed as its packager or `make install` meant it."""
    version = _version_of((str(program),))
    prefix = program.resolve().parent.parent
    prefixes = [prefix, *(other for other in (Path("/usr"), Path("/usr/local")) if other != prefix)]
    modules = _first(prefixes, _MODULE_PLACES, _LANDMARK)
    data = _first([*prefixes, Path("/")], _DATA_PLACES, "sounds")
    if modules is None or data is None:
        lacking = f"modules with {_LANDMARK}" if modules is None else "sounds"
        raise SwitchUnavailable(f"{program} has no {lacking} under {', '.join(map(str, prefixes))}")
    return AsteriskInstall((str(program),), modules, data, version)


def _unpacked(root: Path) -> AsteriskInstall:
    argv = (*_loader(root), str(root / "usr/sbin/asterisk"))
    version = _version_of(argv)
    modules = _first([root / "usr"], _MODULE_PLACES, _LANDMARK)
    if modules is None:
        raise SwitchUnavailable(f"the packages in {root} have no {_LANDMARK}")
    data = root / "usr/share/asterisk"
    _name_sounds(data / "sounds")
    return AsteriskInstall(argv, modules, data, version)


def _name_sounds(sounds: Path) -> None:
    """A package's own script, which nobody ran, would call the English voice `en`. Without it there is no greeting."""
    voice = next(iter(sorted(sounds.glob("en_*"))), None)
    if voice is not None and not (sounds / "en").exists():
        with suppress(FileExistsError):  # another process was first
            (sounds / "en").symlink_to(voice.name)


def _version_of(argv: tuple[str, ...]) -> tuple[int, int, int]:
    program = argv[-1]
    try:
        said = subprocess.run(
            (*argv, "-V"), capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SwitchUnavailable(f"{program} cannot be run: {error}") from error
    version = parse_version(said.stdout)
    if version is None:
        raise SwitchUnavailable(
            f"{program} does not name its version: {(said.stdout + said.stderr).strip()[:200]!r}"
        )
    if version[0] < VERSION_MIN:
        raise SwitchUnavailable(
            f"{program} is version {'.'.join(map(str, version))}, older than {VERSION_MIN}"
        )
    return version


def _first(prefixes: Sequence[Path], places: Sequence[str], holding: str) -> Path | None:
    found = (path for prefix in prefixes for place in places for path in sorted(prefix.glob(place)))
    return next((path for path in found if (path / holding).exists()), None)


def _loader(root: Path) -> tuple[str, ...]:
    """`LOADER --library-path DIRS`, by what is there: the loader's name tells the machine's architecture."""
    for loader in (path for place in ("usr/lib/*", "lib/*") for path in root.glob(f"{place}/ld*.so.[0-9]")):
        triplet = loader.parent.name
        libraries = (root / place / triplet for place in ("usr/lib", "lib"))
        return str(loader), "--library-path", ":".join(str(path) for path in libraries if path.is_dir())
    raise SwitchUnavailable(f"the packages in {root} have no loader")
