"""The command line as a person meets it: mistakes end with one line that names the fix, and with the right code."""

import json
import socket
import subprocess
import sys

import pytest


def callbridge(tmp_path, *words: str, config: str = "") -> subprocess.CompletedProcess[str]:
    (tmp_path / "callbridge.toml").write_text(config)
    argv = (sys.executable, "-m", "bridge", *words)
    return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("config", "words", "says"),
    [
        (
            "[api]\nprot = 1",
            ("migrate",),
            "api.prot: is no setting. Known here: host, port, quota, stranger_quota.",
        ),
        ("", ("migrate",), "database.dsn: is empty"),
        ("[database]\ndsn = 'postgresql://h/d'\n[calls]\nslice_s = 1", ("serve",), "calls.slice_s"),
        ("", ("serve", "--config", "none.toml"), "none.toml: does not exist"),
    ],
)
def test_a_mistake_in_the_settings_exits_2_and_names_key_and_fix(tmp_path, config, words, says):
    ran = callbridge(tmp_path, *words, config=config)
    assert ran.returncode == 2
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("key", ["agi", "api"])
def test_a_port_in_use_says_which(tmp_path, key):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = callbridge(tmp_path, "serve", config=f"[{key}]\nport = {port}\n")
    assert ran.returncode == 2
    assert f"{key}.port: 127.0.0.1:{port} cannot be used" in ran.stderr


def test_a_database_that_is_not_there_exits_1(tmp_path):
    ran = callbridge(tmp_path, "migrate", config="[database]\ndsn = 'postgresql://u@127.0.0.1:1/d'")
    assert ran.returncode == 1
    assert "the database cannot be reached" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_conf_check_tells_people_and_programs(tmp_path):
    config = f"[switch]\nconf_dir = '{tmp_path}'\nrecord_dir = '{tmp_path}/none'"
    people = callbridge(tmp_path, "conf", "check", config=config)
    assert people.returncode == 1
    assert "emergency calls have no trunk" in people.stdout
    told = callbridge(tmp_path, "conf", "check", "--json", config=config)
    assert {"problem", "fix"} == set(json.loads(told.stdout)[0])


def test_a_figure_nobody_measures_is_refused_with_those_there_are(tmp_path):
    ran = callbridge(tmp_path, "bench", "nothing", "--smoke")
    assert ran.returncode == 2
    assert "admit_settle" in ran.stderr


def test_down_without_up_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ran = callbridge(tmp_path, "down")
    assert (ran.returncode, ran.stdout.strip()) == (0, "nothing is running")


def test_help_waits_for_nothing_heavy():
    """Whatever a command needs to draw, to write or to reach a database is imported when it runs."""
    heavy = {
        "asyncpg", "asyncssh", "drafthorse", "fastapi", "lxml", "matplotlib", "numpy", "openpyxl", "pyarrow", "pypdf",
        "structlog", "typst",
    }  # fmt: skip
    said = f"import sys, bridge.cli.main; print(*({heavy!r} & set(sys.modules)))"
    ran = subprocess.run((sys.executable, "-c", said), capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == []
