"""A client that openapi-python-client makes of the committed description."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DESCRIPTION = HERE.parent / "docs" / "openapi.json"
PACKAGE = "callbridge_client"


@contextmanager
def generated(folder: Path) -> Iterator[Any]:
    """A function that imports a module of the client."""
    argv: list[str | Path] = [
        Path(sys.executable).with_name("openapi-python-client"), "generate", "--path", DESCRIPTION,
        "--config", HERE / "generated.yaml", "--meta", "none", "--output-path", folder / PACKAGE, "--fail-on-warning",
    ]  # fmt: skip
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=folder, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "arning" not in ran.stdout + ran.stderr
    sys.path.insert(0, str(folder))
    invalidate_caches()
    try:
        yield lambda name: import_module(f"{PACKAGE}.{name}")
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
