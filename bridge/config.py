"""Frozen settings: defaults < callbridge.toml < CALLBRIDGE__SECTION__KEY in the environment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from bridge.errors import ConfigError

Port = Annotated[int, Field(ge=1, le=65535)]
ENV_PREFIX = "CALLBRIDGE__"


def _networks(value: object) -> object:
    """From the environment: with commas between."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Section(BaseModel):
    """A group of settings that never changes after start."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Database(Section):
    dsn: SecretStr = SecretStr(
        ""
    )  # postgresql://user:password@host:port/name ; needed by everything but `conf`
    pool_max: int = Field(10, ge=1, le=100)  # connections a worker
    statement_timeout_s: float = Field(
        2.0, gt=0, le=60
    )  # a caller waits no longer than this for one statement


class Agi(Section):
    host: str = "127.0.0.1"
    port: Port = 4573
    deadline_s: float = Field(2.0, gt=0, le=10)  # from accept to answer
    sessions_max: int = Field(2000, ge=1)  # at the same time in one worker; more are refused at once


class Ami(Section):
    host: str = "127.0.0.1"
    port: Port = 5038
    username: str = "callbridge"
    secret: SecretStr = SecretStr("")


class Api(Section):
    host: str = "127.0.0.1"
    port: Port = 8080
    quota: int = Field(6000, ge=1)  # requests of one partner in a minute, at once or spread; by each worker
    stranger_quota: int = Field(60, ge=1)  # requests of one address in a minute without a valid key; the same


class Switch(Section):
    name: str = Field("switch1", pattern=r"^[a-z][a-z0-9_-]{0,30}$")  # Asterisk's systemname
    asterisk: str = ""  # the program; empty: on PATH
    conf_dir: Path = Path("/etc/asterisk")  # where `conf render` writes callbridge/*.conf
    record_dir: Path = Path("/var/log/asterisk/cdr-custom")  # the journal and the CDR file are written here
    sip_host: str = "127.0.0.1"
    sip_port: Port = 5060
    call_ended: Literal["journal", "agi"] = (
        "journal"  # how the end of a call comes first; the CDR file is the witness
    )
    emergency_trunk: str = ""  # name of the trunk for 110 and 112; `conf check` fails loudly without one


class Calls(Section):
    home_region: str = Field("DE", pattern=r"^[A-Z]{2}$")  # for numbers dialled without a country code
    slice_s: int = Field(120, ge=2, le=3600)  # talk time a hold pays for at first, and each extension adds
    slice_lead_s: float = Field(15.0, ge=0.5)  # an extension is asked for this long before the slice ends
    cut_margin_ms: int = Field(
        250, ge=50, le=900
    )  # the switch cuts this much before the money ends, never after
    talk_s_max: int = Field(4 * 3600, ge=60)  # no call is longer
    attempts_max: int = Field(3, ge=1, le=10)
    lease_grace_s: int = Field(60, ge=1)  # a lease outlives the latest possible end of its call by this
    originations_max: int = Field(50, ge=1, le=10_000)  # calls by order that a partner may have in flight
    order_s: int = Field(10, ge=2, le=60)  # an order that the switch could not be given by then is void
    witness_s: float = Field(5.0, gt=0)  # the CDR file is heard this long after the call's end
    wake_s: int = Field(12, ge=0, le=60)  # an app that is not registered is woken, and waited for so long
    app_ring_s: int = Field(45, ge=5, le=300)  # how long a subscriber's app may ring


class Pressure(Section):
    """What one worker takes on at most. Above it, new calls are refused before anything else suffers."""

    cps_max: int = Field(200, ge=1)  # admissions asked for in a second
    deciding_max: int = Field(100, ge=1)  # being decided at the same time
    live_max: int = Field(5000, ge=1)  # calls of the whole switch at the same time
    database_ms_max: int = Field(
        1000, ge=10
    )  # for a round trip to the database, waiting for a connection included


class Users(Section):
    """App users whose phones register at the switch, over WebSocket. Without `switch_dsn` there are none."""

    # As what the switch reads of them, and where: postgresql://callbridge_switch_NAME:PASSWORD@HOST:PORT/DATABASE
    switch_dsn: SecretStr = SecretStr("")
    ws_host: str = "127.0.0.1"  # Asterisk's HTTP server; TLS is the proxy's in front of it
    ws_port: Port = 8088
    credential_s: int = Field(3600, ge=60, le=86_400)  # so long a SIP password is good
    contacts_max: int = Field(3, ge=1, le=10)  # phones of one user at the same time
    ban_after: int = Field(20, ge=3)  # failed registrations of one address in a minute
    ban_s: int = Field(300, ge=10)  # so long it is not listened to then
    # Networks that are never banned, for many come from there: a WebSocket proxy. Users behind are locked out instead.
    spared: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)] = (
        IPv4Network("127.0.0.0/8"),
        IPv6Network("::1/128"),
    )


class Web(Section):
    """The browser phone."""

    # Where the page is, e.g. https://phone.example.com/phone; empty: http, api.host and api.port
    page_url: str = Field(
        "", max_length=200, pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9/._~-]*)?)?$"
    )
    # Where phones find the switch, e.g. wss://phone.example.com/ws; empty: users.ws_*
    sip_url: str = Field("", max_length=200, pattern=r"^(wss?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9/._~-]*)?)?$")
    sign_in_s: int = Field(600, ge=30, le=86_400)  # so long a sign-in link is good, once
    session_s: int = Field(12 * 3600, ge=300, le=30 * 86_400)


class Messages(Section):
    """Voice messages."""

    folder: Path = Path("/var/spool/callbridge/messages")  # Asterisk writes, the bridge reads
    message_s_max: int = Field(120, ge=5, le=600)
    keep_days: int = Field(30, ge=1, le=400)


class Whatsapp(Section):
    """WhatsApp Business calls: SIP over TLS with Meta. Needed once there is a trunk of kind whatsapp."""

    domain: str = Field(
        "", max_length=253, pattern=r"^([A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*)?$"
    )  # our SIP server's name as it was told to Meta; the certificate is for it
    tls_port: Port = 5061
    cert_file: str = ""  # with the chain; PEM
    key_file: str = ""
    ca_file: str = "/etc/ssl/certs/ca-certificates.crt"  # whom Meta's certificate is to be from
    challenge: bool = True  # Meta must prove itself by the password, too, not only by its address

    @property
    def missing(self) -> str | None:
        """The first setting without which there can be no such trunk; None: all are there."""
        wanted = {"domain": self.domain, "cert_file": self.cert_file, "key_file": self.key_file}
        return next((f"whatsapp.{key}" for key, text in wanted.items() if not text), None)


class Failsafe(Section):
    snapshot: Path = Path("/var/lib/callbridge/failsafe.json")
    key_file: Path = Path("/var/lib/callbridge/failsafe.key")  # signs the snapshot; made when missing
    program: str = "callbridge-failsafe"  # in Asterisk's astagidir, or its whole path
    refresh_s: float = Field(30.0, gt=0)
    age_s_max: int = Field(24 * 3600, ge=60)  # an older snapshot is not used
    limit_s: int = Field(600, ge=10)  # hard limit of a call admitted without the bridge
    concurrent_max: int = Field(20, ge=1)  # each costs the switch a fork


class Events(Section):
    """Webhooks and the stream of events."""

    # Networks a webhook may lead to although they are not public, and without TLS: for the sandbox and for tests
    allow_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)] = ()
    timeout_s: float = Field(20.0, gt=0, le=30)  # from looking up the name to the status of the answer
    concurrency: int = Field(64, ge=4, le=1000)  # messages under way at the same time in one worker
    disable_after_days: float = Field(5.0, gt=0)  # an endpoint that only fails for so long is told no more
    streams_max: int = Field(10, ge=1, le=1000)  # of one partner at the same time in one worker
    keep_days: int = Field(30, ge=4, le=400)  # events, and what became of their deliveries


class Company(Section):
    """Who we are, on invoices and in the names of files. Invoices are refused until what the law asks for is there."""

    code: str = Field("callbridge", pattern=r"^[A-Za-z0-9-]{1,20}$")  # the sender in the names of CDR files
    legal_name: str = Field("", max_length=100)
    street: str = Field("", max_length=100)
    postcode: str = Field("", max_length=20)
    city: str = Field("", max_length=60)
    country: str = Field("DE", pattern=r"^[A-Z]{2}$")
    vat_id: str = Field("", pattern=r"^([A-Z]{2}[A-Za-z0-9+*]{2,13})?$")
    tax_number: str = Field("", max_length=30)
    registration: str = Field("", max_length=60)  # e.g. HRB 12345, Amtsgericht Düsseldorf
    contact: str = Field("", max_length=100)
    phone: str = Field("", max_length=30)
    email: str = Field("", max_length=100)
    iban: str = Field("", max_length=42)
    bic: str = Field("", max_length=11)
    time_zone: str = "Europe/Berlin"  # in which days and months of statements, invoices and reports begin


class Exports(Section):
    """CDR files, and the work that is done apart from calls."""

    folder: Path = Path("/var/lib/callbridge/exports")  # files are made here, then delivered
    lag_s: int = Field(60, ge=5, le=86_400)  # a call is numbered so long after its end at the earliest
    sftp_key_file: str = ""  # our private key for SFTP servers, OpenSSH's format
    sftp_timeout_s: float = Field(20.0, gt=0, le=300)  # for one step with a server
    # Networks that files may be sent to although they are not public: a partner's server in a private network
    allow_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)] = ()
    extract_rows_max: int = Field(5_000_000, ge=1)  # of one extract that a partner asks for
    tap_schema: str = (
        ""  # an ASN.1 module with the TAP3 types, which its owner gives to whom it may; for format tap3
    )


class Invoices(Section):
    prefix: str = Field("CB-", pattern=r"^[A-Z0-9-]{0,10}$")  # before year and number
    due_days: int = Field(14, ge=0, le=365)  # where a partner's terms say nothing else
    vat_percent: str = Field("19", pattern=r"^[0-9]{1,2}(\.[0-9]{1,2})?$")  # the standard rate at home


class Closing(Section):
    """A month that closes by itself."""

    auto: bool = False
    day: int = Field(2, ge=1, le=28)  # of the next month, in company.time_zone
    author: str = Field("callbridge", min_length=1, max_length=100)  # who is noted in the books


class Bills(Section):
    """Itemised bills."""

    # Lines that counsel by telephone, beside those that are known: never recognisable on a bill (TDDDG § 11 (5))
    counselling: Annotated[tuple[str, ...], BeforeValidator(_networks)] = ()


class Retention(Section):
    """How long traffic data is kept (TDDDG §§9–12). A lawyer decides; these are upper bounds in use."""

    billing_months: int = Field(6, ge=1, le=6)  # after the end of the month it was billed for
    settlement_days: int = Field(
        80, ge=1, le=180
    )  # zero-rated and on-net calls, after the end of their month
    quality_days: int = Field(30, ge=1, le=180)  # calls that nobody answered, after their end
    # What is not exported or settled by then is held back so long at most; by a dispute, until it is decided
    hold_days_max: int = Field(31, ge=0, le=184)


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class Settings(Section):
    """The whole configuration of one bridge and its one switch."""

    database: Database = Database()
    agi: Agi = Agi()
    ami: Ami = Ami()
    api: Api = Api()
    switch: Switch = Switch()
    calls: Calls = Calls()
    pressure: Pressure = Pressure()
    users: Users = Users()
    web: Web = Web()
    messages: Messages = Messages()
    whatsapp: Whatsapp = Whatsapp()
    failsafe: Failsafe = Failsafe()
    events: Events = Events()
    company: Company = Company()
    exports: Exports = Exports()
    invoices: Invoices = Invoices()
    closing: Closing = Closing()
    bills: Bills = Bills()
    retention: Retention = Retention()
    log: Log = Log()

    @property
    def phones_url(self) -> str:
        """The WebSocket at which app users' phones register."""
        return self.web.sip_url or f"ws://{self.users.ws_host}:{self.users.ws_port}/ws"


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    path      the TOML file; None: $CALLBRIDGE_CONFIG, else ./callbridge.toml if it is there
    raises    ConfigError naming the key (as `section.key`) and the fix
    """
    environ = os.environ if environ is None else environ
    named = path or (Path(environ["CALLBRIDGE_CONFIG"]) if environ.get("CALLBRIDGE_CONFIG") else None)
    values = _read_toml(named or Path("callbridge.toml"), must_exist=named is not None)
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX):
            section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
            branch = values.setdefault(section, {})
            if not key or not isinstance(branch, dict):
                raise ConfigError(
                    name, "is no setting", f"Write {ENV_PREFIX}SECTION__KEY, e.g. {ENV_PREFIX}API__PORT."
                )
            branch[key] = text
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _as_config_error(error) from None


def require_dsn(settings: Settings) -> str:
    """The database address, or a ConfigError that says how to give one."""
    dsn = settings.database.dsn.get_secret_value()
    if not dsn:
        raise ConfigError(
            "database.dsn",
            "is empty",
            f"Set it in callbridge.toml or as {ENV_PREFIX}DATABASE__DSN=postgresql://user:password@host/name.",
        )
    return dsn


def _read_toml(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(str(path), "does not exist", "Give the path of a callbridge.toml.") from None
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            str(path), f"cannot be read ({error})", "Correct the file; see docs/operators.md."
        ) from None


def _as_config_error(error: ValidationError) -> ConfigError:
    first = error.errors(include_input=False, include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        model: type[BaseModel] = Settings
        for part in first["loc"][:-1]:
            inner = model.model_fields[str(part)].annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
        return ConfigError(key, "is no setting", f"Known here: {', '.join(sorted(model.model_fields))}.")
    return ConfigError(key, first["msg"].lower(), "See docs/operators.md for its range and default.")
