"""The generated half of the switch's configuration: rendered from settings and database, checked, put in place."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.asterisk import candidates, conf_users, conf_whatsapp
from bridge.asterisk.channel_vars import CLICK, GLOBALS, HANGUP_HANDLERS
from bridge.asterisk.conf_value import value
from bridge.config import Settings
from bridge.errors import ConfigError
from bridge.resources import ASTERISK_CONF
from bridge.routing.store import App, Peer

FOLDER: Final = "callbridge"  # below the switch's configuration; nothing outside it is ever written
JOURNAL: Final = "journal"
CDR_FILE: Final = "callbridge.csv"
SECRET_CHARS_MIN: Final = 16
QUALIFY_TIMEOUT_S: Final = 2  # without an answer to OPTIONS for so long a trunk is down
# The modules an operator must reload for a generated file to count.
RELOADS: Final = ("pbx_config", "res_pjsip")

# Asterisk calls it an error when one of these is absent, and a folder of our own has nothing else in it.
_DEFAULTS: Final = (
    "acl.conf",
    "ccss.conf",
    "cel.conf",
    "features.conf",
    "pjproject.conf",
    "stasis.conf",
    "udptl.conf",
)
_INDICATIONS: Final = (
    "[general]\ncountry = de\n\n[de]\ndescription = Germany\nringcadence = 1000,4000\n"
    "dial = 425\nbusy = 425/480,0/480\nring = 425/1000,0/4000\ncongestion = 425/240,0/240\n"
)

PJSIP_CONF: Final = "pjsip.conf"
# fmt: off
GENERATED: Final = (
    "globals.conf", "manager.conf", PJSIP_CONF, "extconfig.conf", "res_pgsql.conf", "http.conf", conf_users.BANS_CONF,
)
# fmt: on
_SECTION: Final = re.compile(
    r"\[[a-z][a-z0-9_]{0,30}(-in)?\](\((trunk|trunk-aor|app|app-auth|whatsapp-trunk|whatsapp-auth)\))?",
    re.ASCII,
)
# fmt: off
_KEYS: Final = frozenset({
    "type", "protocol", "bind", "aors", "transport", "disallow", "allow", "outbound_auth", "contact", "match",
    "endpoint", "qualify_frequency", "qualify_timeout", "auth_type", "username", "password", "set_var", "auth",
}) | conf_whatsapp.KEYS
# fmt: on
_AND_BROWSERS: Final = "from where browsers come, too: anybody would be taken for it"
_NOT_SO: Final = "Give it an address of its own, or write address:port."
_HEAD: Final = "; Written by `callbridge conf render`. Changes here are lost.\n"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that would keep the switch from working: what, and what to do."""

    what: str
    fix: str


NO_CANDIDATE: Final = Problem(
    "this machine has no address but loopback, at which no browser looks for media: calls would be silent",
    "Bring an interface up that has one.",
)


def render(settings: Settings, trunks: Iterable[Peer], apps: Iterable[App]) -> dict[str, str]:
    """The generated files by name.

    raises   ConfigError: a value cannot stand in a configuration file
    """
    files = {
        "globals.conf": _globals(settings),
        "manager.conf": _manager(settings),
        **conf_users.files(settings),
    }
    told = {name: _HEAD + text for name, text in files.items()}
    return told | {PJSIP_CONF: render_pjsip(settings, trunks, apps)}


def render_pjsip(settings: Settings, trunks: Iterable[Peer], apps: Iterable[App]) -> str:
    """The one of them that depends on the database.

    raises   ConfigError: a value cannot stand in a configuration file, or the file would not mean what it should
    """
    text = _HEAD + _pjsip(settings, trunks, apps)
    lint(text)
    for said in conf_users.mistaken(settings, text):
        raise ConfigError(PJSIP_CONF, f"{said}, {_AND_BROWSERS}", _NOT_SO)
    return text


def lint(text: str) -> None:
    """A second look at a generated pjsip.conf: nothing in it but known sections with known keys, each section once.

    raises   ConfigError naming the line
    """
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        section = _SECTION.fullmatch(line)
        if section and line.endswith(")"):  # a plain [name] stands once for each type
            if line in seen:
                raise ConfigError(f"{PJSIP_CONF} line {number}", f"{line} is there twice", "Rename one.")
            seen.add(line)
        key, equals, _ = line.partition(" = ")
        if line and not section and not line.startswith("; ") and not (equals and key in _KEYS):
            raise ConfigError(f"{PJSIP_CONF} line {number}", "is no setting of a trunk or app", "Tell us.")
    endpoints = [
        line.partition("]")[0] for line in seen if line.endswith(("(trunk)", "(app)", "(whatsapp-trunk)"))
    ]
    if len(endpoints) != len(set(endpoints)):
        raise ConfigError(PJSIP_CONF, "a trunk and an app have the same name", "Rename one.")


def replace_pjsip(conf_dir: Path, text: str) -> str | None:
    """Put another generated pjsip.conf in the place of the one that is there.

    returns  the one before; None: it is the same
    raises   OSError: it cannot be read or written, or was never rendered
    """
    before = (conf_dir / FOLDER / PJSIP_CONF).read_text()
    return before if write(conf_dir, {PJSIP_CONF: text}) else None


def write(conf_dir: Path, files: Mapping[str, str]) -> list[str]:
    """Put generated files in place, each by rename, and only those that changed. Returns their names."""
    folder = conf_dir / FOLDER
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    changed = []
    for name, text in files.items():
        target = folder / name
        if target.exists() and target.read_text() == text:
            continue
        part = folder / f".{name}.part"
        part.write_text(text)
        part.chmod(0o640)  # secrets stand in some
        part.replace(target)
        changed.append(name)
    bans = (
        folder / conf_users.BANS_CONF
    )  # the bridge's; the switch reads no pjsip.conf that includes a missing file
    if not bans.exists():
        bans.touch(mode=0o640)
    return changed


def check(settings: Settings, conf_dir: Path) -> list[Problem]:
    """What is missing before calls can be made with the switch configured in conf_dir."""
    found: list[Problem] = []
    if not settings.switch.emergency_trunk:
        fix = "Set switch.emergency_trunk to the name of a trunk that takes 110 and 112 (TKG §164)."
        found.append(Problem("emergency calls have no trunk", fix))
    found.extend(
        Problem(f"{FOLDER}/{name} is missing", "Run `callbridge conf render`.")
        for name in GENERATED
        if not (conf_dir / FOLDER / name).is_file()
    )
    pjsip = conf_dir / FOLDER / PJSIP_CONF
    if pjsip.is_file():
        known = conf_users.mistaken(settings, pjsip.read_text(errors="replace"))
        found.extend(Problem(f"{said}, {_AND_BROWSERS}", _NOT_SO) for said in known)
    if conf_users.switch_login(settings) is not None and not candidates.addresses():
        found.append(NO_CANDIDATE)
    for name, wanted in _includes():
        path = conf_dir / name
        text = path.read_text(errors="replace") if path.is_file() else ""
        if wanted not in text:
            found.append(
                Problem(f"{path} lacks {wanted!r}", f"Include or copy asterisk-conf/{name} of this version.")
            )
    if not settings.switch.record_dir.is_dir():
        fix = "Create it, writable by Asterisk's user and readable by the bridge's."
        found.append(Problem(f"switch.record_dir {settings.switch.record_dir} does not exist", fix))
    elif not os.access(settings.switch.record_dir, os.R_OK | os.X_OK):
        found.append(
            Problem(f"{settings.switch.record_dir} cannot be read", "Add the bridge's user to its group.")
        )
    messages = settings.messages.folder
    if not (messages.is_dir() and os.access(messages, os.R_OK | os.W_OK | os.X_OK)):
        fix = "Create it, writable by Asterisk's user and the bridge's: a common group, and `chmod 2770`."
        found.append(Problem(f"messages.folder {messages} does not exist, or is not writable", fix))
    return found


def install(conf_dir: Path) -> None:
    """Make a whole configuration folder of our own, as the sandbox needs one. Not for an operator's /etc/asterisk."""
    conf_dir.mkdir(parents=True, exist_ok=True)
    for source in sorted(ASTERISK_CONF.glob("*.conf")):
        (conf_dir / source.name).write_text(source.read_text())
    for name in _DEFAULTS:
        (conf_dir / name).write_text("; defaults\n")
    (conf_dir / "indications.conf").write_text(_INDICATIONS)


def _includes() -> list[tuple[str, str]]:
    return [
        ("extensions.conf", f'#include "{FOLDER}/globals.conf"'),
        ("extensions.conf", "[call-ended]"),
        ("extensions.conf", f"[{CLICK}]"),
        ("pjsip.conf", f'#include "{FOLDER}/pjsip.conf"'),
        ("pjsip.conf", "[trunk](!)"),
        ("pjsip.conf", f'#include "{FOLDER}/{conf_users.BANS_CONF}"'),
        ("sorcery.conf", "realtime,ps_endpoints"),
        ("extconfig.conf", f'#include "{FOLDER}/extconfig.conf"'),
        ("res_pgsql.conf", f'#include "{FOLDER}/res_pgsql.conf"'),
        ("http.conf", f'#include "{FOLDER}/http.conf"'),
        ("manager.conf", f'#include "{FOLDER}/manager.conf"'),
        ("cdr_custom.conf", CDR_FILE),
        ("cdr.conf", "endbeforehexten"),
    ]


def _globals(settings: Settings) -> str:
    failsafe = settings.failsafe
    values = (
        f"agi://{settings.agi.host}:{settings.agi.port}",
        settings.switch.record_dir / JOURNAL,
        settings.switch.emergency_trunk or "none",
        f"{failsafe.program},{failsafe.snapshot},{failsafe.key_file}",
        failsafe.concurrent_max,
        HANGUP_HANDLERS[settings.switch.call_ended],
        _folder(settings.messages.folder),
    )
    lines = [f"{name} = {value(name, given)}" for name, given in zip(GLOBALS, values, strict=True)]
    return "\n".join(["[globals]", *lines, ""])


def _folder(path: Path) -> Path:
    """It stands among the arguments of an application."""
    if set(str(path)) & set(",$|&"):
        raise ConfigError("messages.folder", "holds one of , $ | &", "Choose another folder.")
    return path


def _manager(settings: Settings) -> str:
    ami = settings.ami
    secret = ami.secret.get_secret_value()
    if len(secret) < SECRET_CHARS_MIN:
        fix = "Set one, e.g. from `openssl rand -hex 24`."
        raise ConfigError("ami.secret", f"is shorter than {SECRET_CHARS_MIN} characters", fix)
    return (
        f"port = {ami.port}\nbindaddr = {value('ami.host', ami.host)}\n\n[{value('ami.username', ami.username)}]\n"
        f"secret = {value('ami.secret', secret)}\n"
        "deny = 0.0.0.0/0.0.0.0\npermit = 127.0.0.1/255.255.255.255\n"
        "read = system,security\nwrite = system,call,config,reporting,originate\nwritetimeout = 1000\n"
    )


def _pjsip(settings: Settings, trunks: Iterable[Peer], apps: Iterable[App]) -> str:
    sip_host = value("switch.sip_host", settings.switch.sip_host)
    bind = f"bind = {sip_host}:{settings.switch.sip_port}\n"
    parts = [f"[udp]\ntype = transport\nprotocol = udp\n{bind}"]
    present = [peer for peer in trunks if peer.enabled or peer.name == settings.switch.emergency_trunk]
    if any(peer.transport == "tcp" for peer in present):
        parts.append(f"[tcp]\ntype = transport\nprotocol = tcp\n{bind}")
    if any(peer.kind == "whatsapp" for peer in present):
        parts.append(conf_whatsapp.transport(settings))
    parts += conf_users.transport(settings)
    parts += [
        conf_whatsapp.trunk(settings, peer) if peer.kind == "whatsapp" else _trunk(peer) for peer in present
    ]
    # Set on the channel before its first priority. A name may hold line feeds, and an AGI header is made of lines.
    handler = HANGUP_HANDLERS[settings.switch.call_ended]
    variables = f"set_var = CHANNEL(hangup_handler_push)={handler},s,1\nset_var = CALLERID(name)=\n"
    for app in apps:
        name = value("app.name", app.name)
        if app.sip_secret is None:
            parts.append(f"[{name}](app)\n{variables}")
        else:
            secret = value(f"app {name} sip_secret", app.sip_secret)
            parts.append(
                f"[{name}](app)\nauth = {name}\n{variables}\n"
                f"[{name}](app-auth)\nusername = {name}\npassword = {secret}\n"
            )
        match = value(f"app {name} sip_host", app.sip_host)
        parts.append(f"[{name}]\ntype = identify\nendpoint = {name}\nmatch = {match}\n")
    return "\n".join(parts)


def contact(peer: Peer) -> str:
    """Where the trunk's calls go, as a SIP URI."""
    return f"sip:{peer.host}:{peer.port}" + (
        f";transport={peer.transport}" if peer.transport != "udp" else ""
    )


def _trunk(peer: Peer) -> str:
    """The sections of one carrier. The only semicolon is ours, and escaped."""
    name = value("trunk.name", peer.name)
    value(f"trunk {name} host", f"{peer.host}:{peer.port}")
    codecs = ",".join(value(f"trunk {name} codecs", codec) for codec in peer.codecs)
    transport = value(f"trunk {name} transport", peer.transport)
    auth = f"outbound_auth = {name}\n" if peer.auth_username else ""
    asked = (
        f"qualify_frequency = {peer.qualify_s}\nqualify_timeout = {QUALIFY_TIMEOUT_S}\n"
        if peer.qualify_s
        else ""
    )
    lines = [
        f"[{name}](trunk)\naors = {name}\ntransport = {transport}\ndisallow = all\nallow = {codecs}\n{auth}",
        f"[{name}](trunk-aor)\ncontact = {contact(peer).replace(';', chr(92) + ';')}\n{asked}",
    ]
    if peer.auth_username:
        username = value(f"trunk {name} auth_username", peer.auth_username)
        secret = value(f"trunk {name} auth_secret", peer.auth_secret)
        lines.append(
            f"[{name}]\ntype = auth\nauth_type = userpass\nusername = {username}\npassword = {secret}\n"
        )
    if peer.allowed_ips:
        matches = "".join(
            f"match = {value(f'trunk {name} allowed_ips', each)}\n" for each in peer.allowed_ips
        )
        lines.append(f"[{name}]\ntype = identify\nendpoint = {name}\n{matches}")
    return "\n".join(lines)
