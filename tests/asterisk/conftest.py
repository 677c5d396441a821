"""The real switch with the bridge beside it, once for the run, and a scene of its own for each test."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from bridge.asterisk import conf
from bridge.asterisk.ami import AmiSettings
from bridge.sandbox.fetch import AsteriskInstall
from bridge.sandbox.ports import free_ports
from bridge.sandbox.postgres import EmbeddedPostgres
from bridge.sandbox.stack import Stack
from bridge.sandbox.switch import Switch
from tests.asterisk.scene import Scene, World

AMI_USER = "tests"


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def stack(
    install: AsteriskInstall,
    postgres: EmbeddedPostgres,
    world: World,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """One bridge and its switch for all scenarios; fresh subscribers keep them apart."""
    root = tmp_path_factory.mktemp("stack")
    with Stack(root, install, postgres, database="scenarios", overrides=world.overrides) as made:
        made.prepare(world.seed)
        made.start()
        yield made


@pytest.fixture
def scene(stack: Stack, world: World, sipp: tuple[str, ...], tmp_path: Path) -> Iterator[Scene]:
    made = Scene(stack, world, sipp, tmp_path)
    yield made
    made.close()
    made.wait_quiet()
    made.prove_books()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A scenario that fails shows what bridge, switch and SIPp said."""
    report = yield
    scene = getattr(item, "funcargs", {}).get("scene")
    if report.failed and isinstance(scene, Scene):
        report.sections += scene.report()
    return report


class PlainSwitch(Switch):
    """A switch without a bridge, and a manager user that hears of calls."""

    def __init__(self, install: AsteriskInstall, root: Path) -> None:
        super().__init__(install, root / "switch", root / "etc")
        self.ami_settings = AmiSettings(
            "127.0.0.1", free_ports(1)[0], AMI_USER, secrets.token_hex(16), events="system,call"
        )
        conf.install(self.conf_dir)
        ami = self.ami_settings
        (self.conf_dir / "extensions.conf").write_text("[globals]\n")
        for name in ("pjsip.conf", "extconfig.conf"):
            (self.conf_dir / name).write_text("")
        (self.conf_dir / "manager.conf").write_text(
            f"[general]\nenabled = yes\nport = {ami.port}\nbindaddr = {ami.host}\n\n"
            f"[{ami.username}]\nsecret = {ami.secret}\n"
            "read = system,call\nwrite = system,call,config,reporting,originate\nwritetimeout = 1000\n"
        )


@pytest.fixture(scope="module")
def switch(install: AsteriskInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainSwitch]:
    with PlainSwitch(install, tmp_path_factory.mktemp("plain")) as made:
        yield made
