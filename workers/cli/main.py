"""Puts the verbs together, and turns every foreseen error into one line and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from itertools import combinations
from typing import TYPE_CHECKING, NoReturn

import typer

from scoring.errors import FatalError, InvalidInputError, ScorefoldError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

app = typer.Typer(
    name="scorefold",
    help=(
        "Score short student answers with one shared encoder and a small adapter per item.\n\n"
        "First steps: `scorefold demo`; or `up`, `items load`, `train`, `worker` and `submit`."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich takes longer than the whole of `--help` may
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused, 2 wrong usage, 3 done but some rows were refused,"
    " 69 a server of ours cannot start, 75 a server does not answer (try again), 78 wrong settings.",
)

_TRY_AGAIN = 75

#: Rooms that hold verbs, in the order in which `--help` shows them.
_ROOMS = (
    "demo",
    "services",
    "doctor",
    "items",
    "pretrain",
    "training",
    "processes",
    "flow",
    "watch",
    "export",
    "reads",
    "report",
    "privacy",
    "models",
    "evaluate",
    "retrain",
    "merges",
    "merges_whole",
    "quarantine",
    "reconcile",
    "stream",
)


def add_verbs() -> None:
    """Bring the verbs in."""
    for room in _ROOMS:
        import_module(f"workers.cli.{room}")


def main() -> None:
    """Run one verb."""
    add_verbs()

    try:
        app()
    except ScorefoldError as error:
        _refuse(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not type(error).__module__.startswith("sqlalchemy"):
            raise
        _refuse(_of_database(error))


def _refuse(error: ScorefoldError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)  # noqa: T201
    sys.exit(exit_code(error))


def _of_database(error: Exception) -> ScorefoldError:
    """The database's error as ours; one that is a fault of the program is raised again."""
    from workers.writer import database_errors  # brings numpy and the database in

    try:
        with database_errors():
            raise error
    except ScorefoldError as ours:
        return ours


def exit_code(error: ScorefoldError) -> int:
    """The process's answer to an error."""
    if isinstance(error, FatalError):
        return error.exit_code
    return _TRY_AGAIN if isinstance(error, TransientError) else 1


def parse_only(pairs: list[str] | None) -> dict[str, str] | None:
    """Read `name=value` filters.

    Raises:
        InvalidInputError: one has no `=`.
    """
    wrong = [pair for pair in pairs or [] if "=" not in pair]
    if wrong:
        raise InvalidInputError(f"--only {wrong[0]}: write name=value, for instance --only fold=test")
    return dict(pair.split("=", 1) for pair in pairs) if pairs else None


def keep_apart(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Make sure that nothing is written over a file that is read, or over another output.

    Args:
        outputs: files to write, by what the command line calls them; None where there is none.
        inputs: files to read.

    Raises:
        BadParameter: an output is one of the other files.
    """
    named = [(name, path) for name, path in (*outputs.items(), *inputs.items()) if path is not None]
    for (name, path), (other, taken) in combinations(named, 2):
        if name in outputs and _same_file(path, taken):
            raise typer.BadParameter(f"{name} {path}: the same file as {other}; name another")


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)  # not there yet
