"""Where a browser is looked for, and what is said when none will do. Unpacking for real is left to tests/browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import SwitchUnavailable
from bridge.sandbox import chromium
from bridge.sandbox.chromium import ENVIRONMENT, find_chromium
from bridge.sandbox.debian import archive_for
from bridge.sandbox.progress import silent
from tests.unit.test_fetch import DEBIAN, DEBIAN_TARGETS

SNAP_STUB = "Command '/usr/bin/chromium-browser' requires the chromium snap to be installed."


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of no known kind, with nothing on PATH but what the test puts into the folder returned."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    return programs


def _says(where: Path, name: str, text: str, code: int = 0) -> Path:
    program = where / name
    program.write_text(f'#!/bin/sh\necho "{text}"\nexit {code}\n')
    program.chmod(0o755)
    return program


def system(monkeypatch: pytest.MonkeyPatch, **release: str) -> None:
    monkeypatch.setattr(chromium, "os_release", lambda: release)


@pytest.mark.parametrize(
    ("name", "says", "version"),
    [
        ("chromium", "Chromium 150.0.7871.100 built on Debian GNU/Linux 12 (bookworm)", 150),
        ("google-chrome", "Google Chrome 141.0.7390.54 ", 141),
        ("google-chrome-stable", "Google Chrome for Testing 141.0.7390.54", 141),
    ],
)
def test_one_on_path_is_used_where_it_is(
    bare: Path, tmp_path: Path, name: str, says: str, version: int
) -> None:
    program = _says(bare, name, says)
    found = find_chromium(tmp_path / "cache", silent)
    assert (found.program, found.version, dict(found.env)) == (program, version, {})
    assert not (tmp_path / "cache").exists()


def test_the_one_named_comes_before_path_and_is_never_passed_over(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _says(bare, "chromium", "Chromium 150.0.1.1")
    named = _says(tmp_path, "mine", "Chromium 140.0.1.1")
    monkeypatch.setenv(ENVIRONMENT, str(named))
    assert find_chromium(tmp_path / "cache", silent).version == 140
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "nowhere"))
    with pytest.raises(SwitchUnavailable, match="nowhere cannot be run"):
        find_chromium(tmp_path / "cache", silent)


def test_ubuntus_stub_is_passed_over_and_the_message_says_how_to_name_another(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system(monkeypatch, ID="ubuntu", VERSION_CODENAME="noble")
    _says(bare, "chromium-browser", SNAP_STUB, 1)
    with pytest.raises(SwitchUnavailable) as caught:
        find_chromium(tmp_path / "cache", silent)
    for part in ("requires the chromium snap", "Ubuntu has Chromium as a snap only", ENVIRONMENT, "Install"):
        assert part in str(caught.value)


def test_a_snap_and_an_old_one_will_not_do(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system(monkeypatch, ID="fedora")
    _says(bare, "snap", "Chromium 150.0.1.1")
    (bare / "chromium").symlink_to(bare / "snap")
    _says(bare, "google-chrome", "Google Chrome 90.0.1.1")
    with pytest.raises(SwitchUnavailable) as caught:
        find_chromium(tmp_path / "cache", silent)
    for part in ("is a snap", "version 90, older than", str(tmp_path / "cache"), "apt-get"):
        assert part in str(caught.value)


def test_a_kept_one_is_run_with_its_own_libraries_and_letters(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system(monkeypatch, **DEBIAN)
    root = tmp_path / "chromium-bookworm_150.0.1_0a1b2c3d"
    libraries = root / "usr/lib/any-linux-gnu"
    for made in (libraries, libraries / "nss", root / "lib/any-linux-gnu", root / "usr/lib/chromium"):
        made.mkdir(parents=True)
    program = root / "usr/lib/chromium/chromium"
    program.write_text(
        '#!/bin/sh\n[ -f "$FONTCONFIG_FILE" ] && echo "Chromium ${LD_LIBRARY_PATH:+150}.0.1.1"\n'
    )
    program.chmod(0o755)
    (tmp_path / "chromium-trixie_160.0.1_0a1b2c3d").mkdir()  # of a home that is shared with another machine
    found = find_chromium(tmp_path, silent)
    assert (found.program, found.version) == (program, 150)
    assert found.env["LD_LIBRARY_PATH"].split(":") == [
        str(libraries),
        str(libraries / "nss"),
        str(root / "lib/any-linux-gnu"),
    ]
    assert str(root / "usr/share/fonts") in Path(found.env["FONTCONFIG_FILE"]).read_text()


def test_what_runs_on_the_machines_c_library_is_of_its_own_release() -> None:
    assert archive_for(DEBIAN, DEBIAN_TARGETS, own_release=True).suite == "bookworm"
    assert archive_for(DEBIAN, DEBIAN_TARGETS).suite == "sid"
