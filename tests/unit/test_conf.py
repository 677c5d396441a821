"""The generated configuration of the switch."""

import re
import stat
from dataclasses import replace
from typing import get_args
from uuid import UUID

import pytest

from bridge import config
from bridge.api.trunk_fields import Codec
from bridge.asterisk import conf
from bridge.asterisk.conf_users import BANS_CONF
from bridge.errors import ConfigError
from bridge.resources import ASTERISK_CONF
from bridge.routing.store import App, Peer
from bridge.routing.trunk import CODECS
from tests.asterisk_text import sections

SETTINGS = config.Settings.model_validate(
    {"ami": {"secret": "s" * 32}, "switch": {"emergency_trunk": "alpha"}}
)
TRUNK = Peer(UUID(int=1), "alpha", "192.0.2.1", 5060)
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
    assert sorted(path.name for path in (tmp_path / conf.FOLDER).iterdir()) == sorted([*files, BANS_CONF])


def test_check_says_what_is_missing(tmp_path):
    settings = config.Settings.model_validate({"switch": {"record_dir": str(tmp_path / "none")}})
    said = " ".join(problem.what for problem in conf.check(settings, tmp_path))
    for word in ("emergency", "pjsip.conf", "globals.conf", "record_dir", "messages.folder"):
        assert word in said


def test_check_is_content_with_what_we_install(tmp_path):
    settings = config.Settings.model_validate(
        {"ami": {"secret": "s" * 32}, "switch": {"emergency_trunk": "alpha", "record_dir": str(tmp_path)}}
        | {"messages": {"folder": str(tmp_path)}}
    )
    conf.install(tmp_path)
    conf.write(tmp_path, conf.render(settings, [TRUNK], [APP]))
    assert conf.check(settings, tmp_path) == []


def test_what_a_carrier_asks_for_stands_in_its_sections():
    asking = replace(
        TRUNK,
        transport="tcp",
        codecs=("g722", "alaw"),
        auth_username="cb",
        auth_secret="correct.horse",
        allowed_ips=("192.0.2.0/28", "198.51.100.7/32"),
        qualify_s=30,
    )
    found = sections(conf.render_pjsip(SETTINGS, [asking], [APP]))
    assert found["tcp", "transport"] == {
        "type": ["transport"],
        "protocol": ["tcp"],
        "bind": ["127.0.0.1:5060"],
    }
    assert found["alpha", "trunk"] == {
        "aors": ["alpha"],
        "transport": ["tcp"],
        "disallow": ["all"],
        "allow": ["g722,alaw"],
        "outbound_auth": ["alpha"],
    }
    assert found["alpha", "trunk-aor"] == {
        "contact": [r"sip:192.0.2.1:5060\;transport=tcp"],
        "qualify_frequency": ["30"],
        "qualify_timeout": ["2"],
    }
    assert found["alpha", "auth"]["password"] == ["correct.horse"]
    assert found["alpha", "identify"]["match"] == ["192.0.2.0/28", "198.51.100.7/32"]
    plain = sections(conf.render_pjsip(SETTINGS, [TRUNK], []))
    assert set(plain) == {("udp", "transport"), ("alpha", "trunk"), ("alpha", "trunk-aor")}
    assert "qualify_frequency" not in plain["alpha", "trunk-aor"]


def test_a_disabled_trunk_is_not_given_to_the_switch_unless_emergency_calls_go_over_it():
    beta = replace(TRUNK, name="beta", enabled=False)
    text = conf.render_pjsip(SETTINGS, [replace(TRUNK, enabled=False), beta], [])
    assert "[alpha](trunk)" in text
    assert "beta" not in text


@pytest.mark.parametrize("field", ["host", "transport", "auth_username", "auth_secret"])
@pytest.mark.parametrize("evil", ["x\nmatch = 0.0.0.0/0", "x;y", "x\0", "ü"])
def test_no_value_of_a_trunk_leaves_its_line(field, evil):
    with pytest.raises(ConfigError):
        conf.render_pjsip(
            SETTINGS, [replace(TRUNK, **({"auth_username": "a", "auth_secret": "b"} | {field: evil}))], []
        )


@pytest.mark.parametrize(
    "twice", [[TRUNK, TRUNK], [TRUNK, replace(TRUNK, name="messenger")], [replace(TRUNK, name="a b")]]
)
def test_a_file_that_would_not_mean_what_it_should_is_never_made(twice):
    with pytest.raises(ConfigError):
        conf.render_pjsip(SETTINGS, twice, [APP])


def test_only_a_folder_that_was_rendered_is_written_to(tmp_path):
    with pytest.raises(FileNotFoundError):
        conf.replace_pjsip(tmp_path, "new\n")
    assert list(tmp_path.iterdir()) == []
    conf.write(tmp_path, {conf.PJSIP_CONF: "old\n"})
    assert conf.replace_pjsip(tmp_path, "new\n") == "old\n"
    assert conf.replace_pjsip(tmp_path, "new\n") is None


def test_the_switch_can_speak_every_codec_a_trunk_may_have():
    loaded = (ASTERISK_CONF / "modules.conf").read_text()
    assert all(re.search(rf"load => codec_{codec}(_open_source)?\.so", loaded) for codec in CODECS)
    assert set(CODECS) == set(get_args(Codec))
    assert "load => codec_resample.so" in loaded  # between 8 and 16 kHz
