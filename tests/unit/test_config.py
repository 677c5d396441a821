"""Settings: where they come from, and that a mistake names the key and the fix."""

import pytest

from bridge import config
from bridge.errors import ConfigError


def load(tmp_path, text: str = "", **environ: str):
    path = tmp_path / "callbridge.toml"
    path.write_text(text)
    return config.load(path, environ)


def test_defaults_then_file_then_environment(tmp_path):
    assert load(tmp_path).api.port == 8080
    assert load(tmp_path, "[api]\nport = 8081").api.port == 8081
    assert load(tmp_path, "[api]\nport = 8081", CALLBRIDGE__API__PORT="8082").api.port == 8082


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("[api]\nprot = 1", "api.prot", "Known here: host, port"),
        ("[apy]\nport = 1", "apy", "agi, ami, api"),
        ("[api]\nport = 70000", "api.port", "less than or equal to 65535"),
        ("[calls]\nslice_s = 'x'", "calls.slice_s", "integer"),
        ("[calls]\nhome_region = 'germany'", "calls.home_region", "pattern"),
        ("not toml", "callbridge.toml", "cannot be read"),
    ],
)
def test_a_mistake_names_the_key_and_the_fix(tmp_path, text, key, says):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert key in caught.value.key
    assert says in str(caught.value)


def test_a_variable_without_section_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="CALLBRIDGE__API__PORT"):
        load(tmp_path, CALLBRIDGE__PORT="1")


def test_a_file_that_was_named_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        config.load(tmp_path / "none.toml", {})


def test_no_dsn_says_how_to_give_one(tmp_path):
    with pytest.raises(ConfigError, match="CALLBRIDGE__DATABASE__DSN"):
        config.require_dsn(load(tmp_path))


def test_secrets_are_not_shown(tmp_path):
    settings = load(tmp_path, "[ami]\nsecret = 'hush'\n[database]\ndsn = 'postgresql://u:hush@h/d'")
    assert "hush" not in repr(settings)


def test_settings_do_not_change(tmp_path):
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path).api.port = 1


def test_networks_are_listed_with_commas_in_the_environment(tmp_path):
    networks = load(tmp_path, CALLBRIDGE__EVENTS__ALLOW_NETWORKS="127.0.0.0/8, ::1/128").events.allow_networks
    assert [str(one) for one in networks] == ["127.0.0.0/8", "::1/128"]
    with pytest.raises(ConfigError, match="allow_networks"):
        load(tmp_path, "[events]\nallow_networks = ['everywhere']")
