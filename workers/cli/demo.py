"""The verb demo."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.main import app
from workers.cli.printing import print_json, print_table, progress_bar, remark, say

if TYPE_CHECKING:
    from workers.demo.run import DemoResult
    from workers.settings import Settings


@app.command()
def demo(
    answers: Annotated[int, typer.Option(min=100, help="answers in the night's file")] = 3200,
    workers: Annotated[int, typer.Option(min=1, help="worker processes")] = 2,
) -> None:
    """Score a night of made-up answers, from nothing to a report.

    The night comes as a Canvas and a Moodle export. Needs nothing from outside. Writes to demo/ in the home
    folder. Run it again for the next night. The servers stay up, so that you can look around; the last line
    is one JSON object.
    """
    from workers.demo.run import DemoSize, Stage, last_line, run_demo
    from workers.settings import HomeSettings, load_settings
    from workers.telemetry import configure_logging

    settings = load_settings()
    settings = settings.model_copy(update={"home": HomeSettings(path=settings.home.path / "demo")})
    configure_logging(settings.telemetry.model_copy(update={"log_level": "warning"}))
    with progress_bar(unit="") as bar:
        line = bar.add_task("", total=None, visible=False)

        def headline(text: str) -> None:
            bar.update(line, visible=False)
            remark(f"* {text}")

        def progress(done: int, total: int) -> None:
            bar.update(line, completed=done, total=total, visible=True)

        result = run_demo(
            settings, DemoSize(num_nightly=answers, num_workers=workers), Stage(headline, progress)
        )
    _show(settings, result)
    print_json(last_line(result))


def _show(settings: Settings, result: DemoResult) -> None:
    from workers.demo.run import try_lines

    rows = [
        (
            item.item_id,
            item.trait,
            item.num_answers,
            item.num_condition_codes,
            f"{100 * item.num_needing_review / item.num_answers:.0f}%",
            item.qwk,
            item.exact,
        )
        for item in result.items
    ]
    say()
    print_table(("item", "trait", "answers", "codes", "review", "QWK", "exact"), rows)
    say("\nAn item starts with every answer read by a person, and earns less as human scores come in.")
    psql, selects = try_lines(settings, result.batch_ids)
    say("\nNow try this:\n")
    home = f"SCOREFOLD_HOME__PATH={shlex.quote(str(_shown(settings.home.path)))}"
    for text in (f"{home} scorefold status", f"{home} scorefold scores --limit 5"):
        say(f"  {text}")
    if psql is not None:
        say(f"  {shlex.join(psql)}")
    for select in selects:
        say(f"    {select}")
    say(f"  {home} scorefold down      (stops the servers)\n")
    say(f"The morning's page, to be opened in a browser: {_shown(result.report)}\n")


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path
