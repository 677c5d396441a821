"""The switch's configuration of a WhatsApp Business number: Meta's SIP over TLS, media by SDES-SRTP and Opus.

Whatever is the same for every number stands in the templates of asterisk-conf/pjsip.conf.
"""

from __future__ import annotations

from typing import Final

from bridge.asterisk.conf_value import value
from bridge.config import Settings
from bridge.errors import ConfigError
from bridge.routing.store import Peer

META_REALM: Final = "wa.meta.vc"
# fmt: off
KEYS: Final = frozenset({
    "cert_file", "priv_key_file", "ca_list_file", "verify_server", "allow_wildcard_certs", "verify_client",
    "require_client_cert", "method", "from_user", "from_domain", "realm", "match_request_uri", "deny", "permit",
})
# fmt: on


def transport(settings: Settings) -> str:
    """The one TLS listener. Meta shows no certificate, so none is asked for; Meta's own is checked when we call.

    raises   ConfigError: a setting is missing, or cannot stand in a configuration file
    """
    if (key := settings.whatsapp.missing) is not None:
        raise ConfigError(key, "is empty", "A trunk of kind whatsapp needs it; see docs/operators.md.")
    given = settings.whatsapp
    lines = {
        "type": "transport",
        "protocol": "tls",
        "bind": f"{value('switch.sip_host', settings.switch.sip_host)}:{given.tls_port}",
        "method": "tlsv1_2",
        "cert_file": value("whatsapp.cert_file", given.cert_file),
        "priv_key_file": value("whatsapp.key_file", given.key_file),
        "ca_list_file": value("whatsapp.ca_file", given.ca_file),
        "verify_server": "yes",
        "allow_wildcard_certs": "yes",
        "verify_client": "no",
        "require_client_cert": "no",
    }
    return "[tls]\n" + "".join(f"{key} = {text}\n" for key, text in lines.items())


def trunk(settings: Settings, peer: Peer) -> str:
    """The sections of one business number.

    Calls from Meta are known by the number in their Request-URI, from Meta's addresses only, and prove themselves by
    the number's password. The template lets nothing else identify them: a From header is anybody's to write.

    raises   ConfigError: the number or its password is missing, or cannot stand in a configuration file
    """
    name = value("trunk.name", peer.name)
    where = f"trunk {name}"
    number = value(f"{where} business_number", peer.business_number or "")
    digits = number.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raise ConfigError(f"{where} business_number", "is no E.164 number", "Write it as +493012345678.")
    secret = value(f"{where} auth_secret", peer.auth_secret or "")
    domain = value("whatsapp.domain", settings.whatsapp.domain)
    host = value(f"{where} host", f"{peer.host}:{peer.port}")
    challenged = settings.whatsapp.challenge
    endpoint = {
        "aors": name,
        "from_user": digits,
        "from_domain": domain,
        "outbound_auth": name,
        **({"auth": f"{name}-in"} if challenged else {}),
        "deny": "0.0.0.0/0.0.0.0",
        **({"permit": ",".join(_networks(where, peer))} if peer.allowed_ips else {}),
    }
    account = f"username = {digits}\npassword = {secret}\n"
    parts = [
        f"[{name}](whatsapp-trunk)\n" + "".join(f"{key} = {text}\n" for key, text in endpoint.items()),
        f"[{name}](trunk-aor)\ncontact = sip:{host}\\;transport=tls\n",
        f"[{name}](whatsapp-auth)\nrealm = {META_REALM}\n{account}",
        f"[{name}]\ntype = identify\nendpoint = {name}\nmatch_request_uri = /^sips?:[+]?{digits}@/\n",
    ]
    if challenged:
        parts.append(f"[{name}-in]\ntype = auth\nauth_type = digest\nrealm = {domain}\n{account}")
    return "\n".join(parts)


def _networks(where: str, peer: Peer) -> list[str]:
    return [value(f"{where} allowed_ips", network) for network in peer.allowed_ips]
