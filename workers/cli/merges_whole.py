"""The verb merges whole: whole encoders of items' own, merged and measured beside the service."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from workers.cli.main import parse_only
from workers.cli.merges import AsJson, DryRun, PolicyFile, merges
from workers.cli.printing import print_json, print_table, progress_bar, remark, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoring.merging.whole import WholeEncoders
    from scoring.types import ItemSpec, LabelledAnswer
    from workers.merging.offline import WholeReport


@merges.command()
def whole(
    file: Annotated[Path, typer.Argument(help="human-scored answers, CSV or JSON lines, as for train")],
    item: Annotated[list[str] | None, typer.Option(help="only this item; may be repeated")] = None,
    only: Annotated[list[str] | None, typer.Option(help="only rows with name=value")] = None,
    share: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="share of the encoders to save, in groups chosen by GW")
    ] = 0.5,
    together: Annotated[bool, typer.Option("--together", help="all items in one group instead")] = False,
    way: Annotated[
        Literal["mean", "ties"], typer.Option(help="of the encoders' differences to the backbone")
    ] = "mean",
    heads: Annotated[
        Literal["refitted", "kept"],
        typer.Option(help="fit heads on the merged features, or keep them as they are"),
    ] = "refitted",
    keep: Annotated[
        Path | None, typer.Option(help="folder of the items' own encoders; `whole` in the home by default")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="write the merged encoders and heads here")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="change a part of the recipe; see `train --help`")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the answers at most")] = None,
    policy: PolicyFile = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 1,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give each item a whole encoder, merge them in groups, and measure what that costs; nothing is served.

    The setting in which merging by GW distance was first described. Encoders are trained once and kept, so
    that a run that was ended goes on, and another way of merging trains nothing. Nothing is written to the
    ledger.
    """
    from scoring.backbone import Backbone
    from scoring.config import recipe
    from scoring.engines.torch import pick_device, settle_process
    from scoring.merging.whole import WholeEncoders
    from workers.merging.offline import WholeWishes, merge_whole
    from workers.policies import find_policy
    from workers.recipes import changed
    from workers.settings import load_settings

    settings = load_settings()
    rules = find_policy(settings, policy)
    jobs = _jobs(file, item or (), only)
    settle_process(threads)
    backbone = Backbone.load(settings.backbone.name, device=pick_device(settings.engine.device))
    config = changed(recipe("full").limited(epochs), change or ())
    encoders = WholeEncoders(backbone, keep or settings.home.path / "whole", replace(config, method="full"))
    if dry_run:
        _show_jobs(jobs, encoders, as_json=as_json)
        return
    wishes = WholeWishes(
        share_saved=None if together else share, way=way, refits_heads=heads == "refitted", out=out
    )
    with progress_bar(unit="steps") as bar:
        line = bar.add_task("beginning", total=None)
        done = merge_whole(
            jobs,
            encoders,
            rules,
            wishes=wishes,
            progress=lambda what, num_done, num_steps: bar.update(
                line, completed=num_done, total=num_steps, description=what
            ),
        )
    _show(done, as_json=as_json)
    raise typer.Exit(3 if done.failed else 0)


def _jobs(
    file: Path, wanted: Sequence[str], only: list[str] | None
) -> list[tuple[ItemSpec, Sequence[LabelledAnswer]]]:
    from db import registry
    from db.session import make_engine
    from workers.places import database_url
    from workers.roster import spec_of
    from workers.settings import load_settings
    from workers.training import read_training_data
    from workers.writer import database_errors

    settings = load_settings()
    with database_errors(), make_engine(database_url(settings)).connect() as connection:
        items = registry.load_items(connection)
    data = read_training_data(file, items, settings, only=parse_only(only), wanted=wanted)
    for row in data.rejected[:20]:
        remark(f"{file}: line {row.line}: {row.detail} ({row.reason})", style="yellow")
    return [(spec_of(items[name]), answers) for name, answers in sorted(data.answers.items())]


def _show_jobs(
    jobs: Sequence[tuple[ItemSpec, Sequence[LabelledAnswer]]], encoders: WholeEncoders, *, as_json: bool
) -> None:
    rows = [
        (str(item.item_id), item.language, len(answers), encoders.is_kept(item, answers))
        for item, answers in jobs
    ]
    if as_json:
        names = ("item_id", "language", "num_answers", "is_kept")
        print_json({"items": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    print_table(("item", "language", "answers", "has its encoder"), rows)
    num_new = sum(not row[3] for row in rows)
    say(f"{num_new} encoder(s) would be trained, of {encoders.num_bytes / 1e6:.0f} MB each")


def _show(done: WholeReport, *, as_json: bool) -> None:
    if as_json:
        print_json(_told(done))
        return
    for group in done.groups:
        near = "" if group.distance is None else f", GW {group.distance:.4f}"
        say(f"{' + '.join(group.items)}: {group.evidence.verdict}{near}")
        rows = [
            (
                one.item_id,
                one.num_answers,
                one.figures["qwk"].before,
                one.figures["qwk"].after,
                one.figures["qwk"].change.low,
                one.figures["qwk"].change.high,
                one.figures["micro_f1"].before,
                one.figures["micro_f1"].after,
                one.judgement.verdict,
            )
            for one in group.evidence.items
        ]
        columns = ("item", "read", "QWK own", "merged", "from", "to", "micro F1 own", "merged", "verdict")
        print_table(columns, rows)
        if group.folder is not None:
            say(f"  written to {group.folder}")
    if done.alone:
        say(f"in no group: {', '.join(done.alone)}")
    for name, reason in done.failed.items():
        remark(f"{name}: {reason}", style="red")


def _told(done: WholeReport) -> dict[str, object]:
    from workers.evaluating import plain

    groups = [
        {
            "items": group.items,
            "distance": group.distance,
            "verdict": group.evidence.verdict,
            "changes": plain(dict(group.evidence.changes)),
            "figures": {one.item_id: plain(dict(one.figures)) for one in group.evidence.items},
            "folder": group.folder,
        }
        for group in done.groups
    ]
    return {"groups": groups, "alone": done.alone, "failed": done.failed}
