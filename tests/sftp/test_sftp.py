"""Files to a real SFTP server that breaks in every way: run again, each is there once, whole, the manifest last."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import asyncssh
import pytest

from bridge.config import Exports
from bridge.errors import ConfigError, Invalid
from bridge.exports.sftp import BLOCK_BYTES, DeliveryFailed, send
from tests.sftp.conftest import SIZE
from tests.sftp.server import Stage


async def in_the_end(partner: Stage) -> None:
    """Run again, all is there: each once, whole, nothing else, the manifest last; and once more changes nothing."""
    await partner.deliver()
    assert partner.there() == partner.wanted()
    names = [path.name for path in partner.files]
    assert partner.trouble.renamed == names
    written = partner.trouble.written
    await partner.deliver()
    assert partner.trouble.written == written
    assert partner.there() == partner.wanted()


async def test_files_arrive_in_order_and_whole(partner: Stage) -> None:
    await in_the_end(partner)
    assert partner.trouble.synced == 3
    assert partner.asked == ["sftp.partner.example"] * 2


async def test_a_server_without_extensions_does_too(partner: Stage) -> None:
    partner.trouble.plain = True
    await in_the_end(partner)
    assert partner.trouble.synced == 0


@pytest.mark.parametrize("at", [0, 1, 300_000, BLOCK_BYTES * 3, SIZE - 1, SIZE + 5])
async def test_a_connection_that_breaks_is_gone_on_with(partner: Stage, at: int) -> None:
    partner.trouble.drop_at = at
    with pytest.raises(DeliveryFailed, match="connection was lost"):
        await partner.deliver()
    assert not any(name.endswith(".json") for name in partner.there())
    before = partner.trouble.written
    await in_the_end(partner)
    resent = partner.trouble.written - before
    total = sum(map(len, partner.wanted().values()))
    assert resent <= total - at // BLOCK_BYTES * BLOCK_BYTES, "whole blocks that are there are not sent again"


async def test_a_part_of_another_file_is_begun_again(partner: Stage) -> None:
    part = partner.folder / (partner.files[0].name + ".part")
    for content in (b"x" * 500_000, b"x" * (SIZE + 10), b""):
        part.write_bytes(content)
        for path in partner.folder.iterdir():
            if path != part:
                path.unlink()
        partner.trouble.renamed.clear()
        await partner.deliver()
        assert partner.there() == partner.wanted()


async def test_a_full_disk_is_told_and_gone_on_with(partner: Stage) -> None:
    partner.trouble.room = 600_000
    for _ in range(2):
        with pytest.raises(
            DeliveryFailed, match=r"sftp\.partner\.example: writing .*\.part was refused: No space left"
        ):
            await partner.deliver()
    assert list(partner.there()) == [partner.files[0].name + ".part"]
    partner.trouble.room = None
    await in_the_end(partner)


@pytest.mark.parametrize("plain", [False, True])
async def test_a_refused_rename_leaves_the_part(partner: Stage, plain: bool) -> None:
    partner.trouble.rename, partner.trouble.plain = "refused", plain
    with pytest.raises(DeliveryFailed, match=r"renaming .* was refused: no renaming here"):
        await partner.deliver()
    name = partner.files[0].name
    assert partner.there() == {name + ".part": partner.files[0].read_bytes()}
    partner.trouble.rename = ""
    written = partner.trouble.written
    await in_the_end(partner)
    assert partner.trouble.written - written < 1000, "what is there whole is not sent again"


@pytest.mark.parametrize("of", [".csv.gz", ".sha256", ".json"])
async def test_dying_between_a_rename_and_its_answer_leaves_no_second(partner: Stage, of: str) -> None:
    partner.trouble.rename, partner.trouble.rename_of = "unanswered", of
    with pytest.raises(DeliveryFailed, match="connection was lost"):
        await partner.deliver()
    await in_the_end(partner)


async def test_a_slow_server_is_given_up_and_gone_on_with(partner: Stage) -> None:
    partner.trouble.hangs = True
    with pytest.raises(DeliveryFailed, match=r"no answer within 0\.2 s"):
        await partner.deliver(sftp_timeout_s=0.2)
    partner.trouble.hangs = False
    partner.trouble.released.set()
    await in_the_end(partner)


async def test_a_server_that_trickles_is_given_up(partner: Stage) -> None:
    """Each answer comes in time, and all of them would take days."""
    partner.trouble.trickles = True
    with pytest.raises(DeliveryFailed, match=r"reading .*: 262144 bytes took longer than 0\.5 s"):
        await partner.deliver(sftp_timeout_s=0.5)
    assert not any(name.endswith(".json") for name in partner.there())
    partner.trouble.trickles = False
    await in_the_end(partner)


@pytest.mark.parametrize("off", [-1, 1, 10_000_000])
async def test_wrong_sizes_are_not_believed(partner: Stage, off: int) -> None:
    partner.trouble.size_off = off
    with pytest.raises(DeliveryFailed, match=r"not there as it should be|other content"):
        await partner.deliver()
    assert not any(name.endswith(".json") for name in partner.there())
    partner.trouble.size_off = 0
    await in_the_end(partner)


async def test_bytes_that_were_not_kept_are_found_before_the_rename(partner: Stage) -> None:
    partner.trouble.forgets = True
    with pytest.raises(DeliveryFailed, match="not what was sent"):
        await partner.deliver()
    assert partner.trouble.renamed == []
    partner.trouble.forgets = False
    await in_the_end(partner)


async def test_another_file_of_the_name_is_left_alone(partner: Stage) -> None:
    there = partner.folder / partner.files[0].name
    for content in (b"theirs", b"x" * SIZE):
        there.write_bytes(content)
        with pytest.raises(DeliveryFailed, match="is there already, with other content"):
            await partner.deliver()
        assert there.read_bytes() == content
    there.unlink()
    await in_the_end(partner)


async def test_who_does_not_let_us_read_is_told_why_nothing_is_renamed(partner: Stage) -> None:
    partner.trouble.unreadable = True
    with pytest.raises(DeliveryFailed, match=r"cannot be read.*go \[31m away") as caught:
        await partner.deliver()
    assert str(caught.value).isprintable()
    partner.trouble.unreadable = False
    await in_the_end(partner)


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
async def test_a_changed_host_key_ends_it(partner: Stage, kind: str) -> None:
    other = asyncssh.generate_private_key(kind).export_public_key().decode().strip()
    partner.target = replace(partner.target, host_key=other)
    with pytest.raises(
        DeliveryFailed, match=r"host key is not the one in target\.host_key\. Nothing was sent"
    ):
        await partner.deliver()
    assert partner.there() == {}


async def test_nobodys_agent_password_or_known_host_is_used(
    partner: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Our key is not let in: that is the end of it, whatever whoever runs us has."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519").symlink_to(partner.settings.sftp_key_file)
    (home / ".ssh" / "config").write_text("Host *\n  HostName 127.0.0.2\n  ProxyCommand false\n")
    monkeypatch.setenv("HOME", str(home))
    stranger = home / "stranger"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(stranger))
    with pytest.raises(DeliveryFailed, match="does not let user callbridge in with our key"):
        await partner.deliver(sftp_key_file=str(stranger))
    assert partner.there() == {}
    await in_the_end(partner)


async def test_a_key_that_is_not_there_is_named(
    partner: Stage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    locked = folder / "locked"
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    key.write_private_key(str(locked), "pkcs8-pem", passphrase="x" * 12)
    (folder / "none").write_text("no key")
    for file in ("", str(folder / "missing"), str(folder / "none"), str(locked)):
        with pytest.raises(ConfigError, match=r"^exports\.sftp_key_file: "):
            await partner.deliver(sftp_key_file=file)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"])
async def test_our_own_networks_are_not_reached(partner: Stage, address: str) -> None:
    async def names(host: str) -> list[str]:
        return [address]

    settings = partner.settings.model_copy(update={"allow_networks": (IPv4Network("192.168.7.0/24"),)})
    with pytest.raises(DeliveryFailed, match=r"no public address.*exports\.allow_networks"):
        await send(settings, partner.target, partner.files, names)
    assert partner.there() == {}


async def test_nobody_there_is_told(partner: Stage, unused_tcp_port: int) -> None:
    partner.target = replace(partner.target, port=unused_tcp_port)
    with pytest.raises(DeliveryFailed, match="no connection"):
        await partner.deliver()


async def test_no_name_leads_elsewhere(partner: Stage) -> None:
    for name in ("..", "a\nb", "x.part", ".hidden", "-rf"):
        path = partner.files[0].with_name(name)
        with pytest.raises(Invalid):
            await send(Exports(), partner.target, [path])
