"""Guides that are run as they are written: their commands, one shell for all of them, and a house of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
BIN: Final = Path(sys.executable).parent
SHELL: Final = ("bash", "-eu", "-o", "pipefail")


def blocks(guide: str) -> list[str]:
    """A guide's commands; the last ones end the house."""
    text = (DOCS / guide).read_text(encoding="utf-8")
    return re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def own_house(folder: Path) -> dict[str, str]:
    """An environment in which `callbridge up` starts another house than anybody's, and nothing is set."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("CALLBRIDGE_")}
    return given | {"XDG_STATE_HOME": str(folder / "state"), "PATH": f"{BIN}:{os.environ['PATH']}"}


def shell(script: str, folder: Path, environ: dict[str, str], **more: str) -> str:
    ran = subprocess.run(
        SHELL, input=script, cwd=folder, env=environ | more, text=True, capture_output=True, check=False, timeout=250
    )  # fmt: skip
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout


def down(environ: dict[str, str]) -> None:
    subprocess.run(("callbridge", "down"), env=environ, check=False, capture_output=True, timeout=60)
