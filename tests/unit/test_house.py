"""The house's own rules, where no tool checks them: sizes, names, who speaks SQL, what stands at the top."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[2]
BRIDGE = HOUSE / "bridge"
MODULES = sorted(BRIDGE.rglob("*.py"))
QUERIES = sorted((HOUSE / "sql" / "queries").glob("*.sql"))
# Ours, and text: what a reader of the repository meets
FOLDERS = (".ci", "asterisk-conf", "bridge", "docs", "sql", "tests")
TOP = {"README.md", "pyproject.toml", "Makefile", "LICENSE", "CHANGELOG.md", *FOLDERS}
MADE = {"build", "dist"}

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
DIALPLAN_LINES_MAX = 120
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "manager", "common", "data", "misc"}
RULE_ROOMS = ("telephony", "rating", "routing", "rollout", "fraud")
SHELLS = {"store", "__init__"}
SPEAKERS = {BRIDGE / "database.py", BRIDGE / "migrate.py"}
SQL = re.compile(
    r"^\s*(SELECT\s(?!1$)|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|MERGE\s+INTO\s|WITH\s+\w+\s+AS\s)"
)
# Addresses of package registries and mirrors, told by how such hosts are called; .example is nobody's
REGISTRY = re.compile(
    r"https?://(?=[\w.-]*\b(?:pypi|npm|registry|mirrors?|deb|apt|archive|snapshot|proxy|files)\b)(?![\w.-]*\.example\b)"
)


def where(path: Path) -> str:
    return str(path.relative_to(HOUSE))


def is_shell(path: Path) -> bool:
    """A room's store is a module, or a package where there is much to keep."""
    return path.stem in SHELLS or path.parent.name == "store"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def texts() -> Iterator[Path]:
    """Every text file of the house."""
    inside = chain.from_iterable((HOUSE / folder).rglob("*") for folder in FOLDERS)
    for path in chain(inside, (HOUSE / name for name in TOP)):
        if path.is_file() and "__pycache__" not in path.parts and b"\0" not in path.read_bytes()[:8192]:
            yield path


def documentation(tree: ast.Module) -> set[ast.expr]:
    """Strings that stand alone: docstrings of modules, classes, functions and attributes."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_files_are_short() -> None:
    long = {where(path): len(lines_of(path)) for path in MODULES if len(lines_of(path)) > FILE_LINES_MAX}
    assert not long, f"over {FILE_LINES_MAX} lines"


def test_functions_are_short() -> None:
    long = [
        f"{where(path)}:{node.lineno} {node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert not long, f"over {FUNCTION_LINES_MAX} lines"


def test_rooms_and_files_are_named_after_what_they_do() -> None:
    names = (part for path in MODULES for part in path.relative_to(HOUSE).with_suffix("").parts)
    assert not NAMES_THAT_SAY_NOTHING & set(names)


def test_nothing_new_stands_at_the_top() -> None:
    present = {path.name for path in HOUSE.iterdir() if not path.name.startswith(".") or path.name in TOP}
    assert present <= TOP | MADE, "give the reason in docs/decisions/ first"


def test_only_stores_speak_sql() -> None:
    spoken = []
    for path in MODULES:
        if is_shell(path) or path in SPEAKERS or path.parent == BRIDGE / "sandbox":
            continue
        tree = tree_of(path)
        prose = documentation(tree)
        spoken += [
            f"{where(path)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose
            if SQL.match(node.value)
        ]
    assert not spoken, "a query belongs into sql/queries/, its call into the room's store.py"


def test_no_rule_imports_a_store() -> None:
    """import-linter lets stores reach the database, so the way round it through a store is closed here."""
    rules = [path for room in RULE_ROOMS for path in (BRIDGE / room).rglob("*.py") if not is_shell(path)]
    guilty = [
        f"{where(path)}: {name}"
        for path in rules
        for name in imports(tree_of(path))
        if name.startswith("bridge.") and "store" in name.split(".")
    ]
    assert rules
    assert not guilty


def test_every_rule_room_is_under_the_contract() -> None:
    contracts = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    pure = next(contract for contract in contracts if contract["id"] == "pure")
    assert set(pure["source_modules"]) == {
        f"bridge.{room}" for room in RULE_ROOMS if (BRIDGE / room).is_dir()
    }


def test_every_query_has_a_name_of_its_own_and_is_used() -> None:
    program = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    names = [
        (path.stem, name)
        for path in QUERIES
        for name in re.findall(r"^-- name: *(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert names
    assert len(names) == len(set(names))
    asked = set(re.findall(r"""[."'](\w+)""", program))
    unused = [f"{room}.{name}" for room, name in names if name not in asked]
    assert not unused, "a query nobody asks"


def test_sql_functions_carry_their_version() -> None:
    schema = (HOUSE / "sql" / "schema.sql").read_text(encoding="utf-8")
    functions = re.findall(r"CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE) ([\w.]+)", schema)
    assert functions
    assert [name for name in functions if not re.search(r"_v\d+$", name)] == []


def test_the_dialplan_fits_on_a_page() -> None:
    assert len(lines_of(HOUSE / "asterisk-conf" / "extensions.conf")) < DIALPLAN_LINES_MAX


@pytest.mark.parametrize(
    "lock", sorted((HOUSE / ".ci").glob("requirements*.txt")), ids=lambda lock: lock.name
)
def test_locks_pin_by_hash_and_name_no_address(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE), "an option of pip's names a place"
    pinned = re.findall(r"^([\w.-]+)==.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+", text, re.MULTILINE)
    named = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(pinned) == len(named) > 0


def test_no_registry_is_named() -> None:
    named = [
        where(path) for path in texts() if REGISTRY.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not named, "packages come from wherever the machine's own configuration says"


def test_no_unfinished_work_is_announced() -> None:
    """Python files are ruff's; this reads the others."""
    promise = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
    found = [
        f"{where(path)}:{number}"
        for path in texts()
        if path.suffix in {".sql", ".conf", ".md", ".html", ".js", ".css"}
        for number, line in enumerate(lines_of(path), 1)
        if promise.search(line)
    ]
    assert not found
