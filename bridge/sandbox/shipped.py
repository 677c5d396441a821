"""The plans that come with the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bridge.rating.plan_file import PlanFile, parse_plan

PLANS: Final = Path(__file__).parent / "plans"


def shipped_plans() -> Iterator[PlanFile]:
    for path in sorted(PLANS.glob("*.toml")):
        yield parse_plan(path.read_text(encoding="utf-8"), path.name)
