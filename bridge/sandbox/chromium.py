"""Finding a browser for the tests of the browser phone: an installed Chromium or Chrome, or Debian's, unpacked.

A browser starts children through /proc/self/exe, so it cannot be run through a loader of its own as Asterisk
is. It is taken from the machine's own release instead, whose C library it fits, and finds its libraries by
LD_LIBRARY_PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bridge.errors import SwitchUnavailable
from bridge.sandbox.debian import is_ubuntu, os_release, release_name
from bridge.sandbox.fetch import default_cache
from bridge.sandbox.progress import Progress, shown
from bridge.sandbox.unpacked import private_root

# Names a program; there is no setting, for the bridge itself needs no browser.
ENVIRONMENT: Final = "CALLBRIDGE_CHROMIUM"
NAMES: Final = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
VERSION_MIN: Final = 110
_PACKAGES: Final = ("chromium", "fonts-dejavu-core")
# The machine's own C library is used; the others draw on a graphics card or are run by packages' scripts.
_LEFT_OUT: Final = (
    "libc6",
    "libllvm",
    "libz3",
    "libgl1-mesa-dri",
    "adwaita",
    "libperl",
    "perl",
    "systemd",
    "dpkg",
)
_VERSION: Final = re.compile(r"^(?:Chromium|Google Chrome)[^\d\n]*(\d+)\.", re.MULTILINE)
_PROBE_TIMEOUT_S: Final = 30

# A machine without fontconfig has no fonts.conf, and Chromium without one draws no letter.
_FONTS_CONF: Final = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <cachedir>{cache}</cachedir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>serif</family><prefer><family>DejaVu Serif</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""


@dataclass(frozen=True, slots=True)
class BrowserInstall:
    """A browser that can be run: `program`, with `env` added to the environment."""

    program: Path
    version: int
    env: Mapping[str, str] = field(default_factory=dict)


def find_chromium(cache: Path, progress: Progress) -> BrowserInstall:
    """The one the environment names, else one on PATH, else the cache's, else unpacked now.

    One that is named and will not do is an error, never passed over; one on PATH that will not do is.
    raises  SwitchUnavailable: what was looked for, where, and what was found
    """
    if named := os.environ.get(ENVIRONMENT):
        return _probed(Path(named))
    looked: list[str] = []
    for on_path in filter(None, map(shutil.which, NAMES)):
        try:
            return _probed(Path(on_path))
        except SwitchUnavailable as error:
            looked.append(str(error))
    looked = looked or [f"none of {', '.join(NAMES)} on PATH"]
    try:
        return _unpacked(cache, progress)
    except SwitchUnavailable as error:
        looked.append(f"from packages into {cache}: {error}")
    raise SwitchUnavailable(
        f"Chromium or Chrome, {VERSION_MIN} or newer, was looked for and not found: "
        + "; ".join(looked)
        + "\n"
        f"Install one, or set {ENVIRONMENT} to the program's path"
    )


def _unpacked(cache: Path, progress: Progress) -> BrowserInstall:
    system = os_release()
    if is_ubuntu(system):
        raise SwitchUnavailable("Ubuntu has Chromium as a snap only, which cannot be unpacked")
    release = release_name(system) or "debian"
    root = private_root(_PACKAGES, cache, progress, release=release, without=_LEFT_OUT)
    libraries = [
        str(path)
        for place in (
            "usr/lib/*-linux-*",
            "usr/lib/*-linux-*/nss",
            "usr/lib/*-linux-*/pulseaudio",
            "lib/*-linux-*",
        )
        for path in sorted(root.glob(place))
    ]
    fonts_conf = root / "fonts.conf"
    written = _FONTS_CONF.format(fonts=root / "usr/share/fonts", cache=root / "var/cache/fontconfig")
    if not fonts_conf.exists() or fonts_conf.read_text() != written:
        part = root / f"fonts.conf.{os.getpid()}"
        part.write_text(written)
        part.rename(fonts_conf)
    # The machine's own modules for glib are made for its own glib.
    env = {
        "LD_LIBRARY_PATH": ":".join(libraries),
        "FONTCONFIG_FILE": str(fonts_conf),
        "GIO_MODULE_DIR": str(root / "none"),
    }
    try:
        return _probed(root / "usr/lib/chromium/chromium", env)
    except SwitchUnavailable as error:
        raise SwitchUnavailable(f"{error}. Remove {root} to have it unpacked anew") from error


def _probed(program: Path, env: Mapping[str, str] | None = None) -> BrowserInstall:
    """It with its version, asked of itself: Ubuntu's `chromium-browser` is a script that only says what to install."""
    if program.resolve().name == "snap":
        raise SwitchUnavailable(f"{program} is a snap, which does not see the files of others")
    try:
        said = subprocess.run(
            (str(program), "--version"),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=False,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SwitchUnavailable(f"{program} cannot be run: {error}") from error
    match = _VERSION.search(said.stdout)
    if match is None:
        words = " ".join((said.stderr + said.stdout).split())[-200:]
        raise SwitchUnavailable(f"{program} does not name its version: {words!r}")
    if int(match[1]) < VERSION_MIN:
        raise SwitchUnavailable(f"{program} is version {match[1]}, older than {VERSION_MIN}")
    return BrowserInstall(program, int(match[1]), env or {})


if __name__ == "__main__":  # before the tests, so that nobody waits without being told what for
    with shown() as bars:
        try:
            find_chromium(default_cache(), bars)
        except SwitchUnavailable as problem:
            sys.exit(str(problem))
