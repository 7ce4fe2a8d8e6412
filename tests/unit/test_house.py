"""The rules of the house that no linter knows: sizes, names, a quick CLI, a README that names it all."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer.main
import yaml

import workers.cli
from workers.settings import environment_names

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("scoring", "db", "workers", "migrations")
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MAX_LINES = 350
MAX_HELP_CPU_S = 0.5

_HELP = """
import json, sys, time
sys.argv = ["scorefold", "--help"]
from workers.cli import main
code = 0
try:
    main()
except SystemExit as stop:
    code = stop.code
told = {"code": code, "cpu_s": time.process_time(), "modules": sorted(sys.modules)}
print(json.dumps(told), file=sys.stderr)
"""


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked_files() -> list[Path]:
    """The files that git keeps; whoever owns the checkout."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no git checkout")
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def test_import_contracts_are_kept() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_stay_small() -> None:
    num_lines = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert num_lines
    assert {name: lines for name, lines in num_lines.items() if lines > MAX_LINES} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        named(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_no_room_for_odds_and_ends() -> None:
    assert {path.stem for path in MODULES} & {"utils", "util", "common", "helpers", "misc"} == set()


def machine_paths() -> re.Pattern[str]:
    """Home folders of any developer, and where this very checkout lies."""
    places = [r"/home/\w+/", r"/Users/\w+/", r"[A-Z]:\\+Users\\+\w+", re.escape(f"{ROOT.as_posix()}/")]
    if ROOT.parent != Path(tempfile.gettempdir()) and ROOT.parent != Path("/"):
        places.append(re.escape(f"{ROOT.parent.as_posix()}/"))
    return re.compile("|".join(rf"(?<![\w.~$}}/]){place}" for place in places))


@pytest.mark.parametrize(
    "text", ["see /home/ada/notes", "'/Users/ada/x'", r"C:\Users\ada", f"={ROOT}/pyproject.toml"]
)
def test_machine_paths_are_recognised(text: str) -> None:
    assert machine_paths().search(text)


@pytest.mark.parametrize("text", ["https://example.org/home/ada/", "$ROOT/home/ada/", "a/Users/of/this"])
def test_other_paths_are_left_alone(text: str) -> None:
    assert not machine_paths().search(text)


def test_no_tracked_file_names_a_place_on_somebodys_machine() -> None:
    pattern, here = machine_paths(), Path(__file__).resolve()
    found = []
    for path in tracked_files():
        if path == here:
            continue  # the examples above
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{named(path)}:{number}: {line.strip()}")
    assert found == []


def help_run() -> dict:
    done = subprocess.run([sys.executable, "-c", _HELP], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    return json.loads(done.stderr.splitlines()[-1])


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    """The least of three runs: what the command itself needs, not what else the machine was doing."""
    runs = [help_run() for _ in range(3)]
    assert {run["code"] for run in runs} == {0}
    loaded = {module.split(".")[0] for run in runs for module in run["modules"]}
    assert loaded & {"torch", "transformers", "peft", "sqlalchemy", "sqlmodel", "sklearn", "scipy"} == set()
    assert min(run["cpu_s"] for run in runs) < MAX_HELP_CPU_S


def verbs() -> Iterator[str]:
    """Every command of the CLI as it is typed, such as "scorefold items load"."""
    for module in pkgutil.iter_modules(workers.cli.__path__, "workers.cli."):
        importlib.import_module(module.name)  # each adds its verbs

    def walk(command: object, typed: str) -> Iterator[str]:
        below = getattr(command, "commands", None)
        if below is None:
            yield typed
            return
        for name, child in below.items():
            if not child.hidden:
                yield from walk(child, f"{typed} {name}")

    return walk(typer.main.get_command(workers.cli.app), "scorefold")


def test_readme_names_every_verb() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    typed = list(verbs())
    assert "scorefold demo" in typed
    assert [verb for verb in typed if not re.search(rf"{re.escape(verb)}\b", readme)] == []


def test_containers_run_verbs_that_exist() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    ours = [service for service in services.values() if "scorefold" in service["image"]]
    used = {service["command"][0] for service in ours}
    used |= {service["healthcheck"]["test"][2] for service in ours if "healthcheck" in service}
    dockerfile = (ROOT / "workers" / "Dockerfile").read_text(encoding="utf-8")
    used |= set(re.findall(r'^CMD \["(\w+)"\]', dockerfile, re.MULTILINE))
    assert used == {"migrate", "worker", "beat", "health"}
    assert {f"scorefold {verb}" for verb in used} <= set(verbs())


def test_readme_names_every_setting() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = environment_names()
    assert "SCOREFOLD_DATABASE__URL" in names
    assert [name for name in names if not re.search(rf"\b{name}\b", readme)] == []
