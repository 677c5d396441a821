"""Keys are made once: an Ed25519 key of ours and one of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from tests.sftp.server import Stage, stage

SIZE = 1_200_000  # four blocks and a part of one


@pytest.fixture(scope="session")
def keys() -> tuple[asyncssh.SSHKey, asyncssh.SSHKey]:
    return asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
async def partner(tmp_path: Path, keys: tuple[asyncssh.SSHKey, asyncssh.SSHKey]) -> AsyncIterator[Stage]:
    async with stage(tmp_path, SIZE, *keys) as made:
        yield made
