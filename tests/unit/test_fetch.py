"""Where Asterisk and SIPp are looked for, and what is said when they are not there.

Unpacking for real is left to tests/asterisk.
"""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import SwitchUnavailable
from bridge.sandbox.debian import Archive, Package, archive_for, packages_in
from bridge.sandbox.fetch import default_cache, find_asterisk, find_sipp, parse_version
from bridge.sandbox.progress import shown, silent

DEBIAN = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
DEBIAN_TARGETS = """\
Sources|https://mirror.example/debian/|bookworm|main
Packages|https://packages.example/linux/debian/|bookworm|stable
Packages|https://mirror.example/debian-security/|bookworm-security|main
Packages|https://mirror.example/debian/|bookworm-updates|main
Packages|https://mirror.example/debian/|bookworm|main
"""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on PATH but what the test puts into the directory returned."""
    programs = tmp_path / "prefix" / "bin"
    programs.mkdir(parents=True)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr("bridge.sandbox.fetch.SYSTEM_PLACES", ())
    return programs


def _asterisk(programs: Path, says: str, *, modules: bool = True) -> Path:
    program = programs / "asterisk"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    for made in ("lib/asterisk/modules", "share/asterisk/sounds"):
        (programs.parent / made).mkdir(parents=True, exist_ok=True)
    if modules:
        (programs.parent / "lib/asterisk/modules/chan_pjsip.so").touch()
    return program


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("Asterisk 22.10.1~dfsg+~cs6.17.60671434-1", (22, 10, 1)),
        ("Asterisk 20.6.0~dfsg+~cs6.13.40431414-2build5", (20, 6, 0)),
        ("Asterisk certified/20.7-cert1", (20, 7, 0)),
        ("Asterisk certified-20.7-cert1", (20, 7, 0)),
        ("Asterisk 23", (23, 0, 0)),
        ("Asterisk GIT-master-5f3a2b1", None),
        ("", None),
    ],
)
def test_a_version_is_read_as_packagers_print_it(said: str, version: tuple[int, int, int] | None) -> None:
    assert parse_version(said) == version


@given(st.text())
def test_no_text_breaks_the_version_parser(text: str) -> None:
    assert parse_version(text) is None
    version = parse_version(f"Asterisk {text}")
    assert version is None or text[0].isdigit()


def test_one_on_path_is_used_where_it_is(bare: Path, tmp_path: Path) -> None:
    program = _asterisk(bare, "Asterisk 20.6.0")
    found = find_asterisk(None, tmp_path / "cache", silent)
    assert found.argv == (str(program),)
    assert found.version == (20, 6, 0)
    assert found.modules_dir == bare.parent / "lib/asterisk/modules"
    assert found.data_dir == bare.parent / "share/asterisk"
    assert not (tmp_path / "cache").exists()


def test_the_configured_one_comes_before_path(bare: Path, tmp_path: Path) -> None:
    _asterisk(bare, "Asterisk 20.6.0")
    other = tmp_path / "other" / "sbin"
    other.mkdir(parents=True)
    configured = _asterisk(other, "Asterisk 22.1.0")
    assert find_asterisk(str(configured), tmp_path / "cache", silent).version == (22, 1, 0)


@pytest.mark.parametrize(
    ("says", "modules", "problem"),
    [
        ("Asterisk 18.9.0", True, "version 18.9.0, older than 20"),
        ("Hello", True, "does not name its version"),
        ("Asterisk 22.1.0", False, "no modules with chan_pjsip.so"),
    ],
)
def test_a_configured_one_that_will_not_do_is_an_error(
    bare: Path, tmp_path: Path, says: str, modules: bool, problem: str
) -> None:
    program = _asterisk(bare, says, modules=modules)
    with pytest.raises(SwitchUnavailable, match=problem):
        find_asterisk(str(program), tmp_path / "cache", silent)


def test_a_configured_one_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SwitchUnavailable, match="cannot be run"):
        find_asterisk(str(tmp_path / "asterisk"), tmp_path / "cache", silent)


def test_when_all_fails_the_message_says_what_was_looked_for_where_and_the_fix(
    bare: Path, tmp_path: Path
) -> None:
    _asterisk(bare, "Asterisk 16.2.1")
    with pytest.raises(SwitchUnavailable) as caught:
        find_asterisk(None, tmp_path / "cache", silent)
    for part in ("20 or newer", "16.2.1", str(bare), str(tmp_path / "cache"), "apt-get", "switch.asterisk"):
        assert part in str(caught.value)
    with pytest.raises(SwitchUnavailable, match="Install sip-tester"):
        find_sipp(tmp_path / "cache", silent)


def _kept(cache: Path, name: str) -> Path:
    root = cache / name
    for made in ("usr/lib/any-linux-gnu/asterisk/modules", "usr/sbin", "usr/bin"):
        (root / made).mkdir(parents=True)
    loader = root / "usr/lib/any-linux-gnu/ld-linux-any.so.9"
    loader.write_text('#!/bin/sh\n[ "$1" = --library-path ] && [ -d "$2" ] && exec "$3" "$4"\n')
    asterisk = root / "usr/sbin/asterisk"
    asterisk.write_text("#!/bin/sh\necho Asterisk 22.10.1\n")
    for program in (loader, asterisk):
        program.chmod(0o755)
    (root / "usr/lib/any-linux-gnu/libc.so.6").touch()
    (root / "usr/lib/any-linux-gnu/asterisk/modules/chan_pjsip.so").touch()
    return root


def test_a_kept_root_is_run_through_its_own_loader_whatever_the_machine(bare: Path, tmp_path: Path) -> None:
    root = _kept(tmp_path, "asterisk_22.10.1_0a1b2c3d")
    found = find_asterisk(None, tmp_path, silent)
    libraries = root / "usr/lib/any-linux-gnu"
    loader = (str(libraries / "ld-linux-any.so.9"), "--library-path", str(libraries))
    assert found.argv == (*loader, str(root / "usr/sbin/asterisk"))
    assert found.modules_dir == libraries / "asterisk/modules"
    assert found.version == (22, 10, 1)
    _kept(tmp_path, "sip-tester_3.8.0_0a1b2c3d")
    assert find_sipp(tmp_path, silent)[-1].endswith("sip-tester_3.8.0_0a1b2c3d/usr/bin/sipp")


def test_half_a_root_is_never_taken_for_whole_and_is_swept(bare: Path, tmp_path: Path) -> None:
    _kept(tmp_path / "apt-x1", "root")
    with pytest.raises(SwitchUnavailable, match="apt-get"):
        find_asterisk(None, tmp_path, silent)
    assert not (tmp_path / "apt-x1").exists()


def test_a_second_process_waits_and_says_so(bare: Path, tmp_path: Path) -> None:
    _kept(tmp_path, "asterisk_22.10.1_0a1b2c3d")
    told: list[str] = []
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def first_is_done_when_told(step: str, done: int, total: int) -> None:
            told.append(step)
            fcntl.flock(lock, fcntl.LOCK_UN)

        find_asterisk(None, tmp_path, first_is_done_when_told)
    assert told == ["Waiting for another process that unpacks the same"]


def test_debian_takes_the_machines_main_mirror_in_the_suite_that_has_asterisk() -> None:
    archive = archive_for(DEBIAN, DEBIAN_TARGETS)
    assert (archive.uri, archive.suite, archive.components) == (
        "https://mirror.example/debian/",
        "sid",
        "main",
    )
    assert archive.keyring.name == "debian-archive-keyring.gpg"


@pytest.mark.parametrize("codename_key", ["VERSION_CODENAME", "UBUNTU_CODENAME"])
def test_ubuntu_and_its_kin_stay_with_their_own_release(codename_key: str) -> None:
    release = {"ID": "ubuntu", "VERSION_CODENAME": "other", codename_key: "noble"}
    archive = archive_for(release, "Packages|https://mirror.example/ubuntu/|noble|main\n")
    assert (archive.suite, archive.components) == ("noble", "main universe")
    assert archive.keyring.name == "ubuntu-archive-keyring.gpg"


@pytest.mark.parametrize(
    ("release", "targets", "problem"),
    [
        ({"ID": "fedora"}, DEBIAN_TARGETS, "only be unpacked on Debian and Ubuntu"),
        ({}, "", "only be unpacked on Debian and Ubuntu"),
        (DEBIAN, "", "no main archive for bookworm"),
        (
            DEBIAN,
            "Packages|https://mirror.example/debian-security/|bookworm-security|main",
            "no main archive",
        ),
        (DEBIAN, "garbage\nPackages|\n||||", "no main archive"),
    ],
)
def test_a_machine_without_a_usable_archive_is_told(
    release: dict[str, str], targets: str, problem: str
) -> None:
    with pytest.raises(SwitchUnavailable, match=problem):
        archive_for(release, targets)


def test_a_stale_index_is_accepted_only_when_asked_and_always_signed(tmp_path: Path) -> None:
    keyring = tmp_path / "ring.gpg"
    keyring.touch()
    archive = Archive("https://mirror.example/debian/", "sid", "main", keyring)
    assert archive.source_line() == f"deb [signed-by={keyring}] https://mirror.example/debian/ sid main\n"
    assert f"[signed-by={keyring} check-valid-until=no]" in archive.source_line(stale=True)
    unsigned = Archive("https://mirror.example/debian/", "sid", "main", tmp_path / "none.gpg")
    assert unsigned.source_line() == "deb https://mirror.example/debian/ sid main\n"


def test_apts_list_of_files_is_read() -> None:
    printed = (
        "Reading package lists...\n"
        "'https://mirror.example/asterisk_22.10.1~dfsg-1_amd64.deb' "
        "asterisk_1%3a22.10.1~dfsg-1_amd64.deb 2400 -\n"
        "'https://mirror.example/l/libc6_2.43-7_amd64.deb' libc6_2.43-7_amd64.deb 100 \n"
    )
    asterisk, libc = packages_in(printed)
    assert (asterisk.name, asterisk.version, asterisk.size_bytes) == ("asterisk", "22.10.1~dfsg-1", 2400)
    assert libc == Package("libc6_2.43-7_amd64.deb", 100)


def test_progress_without_a_terminal_is_one_line_a_step(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as out:
        with shown(out) as progress:
            for done in (0, 41_000_000, 82_000_000):
                progress("Downloading", done, 82_000_000)
            progress("Unpacking", 0, 0)
        out.seek(0)
        assert out.read() == "Downloading (82 MB)\nUnpacking\n"


@pytest.mark.parametrize(
    ("setting", "base"), [("/var/x", "/var/x"), ("relative", "/home/u/.cache"), ("", "/home/u/.cache")]
)
def test_the_cache_follows_the_desktop_rules(
    setting: str, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.setenv("XDG_CACHE_HOME", setting)
    assert default_cache() == Path(base, "callbridge")
