"""Makes .venv from the lock: `python3 .ci/bootstrap.py run` for what runs, `… dev` for what checks and tests.

Standard library only, and works where Debian's python3 comes without ensurepip: pip is then taken from the
distribution's own package python3-pip-whl, downloaded by apt into a temporary directory, without root.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKS = {"run": ROOT / ".ci" / "requirements.txt", "dev": ROOT / ".ci" / "requirements-dev.txt"}
ERASE = "\r\033[K"  # the line the cursor is on
PACKAGED_WHEELS = Path("/usr/share/python-wheels")
NO_PIP = """\
Python {version} here has neither ensurepip nor pip, and apt gave no python3-pip-whl:
{reason}
Fix: install pip's package as root (Debian, Ubuntu: apt install python3-venv), then run make setup again."""

PIP_FAILED = """pip could not install. It said:
{said}
Fix what it names, most often the network, a proxy or its certificate, then run make setup again: that is safe."""


class SetupFailed(Exception):
    """The message says what is missing and what to do."""


def main(stage: str) -> None:
    started = time.monotonic()
    if not works(PYTHON):
        say("Making .venv with Python {}.{}.{}".format(*sys.version_info))
        make_venv()
    lock = LOCKS[stage]
    names = pinned(lock)
    say(f"Installing {len(names)} packages from {lock.relative_to(ROOT)}, each checked against its hash")
    # Source packages are built with the build tools of the lock, which the `run` stage has installed.
    pip("install", "--require-hashes", "--no-build-isolation", "-r", str(lock), expected=len(names))
    if stage == "run":
        say("Installing callbridge itself, editable")
        pip("install", "--no-deps", "--no-build-isolation", "--no-index", "--editable", str(ROOT))
    say(f"Ready after {time.monotonic() - started:.0f} s")


def say(line: str) -> None:
    print(f"setup: {line}", flush=True)


def works(python: Path) -> bool:
    """Whether the venv is whole. An upgrade of the system's Python may have taken its interpreter away."""
    try:
        asked = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return asked.returncode == 0


def pinned(lock: Path) -> "list[str]":
    """Names in a lock, without those for other systems."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return [line.split("==")[0] for line in lines if "==" in line and "== 'win32'" not in line]


def pip(*words: str, expected: int = 0) -> None:
    """Run pip. A terminal sees how many of the `expected` packages it has reached; its own words, only if it fails."""
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", *words]
    said, reached = [], 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        for line in run.stdout or ():
            said.append(line)
            if (
                sys.stdout.isatty()
                and line.startswith(("Collecting ", "Requirement already"))
                and "==" in line
            ):
                reached = min(reached + 1, expected)
                name = line.partition("==")[0].split()[-1]
                print(f"{ERASE}setup: {reached} of {expected}: {name}", end="", flush=True)
    if reached:
        print(ERASE, end="", flush=True)
    if run.returncode != 0:
        raise SetupFailed(PIP_FAILED.format(said="".join(said[-25:])))


def make_venv() -> None:
    if VENV.exists():
        shutil.rmtree(VENV)
    if find_spec("ensurepip") and find_spec("venv"):
        made = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, check=False)
        if made.returncode == 0:
            return
        shutil.rmtree(VENV, ignore_errors=True)
    if not find_spec("venv"):
        raise SetupFailed(NO_PIP.format(version=version(), reason="the module venv is missing, too"))
    say("This Python has no ensurepip: taking pip from the distribution's package")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", VENV], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = packaged_pip(Path(scratch))
        subprocess.run([PYTHON, wheel / "pip", "--quiet", "install", "--no-index", wheel], check=True)


def version() -> str:
    return "{}.{}".format(*sys.version_info)


def packaged_pip(scratch: Path) -> Path:
    """The distribution's wheel of pip: installed already, or fetched with the machine's own apt settings."""
    installed = sorted(PACKAGED_WHEELS.glob("pip-*.whl"))
    if installed:
        return installed[-1]
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise SetupFailed(NO_PIP.format(version=version(), reason="apt-get is not on this machine"))
    reason = apt(scratch, "download", "python3-pip-whl")
    if reason:
        # A fresh machine has no package lists, and only root may fetch the system's.
        lists = [f"Dir::State::lists={scratch}/lists", f"Dir::Cache={scratch}/cache"]
        for name in ("lists/partial", "cache/archives/partial"):
            (scratch / name).mkdir(parents=True)
        reason = apt(scratch, "update", options=lists) or apt(
            scratch, "download", "python3-pip-whl", options=lists
        )
    for package in scratch.glob("python3-pip-whl_*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, scratch / "unpacked"], check=True)
    wheels = sorted((scratch / "unpacked").glob("usr/share/python-wheels/pip-*.whl"))
    if not wheels:
        raise SetupFailed(NO_PIP.format(version=version(), reason=reason))
    return wheels[-1]


def apt(scratch: Path, *words: str, options: "list[str] | None" = None) -> str:
    """Run apt-get in `scratch`. Returns what it complained of, empty when it went well."""
    settings = ["APT::Sandbox::User=root", *(options or [])]
    command = ["apt-get", *(word for setting in settings for word in ("-o", setting)), *words]
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or done.stdout.strip()


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("setup: callbridge needs Python 3.11 or later, this is {}.{}".format(*sys.version_info))
    try:
        main(*sys.argv[1:])
    except SetupFailed as failure:
        sys.exit(f"setup: {failure}")
