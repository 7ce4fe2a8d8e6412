"""Verbs for servers and schema: up, down, status, migrate, settings, health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.main import app
from workers.cli.options import OneBatch  # noqa: TC001 (typer asks for it)
from workers.cli.printing import print_json, print_table, progress_bar, remark, say

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from db.reads import BatchProgress

AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]


@app.command()
def up(as_json: AsJson = False) -> None:
    """Start the embedded Postgres and Redis.

    They keep their data in the home folder, and the schema is brought up to date. Servers that the
    settings name elsewhere are left alone.
    """
    from workers import places
    from workers.embedded import services
    from workers.settings import load_settings

    settings = load_settings()
    if places.needs_embedded(settings):
        services.up(settings.home.path)
    revision = _upgrade(places.database_url(settings))
    if as_json:
        print_json({"home": settings.home.path, "revision": revision})
    else:
        say(f"Postgres and Redis answer; the schema is at {revision}.")
        if settings.database.url is None:
            import shlex

            line = shlex.join(services.psql_command(settings.home.path))
            say(f"SQL:  {line}")


@app.command()
def down() -> None:
    """Stop the embedded servers; their data stay."""
    from workers.embedded import services
    from workers.settings import load_settings

    stopped = services.down(load_settings().home.path)
    say("stopped" if stopped else "nothing was running")


@app.command()
def status(
    batch: OneBatch = None,
    watch: Annotated[bool, typer.Option("--watch", help="go on until nothing waits")] = False,
    as_json: AsJson = False,
) -> None:
    """Show servers, ledger, and how far each batch is."""
    from db.session import make_engine
    from workers import places
    from workers.embedded.status import status as embedded_status
    from workers.settings import load_settings

    settings = load_settings()
    servers = embedded_status(settings.home.path).servers if places.needs_embedded(settings) else ()
    if settings.database.url is None and not any(s.name == "postgres" and s.running for s in servers):
        _show_servers(servers, as_json=as_json)
        if not as_json:
            remark("Postgres does not run: start it with `scorefold up`")
        raise typer.Exit(1)
    database = make_engine(places.database_url(settings))
    if watch:
        _watch(database, batch)
    # After a wait people want the batches; a program gets the same value either way.
    _show_status(database, () if watch and not as_json else servers, batch, as_json=as_json)


@app.command()
def migrate(
    check: Annotated[bool, typer.Option("--check", help="only compare the tables with the code")] = False,
) -> None:
    """Bring the schema up to date.

    Safe to run twice, and from several machines at once.
    """
    from alembic.util.exc import CommandError

    from db import migrate as schema
    from scoring.errors import IncompatibleArtifactError
    from workers import places
    from workers.settings import load_settings
    from workers.writer import database_errors

    url = places.database_url(load_settings())
    with database_errors():
        if check:
            try:
                schema.check(url)
            except CommandError as error:
                raise IncompatibleArtifactError(f"the tables differ from the code: {error}") from error
        else:
            say(f"the schema is at {_upgrade(url)}")


@app.command()
def settings(as_json: AsJson = False) -> None:
    """List every setting, its value and its meaning."""
    from pydantic import SecretStr

    from workers.settings import environment_names, load_settings

    loaded = load_settings()
    rows = []
    for name, meaning in environment_names().items():
        section, field = name.removeprefix("SCOREFOLD_").lower().split("__", 1)
        value = getattr(getattr(loaded, section), field)
        rows.append((name, "(set)" if isinstance(value, SecretStr) else value, meaning))
    if as_json:
        print_json({name: {"value": value, "meaning": meaning} for name, value, meaning in rows})
    else:
        print_table(("setting", "value", "meaning"), rows)


@app.command()
def health(
    worker: Annotated[
        bool, typer.Option("--worker", help="ask only whether this machine's workers make progress")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that Postgres and Redis answer and that the schema fits the code; exit code 0 if so.

    With --worker, for a supervisor's probe: that a worker of this home lives here, its engine is not stuck
    on one batch, and it hears from the broker. A worker that waits for an absent server is healthy.
    """
    from workers.health import check_health, check_workers
    from workers.settings import load_settings

    faults = (check_workers if worker else check_health)(load_settings())
    if as_json:
        print_json({"healthy": not faults, "faults": faults})
    else:
        say("healthy" if not faults else "\n".join(faults))
    raise typer.Exit(1 if faults else 0)


def _upgrade(url: str) -> str:
    from alembic.util.exc import CommandError

    from db import migrate as schema
    from workers.writer import SchemaMismatchError, database_errors

    try:
        with database_errors():
            return schema.upgrade(url)
    except CommandError as error:
        raise SchemaMismatchError(f"the schema is newer than this code: {error}") from error


def _show_servers(servers: tuple[object, ...], *, as_json: bool) -> None:
    if as_json:
        print_json({"servers": servers})
        return
    rows = [
        (s.name, s.running, s.pid, s.version, s.uptime_s and round(s.uptime_s), f"{s.num_bytes / 1e6:.1f}")  # type: ignore[attr-defined]
        for s in servers
    ]
    print_table(("server", "running", "pid", "version", "up s", "MB"), rows)


def _show_status(
    database: Database, servers: tuple[object, ...], batch: int | None, *, as_json: bool
) -> None:
    from db import reads
    from scoring.errors import InvalidInputError
    from workers.writer import database_errors

    with database_errors(), database.connect() as connection:
        found = reads.batches(connection, batch_id=batch)
        work = reads.work_states(connection)
    if batch is not None and not found:
        raise InvalidInputError(f"there is no batch {batch}")
    if as_json:
        print_json({"servers": servers, "work": work, "batches": found})
        return
    if servers:
        _show_servers(servers, as_json=False)
        say()
    say("ledger: " + ", ".join(f"{number} {state}" for state, number in work.items()))
    if found:
        say()
        rows = [
            (
                b.batch_id,
                b.file_name,
                b.num_accepted,
                b.num_scored,
                b.num_quarantined,
                b.num_waiting,
                _refused(b),
            )
            for b in found
        ]
        print_table(("batch", "file", "accepted", "scored", "quarantined", "waiting", "refused"), rows)


def _refused(batch: BatchProgress) -> int:
    return batch.num_rejected + batch.num_conflicts


def _watch(database: Database, batch: int | None) -> None:
    from workers.watch import wait_for_batch

    with progress_bar(unit="answers") as bar:
        line = bar.add_task("settled", total=None)
        wait_for_batch(
            database,
            batch_id=batch,
            on_progress=lambda settled, accepted: bar.update(line, completed=settled, total=accepted),
        )
