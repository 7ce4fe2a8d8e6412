"""Verbs of quarantine: list, show, retry, purge."""

from __future__ import annotations

import getpass
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from workers.cli.main import app
from workers.cli.options import MAX_NUMBER, RowLimit, some_words
from workers.cli.printing import print_json, print_table, remark, say

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from db.quarantine import Case
    from workers.settings import Settings

_PARTLY = 3

quarantine = typer.Typer(help="See and settle what could not be scored or read.", no_args_is_help=True)
app.add_typer(quarantine, name="quarantine")

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Ids = Annotated[
    list[int],
    typer.Argument(min=1, max=MAX_NUMBER, help="numbers of cases, as `quarantine list` shows them"),
]
Door = Annotated[
    Literal["file", "stream", "task", "broker", "worker"] | None, typer.Option(help="cases of this door only")
]
Reason = Annotated[str | None, typer.Option(help="cases with this reason only")]


@quarantine.command("list")
def list_cases(
    door: Door = None,
    reason: Reason = None,
    closed: Annotated[bool, typer.Option("--closed", help="closed cases too")] = False,
    limit: RowLimit = 100,
    as_json: AsJson = False,
) -> None:
    """List open cases: submissions that failed too often, and bytes at a door that are no event."""
    from db.quarantine import cases
    from workers.writer import database_errors

    database, _ = _open()
    with database_errors(), database.connect() as connection:
        found = cases(connection, door=door, reason=reason, closed_too=closed, max_rows=limit)
    if as_json:
        print_json([_without_bytes(case) for case in found])
        return
    print_table(
        ("case", "since", "door", "reason", "subject", "detail"),
        [
            (
                case.quarantine_id,
                f"{case.quarantined_at:%Y-%m-%d %H:%M}",
                case.door,
                case.reason,
                _subject(case),
                case.detail,
            )
            for case in found
        ],
    )


@quarantine.command()
def show(
    case: Annotated[int, typer.Argument(min=1, max=MAX_NUMBER, help="number of a case")],
    as_json: AsJson = False,
) -> None:
    """Show one case with its bytes; they may hold a student's answer."""
    from db.quarantine import cases
    from scoring.errors import InvalidInputError
    from workers.writer import database_errors

    database, _ = _open()
    with database_errors(), database.connect() as connection:
        found = cases(connection, ids=[case], closed_too=True)
    if not found:
        raise InvalidInputError(f"there is no case {case} in quarantine")
    told = _without_bytes(found[0]) | {"payload": _readable(found[0].payload)}
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        if value is not None:
            say(f"{name}: {value}")


@quarantine.command()
def retry(cases: Ids, as_json: AsJson = False) -> None:
    """Score submissions again, and judge events again, for instance after an item has been loaded."""
    from workers.quarantine import retry as retry_cases

    database, settings = _open()
    done = retry_cases(database, cases, actor=getpass.getuser(), limits=settings.intake)
    if as_json:
        print_json(asdict(done))
    else:
        say(f"{done.num_released} released")
        for number, reason in done.refused:
            remark(f"case {number} stays: {reason}", style="yellow")
    raise typer.Exit(_PARTLY if done.refused else 0)


@quarantine.command()
def purge(
    cases: Ids,
    reason: Annotated[str, typer.Option(help="why; stays with the closed case", callback=some_words)],
    as_json: AsJson = False,
) -> None:
    """Close cases for good and erase their bytes; a submission stays unscored."""
    from workers.quarantine import purge as purge_cases

    database, _ = _open()
    num_closed = purge_cases(database, cases, actor=getpass.getuser(), reason=reason)
    if as_json:
        print_json({"num_closed": num_closed})
    else:
        say(f"{num_closed} closed")


def _open() -> tuple[Database, Settings]:
    from db.session import make_engine
    from workers.places import database_url
    from workers.settings import load_settings

    settings = load_settings()
    return make_engine(database_url(settings)), settings


def _without_bytes(case: Case) -> dict[str, object]:
    told = asdict(replace(case, payload=None))
    told["num_bytes"] = None if case.payload is None else len(case.payload)
    return told


def _subject(case: Case) -> str:
    if case.submission_id is not None:
        return f"response {case.response_id} attempt {case.attempt} of {case.source}, item {case.item_id}"
    return f"{len(case.payload or b''):,} bytes"


def _readable(payload: bytes | None) -> str | None:
    # Escaped: raw bytes of a stranger could speak to the terminal.
    return (
        None
        if payload is None
        else payload.decode("utf-8", "backslashreplace").encode("unicode_escape").decode()
    )
