from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from bridge.database import Connection
from bridge.partners.store import add_partner
from bridge.sandbox.certificates import Authority
from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.meta import Business, Meta
from bridge.sandbox.ports import LOOPBACK, free_ports
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.stack import Stack
from tests.asterisk.onnet.users import Users, users_of
from tests.asterisk.scene import Scene, World
from tests.whatsapp import BUSINESS, SECRET, add_business

OTHER: Final = "+493087654321"  # of which Meta has another password
# Metas that are asked to call a user: the digest's algorithm, the password they know, and what certificate they show.
METAS: Final = {
    "md5": ("MD5", SECRET, "right"),
    "sha": ("SHA-256", SECRET, "right"),
    "password": ("SHA-256", SECRET + "x", "right"),
    "stranger": ("SHA-256", SECRET, "of another authority"),
    "renamed": ("SHA-256", SECRET, "for another name"),
}


def digits_of(name: str) -> str:
    """The business number of each of these, without its plus."""
    return str(int(BUSINESS) + 1 + list(METAS).index(name))


class WhatsappWorld(World):
    """The usual one, with business numbers."""

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self.tls_port, self.meta_port, *ports = free_ports(2 + len(METAS))
        self.metas = dict(zip(METAS, ports, strict=True))
        self.authority = authority

    async def seed(self, conn: Connection) -> None:
        await super().seed(conn)
        await add_business(conn, host=LOOPBACK, port=self.meta_port)
        for name, port in self.metas.items():
            await add_business(conn, name, f"+{digits_of(name)}", host=LOOPBACK, port=port)
        await add_partner(conn, "owner", "EUR")  # of the numbers
        await add_business(conn, "other", OTHER, host=LOOPBACK, port=self.meta_port)

    @property
    def overrides(self) -> dict[str, dict[str, Any]]:
        ours = self.authority.issue(LOOPBACK)
        given = {
            "domain": LOOPBACK,
            "tls_port": self.tls_port,
            "cert_file": str(ours.cert_file),
            "key_file": str(ours.key_file),
            "ca_file": str(self.authority.ca_file),
        }
        return {**super().overrides, "whatsapp": given}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def world(authority: Authority) -> WhatsappWorld:
    return WhatsappWorld(authority)


@pytest.fixture(scope="session")
def stack(
    install: AsteriskInstall,
    postgres: EmbeddedPostgres,
    world: WhatsappWorld,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    root = tmp_path_factory.mktemp("whatsapp")
    with Stack(root, install, postgres, database="whatsapp", overrides=world.overrides) as made:
        made.prepare(world.seed)
        made.start()
        yield made


@pytest.fixture(scope="session")
def meta_runs(
    install: AsteriskInstall,
    world: WhatsappWorld,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Meta]:
    server = f"{LOOPBACK}:{world.tls_port}"
    with Meta(
        install,
        tmp_path_factory.mktemp("meta"),
        port=world.meta_port,
        businesses=(Business(BUSINESS[1:], SECRET, server), Business(OTHER[1:], SECRET + "x", server)),
        certificate=authority.issue("meta.test"),
        ca_file=authority.ca_file,
    ) as made:
        yield made


@pytest.fixture
def meta(meta_runs: Meta) -> Meta:
    meta_runs.forget()
    return meta_runs


@pytest.fixture
def users(scene: Scene) -> Iterator[Users]:
    with users_of(scene) as made:
        yield made
