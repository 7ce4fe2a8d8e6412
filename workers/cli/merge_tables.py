"""What the verbs for merges print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.cli.printing import print_json, print_table, remark, say

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from db.merge_reads import ProposalDetail
    from workers.merging.decisions import Decided
    from workers.merging.night import Night
    from workers.settings import Settings


def show_night(database: Database, done: Night | None, period: str, *, as_json: bool) -> None:
    """What a run came to, or who is at it."""
    from db import gw_runs
    from workers.writer import database_errors

    if as_json:
        print_json(done)
        return
    if done is None:
        with database_errors(), database.connect() as connection:
            standing = gw_runs.state_of(connection, period)
        state, worker = standing or ("waiting for another period's run", None)
        say(f"period {period}: {state}" + (f" at {worker}" if worker else ""))
        return
    if done.error is not None:
        remark(f"error: run {done.gw_run_id}: {done.error}", style="red")
        return
    rows = [
        (" + ".join(one.items), one.merge_proposal_id, one.state, one.verdict, one.qwk_change, one.reason)
        for one in done.proposals
    ]
    if rows:
        print_table(("items", "proposal", "state", "verdict", "QWK change", "why"), rows)
    else:
        say("no group was near enough to be tried")
    for name, reason in sorted(done.report.get("left_out", {}).items()):
        remark(f"{name}: {reason}")


def show_standing(database: Database, settings: Settings, *, as_json: bool) -> None:
    """Items and their blocks, what is live, what waits: what a run would begin with."""
    from db import merges as rows
    from db import pins as pinned
    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from workers.merging.planning import live_groups
    from workers.merging.standing import standing_items
    from workers.writer import database_errors

    store = ArtifactStore(settings.artifact_url())
    items, left_out = standing_items(database, store, Backbone.load(settings.backbone.name))
    with database_errors(), database.connect() as connection:
        waiting, standing_pins = rows.pending(connection), pinned.pins(connection)
    live = live_groups(items)
    if as_json:
        blocks = {name: one.block for name, one in items.items()}
        told = {"items": blocks, "left_out": left_out, "live_groups": live, "pending": waiting}
        print_json({**told, "pins": standing_pins})
        return
    print_table(("item", "block"), [(name, one.block) for name, one in items.items()])
    for name, reason in left_out.items():
        remark(f"{name}: {reason}")
    for group in live:
        say(f"live: {' + '.join(group)}")
    say(f"{len(waiting)} proposals wait, {len(standing_pins)} pins")


def show_decided(done: Decided, *, as_json: bool) -> None:
    """A proposal before and after a decision, and the aliases that moved."""
    if as_json:
        print_json(done)
        return
    word = "would be" if done.dry_run else "is"
    say(f"proposal {done.merge_proposal_id}: was {done.before}, {word} {done.state}")
    for one in done.moved:
        if one.before != one.after:
            before, after = (_told(aliases) for aliases in (one.before, one.after))
            say(f"  {one.item_id}: was {before}; {word} {after}")


def _told(aliases: dict[str, int]) -> str:
    return ", ".join(f"{alias} {scorer_id}" for alias, scorer_id in aliases.items()) or "without a scorer"


def show_detail(found: ProposalDetail) -> None:
    """One proposal in full."""
    told = found.proposal
    items = " + ".join(told["items"])
    say(f"proposal {told['merge_proposal_id']}: {told['kind']} of {items}: {told['state']}")
    say(
        f"  {told['criterion']} {told['distance']:.4f}, rank {told['distance_rank']} of {told['num_pairs']};"
        f" noise floor {_figure(told['noise_floor'])}; made by {told['method']}"
    )
    say(f"  saves {told['num_extractors_saved']} extractor(s), {told['num_bytes_saved']:,} bytes")
    rows = [_item_row(one) for one in found.items]
    print_table(("item", "read", "QWK before", "after", "change", "from", "to", "micro F1", "verdict"), rows)
    for name, change in found.evidence.get("changes", {}).items():
        interval = f"{_figure(change['low'])} to {_figure(change['high'])}"
        say(f"  mean change of {name}: {_figure(change['value'])} ({interval})")
    for one in found.changes:
        say(
            f"  beside the champion, {one['item_id']} {one['trait']}: {one['num_answers']} answers,"
            f" {one['share_changed']:.3f} changed"
        )
    for other in found.alternatives:
        say(f"  near: {' + '.join(other['items'])} {other['distance']:.4f}")
    events = [
        (f"{one['at']:%Y-%m-%d %H:%M}", one["state"], one["actor"], one["reason"]) for one in found.events
    ]
    print_table(("when", "state", "by", "why"), events)


def _item_row(one: dict[str, Any]) -> tuple[object, ...]:
    micro = one["figures"].get("micro_f1", {}).get("change", {}).get("value")
    columns = ("qwk_before", "qwk_after", "qwk_change", "qwk_change_low", "qwk_change_high")
    return (one["item_id"], one["num_answers"], *(one[name] for name in columns), micro, one["verdict"])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
