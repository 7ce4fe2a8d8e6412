"""Whole encoders merged beside the service: trained, compared, grouped, measured; no row is written.

A file of human-scored answers and a recipe come in, each group's evidence and, where asked, its files go out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scoring.errors import InvalidInputError, PermanentError
from scoring.merging.distances import GwSettings
from scoring.merging.evidence import compare
from scoring.merging.groups import GroupRules, choose_groups
from scoring.merging.search import nearest_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from scoring.evaluation.policy import Policy
    from scoring.merging.clouds import FeatureCloud
    from scoring.merging.evidence import GroupEvidence
    from scoring.merging.whole import WholeEncoders, WholeWay
    from scoring.training.fitting import Epoch
    from scoring.types import ItemSpec, LabelledAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeWishes:
    """How whole encoders are to be merged.

    Attributes:
        share_saved: of all encoders, in groups chosen by GW distance; None puts all items into one group
        way: of the encoders' differences to the backbone
        refits_heads: or heads stay as they are, as in the paper
        out: a folder for the merged encoders; None writes none
    """

    share_saved: float | None = 0.5
    way: WholeWay = "mean"
    refits_heads: bool = True
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class MergedGroup:
    """One group's items, the largest distance within, its evidence, and where its files lie."""

    items: tuple[str, ...]
    distance: float | None
    evidence: GroupEvidence
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class WholeReport:
    """All groups; `alone` are items in no group, `failed` those that could not be trained, with reasons."""

    groups: tuple[MergedGroup, ...]
    alone: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


def merge_whole(
    jobs: Sequence[tuple[ItemSpec, Sequence[LabelledAnswer]]],
    encoders: WholeEncoders,
    policy: Policy,
    *,
    wishes: WholeWishes,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _steps: None,
) -> WholeReport:
    """Give each item an encoder of its own, and merge them in groups.

    Args:
        jobs: items with their human-scored answers.
        encoders: trains them and keeps them, so that a run that was ended goes on.
        policy: how evidence is judged, how distances and groups are made.
        wishes: what to merge and how.
        progress: told what is done, and how much of how much.

    Raises:
        InvalidInputError: fewer than two items can be trained, or their languages differ where all are to
            form one group.
    """
    languages = sorted({item.language for item, _ in jobs})
    if wishes.share_saved is None and len(languages) > 1:
        raise InvalidInputError(
            f"one group of items in {' and '.join(languages)}; name items of one language"
        )
    clouds, failed = _clouds(jobs, encoders, policy, progress)
    if len(clouds) < 2:
        reasons = "".join(f"; {reason}" for reason in failed.values())
        raise InvalidInputError(f"{len(clouds)} item(s) with an encoder; a merge needs two{reasons}")
    groups, distances = _groups([*clouds.values()], policy, wishes)
    by_name = {str(item.item_id): (item, answers) for item, answers in jobs}
    merged = []
    for number, group in enumerate(groups, start=1):
        progress(f"merging {' + '.join(group)}", number, len(groups))
        models = [encoders.own(*by_name[name]) for name in group]
        found = encoders.merge(models, way=wishes.way, refits_heads=wishes.refits_heads)
        folder = None if wishes.out is None else wishes.out / f"group-{number}"
        if folder is not None:
            encoders.write(found, models, folder)
        merged.append(
            MergedGroup(
                group,
                _widest(group, distances),
                compare(found.pairs, policy),
                None if folder is None else str(folder),
            )
        )
    grouped = {name for group in groups for name in group}
    return WholeReport(tuple(merged), tuple(sorted(clouds.keys() - grouped)), failed)


def _clouds(
    jobs: Sequence[tuple[ItemSpec, Sequence[LabelledAnswer]]],
    encoders: WholeEncoders,
    policy: Policy,
    progress: Callable[[str, int, int], None],
) -> tuple[dict[str, FeatureCloud], dict[str, str]]:
    """Features of each item by its own encoder; an item that cannot be trained stops no other."""
    num_answers, seed = policy.merging.num_answers, policy.evidence.seed
    clouds: dict[str, FeatureCloud] = {}
    failed: dict[str, str] = {}
    for place, (item, answers) in enumerate(jobs):
        name = str(item.item_id)

        def told(epoch: Epoch, *, place: int = place, name: str = name) -> None:
            progress(f"{name}, pass {epoch.number}", place, len(jobs))

        progress(name, place, len(jobs))
        try:
            model = encoders.own(item, answers, progress=told)
            clouds[name] = encoders.cloud(model, num_answers=num_answers, seed=seed)
        except PermanentError as error:
            failed[name] = str(error)
    return clouds, failed


def _groups(
    clouds: Sequence[FeatureCloud], policy: Policy, wishes: WholeWishes
) -> tuple[tuple[tuple[str, ...], ...], dict[tuple[str, str], float]]:
    settings = GwSettings(num_answers=policy.merging.num_answers, seed=policy.evidence.seed)
    report = nearest_pairs(clouds, num_pairs=None, threshold=None, settings=settings)
    distances = {(one.first, one.second): one.distance for one in report.pairs}
    if wishes.share_saved is not None:
        rules = GroupRules(
            max_group_size=policy.merging.max_group_size,
            blocks={cloud.item_id: cloud.block for cloud in clouds},
        )
        chosen = choose_groups(distances, share_saved=wishes.share_saved, threshold=None, rules=rules)
        return chosen.groups, distances
    languages = sorted({cloud.block for cloud in clouds})
    if len(languages) > 1:
        raise InvalidInputError(
            f"one group of items in {' and '.join(languages)}; name items of one language"
        )
    return (tuple(sorted(cloud.item_id for cloud in clouds)),), distances


def _widest(group: Sequence[str], distances: Mapping[tuple[str, str], float]) -> float | None:
    within = [value for pair, value in distances.items() if set(pair) <= set(group)]
    return max(within, default=None)
