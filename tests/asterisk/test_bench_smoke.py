"""Every figure of `callbridge bench` can be measured here. Whether a number is good is for the bench itself to say."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.sandbox.bench import FIGURES, run

SHAPE = {
    "name": str,
    "value": int | float,
    "unit": str,
    "baseline": str,
    "baseline_value": int | float,
    "ratio": int | float,
    "goal": float | None,
    "n": int,
}


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch, quick_dir: Path) -> None:
    """Figures mean nothing here, so nothing need reach a disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(quick_dir))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_stands_beside_its_baseline(name: str) -> None:
    figures = list(run([name], smoke=True))
    assert figures[0]["name"] == name
    for figure in figures:
        assert figure["name"].startswith(name)
        wrong = {key: figure.get(key) for key, kind in SHAPE.items() if not isinstance(figure.get(key), kind)}
        assert not wrong
        assert figure["value"] > 0 or name == "added_pdd"  # a difference
        assert figure["baseline_value"] > 0
        assert figure["n"] > 0


def test_an_unknown_figure_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="bridged_cps"):
        list(run(["bridged_cps", "nonsense"], smoke=True))
