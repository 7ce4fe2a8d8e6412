"""Verbs for human reads: draw, ask."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from workers.cli.main import app
from workers.cli.options import MAX_NUMBER, OneBatch
from workers.cli.printing import print_json, say

reads = typer.Typer(help="Ask for human reads.", no_args_is_help=True)
app.add_typer(reads, name="reads")

Actor = Annotated[str, typer.Option(help="who asks; by default your login", default_factory=getpass.getuser)]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


@reads.command()
def draw(
    actor: Actor,
    share: Annotated[float, typer.Option(min=0, max=1, help="of the answers that nobody has read")] = 0.05,
    seed: Annotated[int, typer.Option(help="another seed draws another sample")] = 0,
    batch: OneBatch = None,
    apart: Annotated[int, typer.Option(min=1, help="ask again where so many levels apart")] = 2,
    as_json: AsJson = False,
) -> None:
    """Draw a read-behind sample, and ask for second reads where machine and person are far apart.

    The same seed draws the same answers; nothing is asked for twice. View grader.read_queue shows them.
    """
    from db import reading
    from db.session import make_engine
    from workers.places import database_url
    from workers.settings import load_settings
    from workers.writer import database_errors

    database = make_engine(database_url(load_settings()), statement_timeout_s=None)
    with database_errors(), database.begin() as connection:
        num_drawn = reading.draw_read_behind(connection, share=share, seed=seed, actor=actor, batch_id=batch)
        num_apart = reading.ask_about_disagreements(connection, actor=actor, least=apart)
    if as_json:
        print_json({"num_drawn": num_drawn, "num_disagreements": num_apart})
    else:
        say(f"{num_drawn} reads drawn, {num_apart} second reads asked for")


@reads.command()
def ask(
    submission: Annotated[int, typer.Argument(min=1, max=MAX_NUMBER, help="number of the submission")],
    actor: Actor,
    reason: Annotated[str, typer.Option(help="appeal, disagreement or read_behind")] = "appeal",
) -> None:
    """Ask for a human read of one answer; an appeal stands first in the queue."""
    from db import reading
    from db.models.score import REQUEST_REASONS
    from db.session import make_engine
    from scoring.errors import InvalidInputError
    from workers.places import database_url
    from workers.settings import load_settings
    from workers.writer import database_errors

    if reason not in REQUEST_REASONS:
        raise typer.BadParameter(f"--reason {reason}: one of {', '.join(REQUEST_REASONS)}")
    database = make_engine(database_url(load_settings()))
    with database_errors(), database.begin() as connection:
        num_traits = reading.ask(connection, submission, reason=reason, actor=actor)
    if not num_traits:
        raise InvalidInputError(f"there is no submission {submission}")
    say(f"submission {submission} waits for a read ({reason})")
