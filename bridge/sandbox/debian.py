"""Debian and Ubuntu packages unpacked into a directory of ours: without root, without installing anything.

A private apt root (own lists, own cache, an empty package status) resolves and downloads; apt checks
signatures and sums as ever. The mirror, proxies, certificates and credentials are those of the machine's own
apt configuration.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from urllib.parse import unquote

from bridge.errors import SwitchUnavailable
from bridge.sandbox.process import tail
from bridge.sandbox.progress import Progress

_KEYRINGS: Final = Path("/usr/share/keyrings")
_TARGET_FORMAT: Final = "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
_STALE: Final = re.compile(r"Release file .*is expired")
# What no program of ours reads: a third of the bytes
_LEFT_OUT: Final = (
    "./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/share/info", "./usr/share/lintian",
    "./usr/share/bug", "./usr/share/zoneinfo", "./usr/share/perl*", "./usr/share/python3*",
    "./usr/lib/python3*", "./usr/lib/*/perl*", "./usr/lib/*/gconv",
)  # fmt: skip

_APT_CONF: Final = """\
Dir::State "{root}/state";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Cache::archives "{root}/archives";
Dir::Log "{root}/log";
Dir::Etc::SourceList "{root}/sources.list";
Dir::Etc::SourceParts "{root}/none";
Dir::Etc::Preferences "{root}/none/preferences";
Dir::Etc::PreferencesParts "{root}/none";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
"""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where packages come from, as one line of sources.list says it."""

    uri: str
    suite: str
    components: str
    keyring: Path

    def source_line(self, *, stale: bool = False) -> str:
        """`stale` accepts a mirror whose index has passed its date; the signature is checked all the same."""
        options = [f"signed-by={self.keyring}"] if self.keyring.exists() else []
        options += ["check-valid-until=no"] if stale else []
        return f"deb [{' '.join(options)}] {self.uri} {self.suite} {self.components}\n".replace(" [] ", " ")


@dataclass(frozen=True, slots=True)
class Package:
    """One file apt would download. `file` is apt's name for it in the archives directory."""

    file: str
    size_bytes: int

    @property
    def name(self) -> str:
        return self.file.partition("_")[0]

    @property
    def version(self) -> str:
        return unquote(self.file.split("_")[1]).rpartition(":")[2]


def archive_for(os_release: Mapping[str, str], targets: str, *, own_release: bool = False) -> Archive:
    """The archive this machine already uses, in the suite that has what we need.

    targets      what `apt-get indextargets` printed in our format
    own_release  the machine's own suite, for what is to run on its C library
    raises       SwitchUnavailable: not Debian or Ubuntu, or no main archive in its sources
    """
    codename = release_name(os_release)
    ubuntu = is_ubuntu(os_release)
    family = {os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()}
    if not ubuntu and "debian" not in family:
        raise SwitchUnavailable("packages can only be unpacked on Debian and Ubuntu")
    own_suites = {codename, "stable", "oldstable", "testing", "unstable", "sid"} - {""}
    for line in targets.splitlines():
        created_by, _, rest = line.partition("|")
        uri, suite, component = [*rest.split("|"), "", ""][:3]
        if created_by == "Packages" and suite in own_suites and component == "main" and "security" not in uri:
            if ubuntu:
                return Archive(uri, suite, "main universe", _KEYRINGS / "ubuntu-archive-keyring.gpg")
            return Archive(
                uri, suite if own_release else "sid", "main", _KEYRINGS / "debian-archive-keyring.gpg"
            )
    raise SwitchUnavailable(f"no main archive for {codename or 'this release'} in the machine's apt sources")


def is_ubuntu(os_release: Mapping[str, str]) -> bool:
    """Ubuntu, or something made of it."""
    return "ubuntu" in {os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()}


def release_name(os_release: Mapping[str, str]) -> str:
    """Its codename, such as bookworm or noble; empty where there is none."""
    return os_release.get("UBUNTU_CODENAME") or os_release.get("VERSION_CODENAME", "")


def packages_in(print_uris: str) -> list[Package]:
    """Parse `apt-get --print-uris`: one quoted address, file name, size and checksum a line."""
    rows = [shlex.split(line) for line in print_uris.splitlines() if line.startswith("'")]
    return [Package(row[1], int(row[2])) for row in rows if len(row) >= 3]


class PrivateApt:
    """An apt that lives under `root` and is thrown away with it."""

    def __init__(self, root: Path, progress: Progress) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise SwitchUnavailable("apt-get and dpkg-deb are not on this machine")
        self.root, self._progress = root, progress
        for name in ("state", "lists/partial", "cache", "archives/partial", "log", "none"):
            (root / name).mkdir(parents=True)
        (root / "status").touch()
        (root / "apt.conf").write_text(_APT_CONF.format(root=root))

    def update(self, *, own_release: bool = False) -> None:
        """Fetch the archive's index. A mirror that is stale, and nothing worse, will do."""
        self._progress("Reading the package index", 0, 0)
        listing = self._run("--no-release-info", "indextargets", "--format", _TARGET_FORMAT, private=False)
        archive = archive_for(os_release(), listing, own_release=own_release)
        try:
            self._fetch_index(archive, stale=False)
        except SwitchUnavailable as error:
            if not _STALE.search(str(error)):
                raise
            self._fetch_index(archive, stale=True)

    def resolve(self, names: Sequence[str]) -> list[Package]:
        """Everything those packages need, down to the C library."""
        return packages_in(self._run("-qq", "--print-uris", "--download-only", "install", *names))

    def download(self, names: Sequence[str], packages: Sequence[Package]) -> None:
        total = sum(package.size_bytes for package in packages)
        step = f"Downloading {names[0]} and {len(packages) - 1} packages it needs"
        self._progress(step, 0, total)
        read_end, write_end = os.pipe()
        log = self.root / "download.log"
        with log.open("wb") as out, os.fdopen(read_end) as status:
            argv = (
                *self._argv(),
                "-y",
                "-o",
                f"APT::Status-Fd={write_end}",
                "--download-only",
                "install",
                *names,
            )
            apt = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=(write_end,), env=_ENV
            )
            os.close(write_end)
            for percent in _percentages(status):
                self._progress(step, int(total * percent / 100), total)
            if apt.wait() != 0:
                raise SwitchUnavailable(f"the packages could not be downloaded:\n{tail(log)}")
        self._progress(step, total, total)

    def unpack(self, packages: Sequence[Package], into: Path) -> None:
        """Files only: no script of any package runs."""
        total, done = sum(package.size_bytes for package in packages), 0
        for package in packages:
            self._progress("Unpacking", done, total)
            _unpack_one(self.root / "archives" / package.file, into)
            done += package.size_bytes
        self._progress("Unpacking", done, total)

    def _fetch_index(self, archive: Archive, *, stale: bool) -> None:
        (self.root / "sources.list").write_text(archive.source_line(stale=stale))
        self._run("-q", "update")

    def _argv(self, *, private: bool = True) -> tuple[str, ...]:
        return ("apt-get", "-c", str(self.root / "apt.conf")) if private else ("apt-get",)

    def _run(self, *words: str, private: bool = True) -> str:
        argv = (*self._argv(private=private), *words)
        run = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=_ENV,
            stdin=subprocess.DEVNULL,
        )
        if run.returncode != 0:
            said = "\n".join(
                line for line in run.stderr.splitlines() if line.startswith(("E:", "W:", "Err:"))
            )
            raise SwitchUnavailable(
                f"apt-get {next(w for w in words if w[0] != '-')} failed:\n{said or run.stderr.strip()}"
            )
        return run.stdout


_ENV: Final = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def os_release() -> dict[str, str]:
    """os-release(5). Written for shells, so quoted like a shell would."""
    for path in (Path("/etc/os-release"), Path("/usr/lib/os-release")):
        if path.exists():
            words = shlex.split(path.read_text(), comments=True)
            return dict(word.split("=", 1) for word in words if "=" in word)
    return {}


def _percentages(status: IO[str]) -> Iterator[float]:
    """Progress of a download, 0 to 100, from apt's `dlstatus:ITEM:PERCENT:TEXT` lines."""
    return (float(line.split(":")[2]) for line in status if line.startswith("dlstatus:"))


def _unpack_one(package: Path, into: Path) -> None:
    excluded = (f"--exclude={pattern}" for pattern in _LEFT_OUT)
    with subprocess.Popen(("dpkg-deb", "--fsys-tarfile", str(package)), stdout=subprocess.PIPE) as unpacker:
        argv = ("tar", "-x", "-C", str(into), "--no-same-owner", "--no-same-permissions", *excluded)
        tar = subprocess.run(argv, stdin=unpacker.stdout, check=False, capture_output=True, text=True)
    if unpacker.returncode != 0 or tar.returncode != 0:
        raise SwitchUnavailable(
            f"{package.name} could not be unpacked: {tar.stderr.strip() or 'the file is damaged'}"
        )
