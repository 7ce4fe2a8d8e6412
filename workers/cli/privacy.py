"""Verbs of privacy: forget, retain."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.main import app
from workers.cli.printing import print_json, print_table, remark, say

if TYPE_CHECKING:
    from db.privacy import Erasure

Actor = Annotated[str, typer.Option(help="who asks; by default your login", default_factory=getpass.getuser)]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be erased, erase nothing")]


@app.command()
def forget(
    student: Annotated[str, typer.Argument(help="the student's id as the source gives it, or the pseudonym")],
    actor: Actor,
    source: Annotated[str | None, typer.Option(help="one source only; all by default")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Erase a student: answers, scores, pseudonym, and bytes in quarantine.

    One row of the audit stays, without the id, and names the scorers that learned from the answers: train
    those again. Delete the files too: submitted again, they would bring the answers back.
    """
    from db import privacy
    from db.session import make_engine
    from scoring.errors import InvalidInputError
    from workers.places import database_url
    from workers.settings import load_settings
    from workers.writer import database_errors

    database = make_engine(database_url(load_settings()), statement_timeout_s=None)
    with database_errors(), database.connect() as connection:
        erasure = privacy.forget(connection, student, source=source, actor=actor)
        if erasure is None:
            raise InvalidInputError("no such student" + (f" in source {source}" if source else ""))
        if not dry_run:
            connection.commit()
    if as_json:
        print_json({"dry_run": dry_run, "erasure": erasure})
    else:
        _show(erasure, dry_run=dry_run)


@app.command()
def retain(
    sources: Annotated[Path, typer.Option(help="TOML file with keep_days for each source")],
    actor: Actor,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Erase answers, and bytes in quarantine, kept as long as their source's keep_days says.

    Sources without keep_days are left alone. Run it from a timer; each run says in the audit what it erased.
    """
    from db.session import make_engine
    from workers.places import database_url
    from workers.privacy import retain as retain_by_policy
    from workers.settings import load_settings

    database = make_engine(database_url(load_settings()), statement_timeout_s=None)
    erased = retain_by_policy(database, sources, actor=actor, dry_run=dry_run)
    if as_json:
        num_erased = {name: one.num_answers for name, one in erased.items()}
        num_cases = {name: one.num_cases for name, one in erased.items()}
        print_json({"dry_run": dry_run, "num_erased": num_erased, "num_cases": num_cases})
        return
    word = "would be erased" if dry_run else "erased"
    table = [(name, one.num_answers, one.num_cases) for name, one in erased.items()]
    print_table(("source", f"answers {word}", f"cases of quarantine {word}"), table)


def _show(erasure: Erasure, *, dry_run: bool) -> None:
    say(
        f"{erasure.num_submissions} answers, {erasure.num_machine_scores} machine scores,"
        f" {erasure.num_human_scores} human scores and the bytes of {erasure.num_cases} cases of quarantine"
        f" {'would be' if dry_run else 'are'} erased"
    )
    if erasure.cases_to_look_at:
        numbers = " ".join(map(str, erasure.cases_to_look_at))
        remark(
            "the id stands in bytes that do not say whose they are: look with `scorefold quarantine show`,"
            f" erase with `scorefold quarantine purge` {numbers}",
            style="yellow",
        )
    for told, scorers in (
        ("learned from them, by their lineage: train them again", erasure.scorers),
        ("may have learned from them: trained from a file", erasure.scorers_of_unknown_lineage),
    ):
        for scorer in scorers:
            alias = f", {scorer.alias}" if scorer.alias else ""
            remark(f"scorer {scorer.scorer_id} (item {scorer.item_id}{alias}) {told}", style="yellow")
