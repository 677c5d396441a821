"""What the switch is told of a WhatsApp Business number."""

from __future__ import annotations

import re
from dataclasses import replace
from uuid import UUID

import pytest

from bridge import config
from bridge.asterisk import conf, conf_whatsapp
from bridge.errors import ConfigError
from bridge.resources import ASTERISK_CONF
from bridge.routing.store import App, Peer
from tests.asterisk_text import sections

GIVEN = {
    "ami": {"secret": "s" * 32},
    "switch": {"emergency_trunk": "alpha"},
    "whatsapp": {"domain": "voip.example.com", "cert_file": "/etc/c.pem", "key_file": "/etc/c.key"},
}
SETTINGS = config.Settings.model_validate(GIVEN)
NUMBER = Peer(
    UUID(int=1),
    "business",
    "wa.meta.vc",
    5061,
    transport="tls",
    codecs=("opus",),
    auth_username="493012345678",
    auth_secret="sipPass/word=1",
    allowed_ips=("69.171.224.0/19", "157.240.0.0/16"),
    kind="whatsapp",
    business_number="+493012345678",
)


def settings(**whatsapp: object) -> config.Settings:
    return config.Settings.model_validate(GIVEN | {"whatsapp": {**GIVEN["whatsapp"], **whatsapp}})


def test_a_business_number():
    found = sections(conf.render_pjsip(SETTINGS, [NUMBER], []))
    assert found["tls", "transport"] == {
        "type": ["transport"],
        "protocol": ["tls"],
        "bind": ["127.0.0.1:5061"],
        "method": ["tlsv1_2"],
        "cert_file": ["/etc/c.pem"],
        "priv_key_file": ["/etc/c.key"],
        "ca_list_file": ["/etc/ssl/certs/ca-certificates.crt"],
        "verify_server": ["yes"],
        "allow_wildcard_certs": ["yes"],
        "verify_client": ["no"],
        "require_client_cert": ["no"],
    }
    assert found["business", "whatsapp-trunk"] == {
        "aors": ["business"],
        "from_user": ["493012345678"],
        "from_domain": ["voip.example.com"],
        "outbound_auth": ["business"],
        "auth": ["business-in"],
        "deny": ["0.0.0.0/0.0.0.0"],
        "permit": ["69.171.224.0/19,157.240.0.0/16"],
    }
    assert found["business", "trunk-aor"]["contact"] == [r"sip:wa.meta.vc:5061\;transport=tls"]
    account = {"username": ["493012345678"], "password": ["sipPass/word=1"]}
    assert found["business", "whatsapp-auth"] == {"realm": ["wa.meta.vc"], **account}
    assert found["business-in", "auth"] == {
        "type": ["auth"], "auth_type": ["digest"], "realm": ["voip.example.com"], **account,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("uri", "is_it"),
    [
        ("sip:+493012345678@voip.example.com;transport=TLS", True),
        ("sips:493012345678@voip.example.com", True),
        ("sip:+4930123456789@voip.example.com", False),
        ("sip:+49301234567@voip.example.com", False),
        ("sip:+491@x;a=sip:493012345678@y", False),
        ("sip:00493012345678@voip.example.com", False),
    ],
)
def test_a_call_is_known_by_the_number_it_is_for(uri, is_it):
    matched = sections(conf.render_pjsip(SETTINGS, [NUMBER], []))["business", "identify"]["match_request_uri"]
    assert bool(re.search(matched[0].strip("/"), uri)) is is_it


def test_meta_need_not_prove_itself_if_an_operator_says_so():
    found = sections(conf.render_pjsip(settings(challenge=False), [NUMBER], []))
    assert "auth" not in found["business", "whatsapp-trunk"]
    assert ("business-in", "auth") not in found


def test_what_is_the_same_for_every_number_stands_in_the_template():
    found = sections((ASTERISK_CONF / "pjsip.conf").read_text())["whatsapp-trunk", "!"]
    wanted = {
        "context": "from-whatsapp", "identify_by": "request_uri", "transport": "tls", "disallow": "all",
        "allow": "opus", "media_encryption": "sdes", "rtcp_mux": "yes", "direct_media": "no",
        "rewrite_contact": "no", "timers": "no", "send_connected_line": "no", "moh_passthrough": "no",
        "allow_transfer": "no", "trust_id_inbound": "no",
    }  # fmt: skip
    assert {key: found[key] for key in wanted} == {key: [value] for key, value in wanted.items()}
    assert int(found["rtp_keepalive"][0]) > 0


@pytest.mark.parametrize("key", ["domain", "cert_file", "key_file"])
def test_a_missing_setting_is_named(key):
    with pytest.raises(ConfigError, match=rf"whatsapp\.{key}"):
        conf.render_pjsip(settings(**{key: ""}), [NUMBER], [])


def test_nobody_who_has_no_business_number_needs_any_of_it():
    bare = config.Settings.model_validate({name: GIVEN[name] for name in ("ami", "switch")})
    text = conf.render_pjsip(bare, [replace(NUMBER, enabled=False)], [App("messenger", "192.0.2.9", None)])
    assert "tls" not in text
    assert "business" not in text


@pytest.mark.parametrize("field", ["host", "auth_secret", "business_number"])
@pytest.mark.parametrize("evil", ["x\nmatch = 0.0.0.0/0", "x;y", "x\0", "ü", ""])
def test_nothing_leaves_its_line(field, evil):
    if (field, evil) == ("host", ""):
        return
    with pytest.raises(ConfigError):
        conf.render_pjsip(SETTINGS, [replace(NUMBER, **{field: evil})], [])


@pytest.mark.parametrize("number", ["+49301|.*", "+4930.", "(.*)", "+", "49 30"])
def test_a_number_is_no_pattern(number):
    with pytest.raises(ConfigError, match=r"E\.164"):
        conf_whatsapp.trunk(SETTINGS, replace(NUMBER, business_number=number))


def test_a_network_cannot_be_more_than_one_line():
    with pytest.raises(ConfigError):
        conf_whatsapp.trunk(SETTINGS, replace(NUMBER, allowed_ips=("0.0.0.0/0\npermit=x",)))


def test_two_numbers_share_one_listener():
    other = replace(NUMBER, name="other", business_number="+493087654321", auth_username="493087654321")
    text = conf.render_pjsip(SETTINGS, [NUMBER, other], [])
    assert text.count("protocol = tls") == 1
    with pytest.raises(ConfigError, match="twice"):
        conf.render_pjsip(SETTINGS, [NUMBER, replace(other, name="business")], [])
