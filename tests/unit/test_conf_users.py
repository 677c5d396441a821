"""The generated configuration for app users' phones."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from bridge import config
from bridge.asterisk import conf, conf_users
from bridge.errors import ConfigError
from bridge.resources import ASTERISK_CONF
from bridge.routing.store import App
from tests.asterisk_text import sections

DSN = "postgresql://callbridge_switch_a:0123456789abcdef@192.0.2.5:5433/callbridge"


def settings(dsn: str, **users: object) -> config.Settings:
    return config.Settings.model_validate(
        {"ami": {"secret": "s" * 32}, "users": {"switch_dsn": dsn, **users}}
    )


def test_the_switch_is_told_where_its_users_are() -> None:
    files = conf.render(settings(DSN, ws_port=9088), [], [])
    assert "ps_auths => pgsql,callbridge,ps_auths\n" in files["extconfig.conf"]
    for line in (
        "dbhost = 192.0.2.5",
        "dbport = 5433",
        "dbuser = callbridge_switch_a",
        "dbpass = 0123456789abcdef",
    ):
        assert f"{line}\n" in files["res_pgsql.conf"]
    assert "enabled = yes\nbindaddr = 127.0.0.1\nbindport = 9088\n" in files["http.conf"]
    assert sections(files["pjsip.conf"])["ws", "transport"]["protocol"] == ["ws"]


def test_no_option_of_the_switch_is_longer_than_it_reads() -> None:
    text = conf_users.files(settings(DSN))["res_pgsql.conf"]
    assert max(len(line.partition(" = ")[2]) for line in text.splitlines()) <= 63


def test_a_unix_socket_is_a_host_too() -> None:
    dsn = "postgresql://callbridge_switch_a:secret@/callbridge?host=/run/postgresql&port=5434"
    login = conf_users.switch_login(settings(dsn))
    assert login == conf_users.SwitchLogin(
        "callbridge_switch_a", "secret", "/run/postgresql", 5434, "callbridge"
    )


def test_without_a_login_there_are_no_users() -> None:
    files = conf.render(settings(""), [], [])
    assert "pgsql" not in files["extconfig.conf"] + files["res_pgsql.conf"]
    assert "enabled = no" in files["http.conf"]
    assert "[ws]" not in files["pjsip.conf"]


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://postgres:secret@127.0.0.1/callbridge",  # never the superuser
        "postgresql://callbridge_switch_a@127.0.0.1/callbridge",
        "postgresql://callbridge_switch_a:secret@/callbridge",
        "postgresql://callbridge_switch_a:secret@127.0.0.1",
        "postgresql://callbridge_switch_a:a%20b@127.0.0.1/callbridge",
        "postgresql://callbridge_switch_a:a%27b@127.0.0.1/callbridge",
        "postgresql://callbridge_switch_a:a%3Bb@127.0.0.1/callbridge",
        "postgresql://callbridge_switch_a:a%0Ab@127.0.0.1/callbridge",
        f"postgresql://callbridge_switch_a:{'x' * 64}@127.0.0.1/callbridge",
        "postgresql://callbridge_switch_a:secret@127.0.0.1:port/callbridge",
        "mysql://callbridge_switch_a:secret@127.0.0.1/callbridge",
        "nonsense",
    ],
)
def test_a_login_that_would_not_work_is_refused_without_telling_it(dsn: str) -> None:
    with pytest.raises(ConfigError, match=r"users\.switch_dsn") as told:
        conf.render(settings(dsn), [], [])
    assert "a b" not in str(told.value)


def test_bans_are_an_access_list() -> None:
    assert conf_users.bans([]) == ""
    text = conf_users.bans(
        [ip_network("192.0.2.9/32"), ip_network("2001:db8::/64"), ip_network("192.0.2.9/32")]
    )
    assert text == "[bans]\ntype = acl\ndeny = 192.0.2.9/32\ndeny = 2001:db8::/64\n"


def test_rendering_leaves_bans_as_they_are(tmp_path: Path) -> None:

    conf.write(tmp_path, conf.render(settings(DSN), [], []))
    bans = tmp_path / conf.FOLDER / conf_users.BANS_CONF
    assert bans.read_text() == ""
    conf.write(tmp_path, {conf_users.BANS_CONF: "[bans]\n"})
    conf.write(tmp_path, conf.render(settings(""), [], []))
    assert bans.read_text() == "[bans]\n"


def test_trunks_and_gateways_are_found_before_the_database_is_asked() -> None:
    lines = (ASTERISK_CONF / "sorcery.conf").read_text().splitlines()
    for kind in ("endpoint", "auth", "aor"):
        found = [line for line in lines if line.startswith(f"{kind} = ")]
        assert [line.split(" = ")[1].split(",")[0] for line in found] == ["config", "realtime"]
        assert "allow_unqualified_fetch=no" in found[1]
    assert [line for line in lines if line.startswith("contact")] == ["contact = astdb,registrar"]
    assert "endpoint_identifier_order = ip,username" in (ASTERISK_CONF / "pjsip.conf").read_text()


@pytest.mark.parametrize(
    ("host", "mistaken"),
    [
        ("127.0.0.1", True),
        ("127.0.0.0/8", True),
        ("192.0.2.9", True),
        ("0.0.0.0/0", True),
        ("127.0.0.2", False),
        ("127.0.0.1:5062", False),
        ("192.0.2.10", False),
        ("gateway.example.com", False),
    ],
)
def test_nobody_is_known_by_an_address_from_which_browsers_come(
    tmp_path: Path, host: str, mistaken: bool
) -> None:
    app = App("messenger", host, None)
    given = settings(DSN, ws_host="192.0.2.1", spared=["127.0.0.0/8", "192.0.2.8/31"])
    said = f"messenger is known by {host}, from where browsers come"
    if mistaken:
        with pytest.raises(ConfigError, match=said):
            conf.render(given, [], [app])
    else:
        conf.render(given, [], [app])
    conf.write(tmp_path, conf.render(settings(""), [], [app]))
    assert any(said in one.what for one in conf.check(given, tmp_path)) is mistaken
    assert not any(said in one.what for one in conf.check(settings(""), tmp_path))
