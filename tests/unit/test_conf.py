"""The generated configuration of the switch."""

import stat
from dataclasses import replace

import pytest

from bridge import config
from bridge.asterisk import conf
from bridge.errors import ConfigError
from bridge.rating.deck import Deck
from bridge.routing.store import App, TrunkPeer
from bridge.routing.trunk import Trunk

SETTINGS = config.Settings.model_validate(
    {"ami": {"secret": "s" * 32}, "switch": {"emergency_trunk": "alpha"}}
)
TRUNK = TrunkPeer(Trunk("t", "alpha", "carrier", Deck("d", "d", "EUR", 1, []), None), "c", "192.0.2.1", 5060)
APP = App("messenger", "192.0.2.9", "p" * 20)


def test_a_trunk_and_an_app():
    files = conf.render(SETTINGS, [TRUNK], [APP, App("open", "192.0.2.10:5062", None)])
    text = files["pjsip.conf"]
    assert "[alpha](trunk)\naors = alpha\n" in text
    assert "contact = sip:192.0.2.1:5060" in text
    assert "match = 192.0.2.9\n" in text
    assert text.count("(app-auth)") == 1
    assert "EMERGENCY_TRUNK = alpha" in files["globals.conf"]


@pytest.mark.parametrize("evil", ["x\n[evil]", "x;y", "x\r", "ü"])
def test_what_could_leave_its_line_is_refused(evil):
    with pytest.raises(ConfigError, match="trunk alpha host"):
        conf.render(SETTINGS, [replace(TRUNK, host=evil)], [])


def test_a_weak_manager_secret_is_refused():
    weak = config.Settings.model_validate({"ami": {"secret": "short"}})
    with pytest.raises(ConfigError, match=r"ami\.secret"):
        conf.render(weak, [], [])


def test_only_what_changed_is_written_and_by_rename(tmp_path):
    files = conf.render(SETTINGS, [TRUNK], [APP])
    assert conf.write(tmp_path, files) == list(files)
    assert conf.write(tmp_path, files) == []
    assert conf.write(tmp_path, conf.render(SETTINGS, [], [APP])) == ["pjsip.conf"]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / conf.FOLDER).iterdir()}
    assert modes == {0o640}
    assert sorted(path.name for path in (tmp_path / conf.FOLDER).iterdir()) == sorted(files)


def test_check_says_what_is_missing(tmp_path):
    settings = config.Settings.model_validate({"switch": {"record_dir": str(tmp_path / "none")}})
    said = " ".join(problem.what for problem in conf.check(settings, tmp_path))
    for word in ("emergency", "pjsip.conf", "globals.conf", "record_dir"):
        assert word in said


def test_check_is_content_with_what_we_install(tmp_path):
    settings = config.Settings.model_validate(
        {"ami": {"secret": "s" * 32}, "switch": {"emergency_trunk": "alpha", "record_dir": str(tmp_path)}}
    )
    conf.install(tmp_path)
    conf.write(tmp_path, conf.render(settings, [TRUNK], [APP]))
    assert conf.check(settings, tmp_path) == []
