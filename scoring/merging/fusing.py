"""A merge group from its members to one extractor, and a new head and calibration for each of them.

Composes weights, least squares, joint training and heads by the method that was asked for. Nothing is stored
and nothing is judged here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from scoring.calibration import REVIEW_ALL
from scoring.errors import InvalidInputError
from scoring.merging.extraction import joined
from scoring.merging.joint import JointConfig, Lesson, train_jointly
from scoring.merging.refit import HeadData, choose_head, least_squares_updates, mixed_targets
from scoring.merging.weights import merge_updates
from scoring.training.evaluation import fit_decisions
from scoring.types import Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from scoring.artifacts import ScorerArtifact
    from scoring.backbone import Backbone
    from scoring.merging.extraction import SharedReader
    from scoring.merging.members import Pupil, Table
    from scoring.merging.refit import Head
    from scoring.merging.updates import Updates
    from scoring.training.network import Inputs

Method = Literal["joint", "least_squares", "mean", "ties", "aligned_ties"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionConfig:
    """How a group is merged.

    Attributes:
        method: None takes the first that the members' answers allow: joint, least_squares, mean. The ways of
            `merge_updates` beside the mean are for comparison.
        rank: of the shared update; None is the largest among the members
        teacher_weight: share of the items' own models in a human-scored answer's target
        refits_heads: whether heads are fitted on the merged features, rather than kept as they are
        min_read: human-scored answers that every member needs for "joint", in train and validation together
        min_answers: answers that every member needs for "least_squares"
        review_risk: largest share of wrong levels among answers that no human reads, where a member's own
            training does not tell
        review_certainty: how sure to be of that; likewise
        joint: the recipe of the joint training
    """

    method: Method | None = None
    rank: int | None = None
    teacher_weight: float = 0.5
    refits_heads: bool = True
    min_read: int = 50
    min_answers: int = 50
    review_risk: float = 0.05
    review_certainty: float = 0.9
    joint: JointConfig = field(default_factory=JointConfig)


@dataclass(frozen=True, slots=True, eq=False)
class Fusion:
    """What became of a group; heads and decisions in the order of its members."""

    method: Method
    updates: Updates
    heads: tuple[Head, ...]
    decisions: tuple[dict[str, Decision], ...]
    validation_losses: tuple[float, ...] = ()


def fuse(
    pupils: Sequence[Pupil],
    *,
    reader: SharedReader,
    backbone: Backbone,
    config: FusionConfig | None = None,
    progress: Callable[[int, int], None] = lambda _epoch, _epochs: None,
) -> Fusion:
    """Merge a group.

    Args:
        pupils: the members with their tables, read by `reader`.
        reader: brings answers through the lower layers.
        backbone: the shared encoder.
        config: method, rank and rates.
        progress: told (epochs done, epochs at most) of a joint training; may raise to end it.

    Raises:
        InvalidInputError: no members, or the method needs answers that are not there.
    """
    config = config or FusionConfig()
    if not pupils:
        raise InvalidInputError("a merge group needs at least one member")
    method = config.method or fitting_method(pupils, config)
    updates = _merged_updates(pupils, method, config)
    heads = _heads(pupils, updates, reader, config)
    losses: tuple[float, ...] = ()
    if method == "joint":
        lessons = [_lesson(pupil, head, config) for pupil, head in zip(pupils, heads, strict=True)]
        taught = train_jointly(
            lessons,
            updates,
            backbone=backbone,
            pooling=pupils[0].member.scorer.pooling,
            config=config.joint,
            progress=progress,
        )
        updates, losses = taught.updates, taught.validation_losses
        heads = _heads(pupils, updates, reader, config, taught.heads)
    decisions = tuple(
        decisions_for(pupil, head, updates, reader=reader, config=config)
        for pupil, head in zip(pupils, heads, strict=True)
    )
    return Fusion(method, updates, heads, decisions, losses)


def fitting_method(pupils: Sequence[Pupil], config: FusionConfig) -> Method:
    """The best method that the members' answers allow; the member with the fewest decides."""
    if min(len(pupil.train) + len(pupil.validation) for pupil in pupils) >= config.min_read:
        return "joint"
    if min(len(pupil.train) + len(pupil.unread) for pupil in pupils) >= config.min_answers:
        return "least_squares"
    return "mean"


def decisions_for(
    pupil: Pupil, head: Head, updates: Updates, *, reader: SharedReader, config: FusionConfig
) -> dict[str, Decision]:
    """Temperature, cut points and review threshold, fitted on the validation answers.

    The old ones are void with the old features. Without validation answers nothing can be certified: the
    temperature stays, and every answer goes to a human reader.
    """
    member, validation = pupil.member, pupil.validation
    if validation.levels is None or not len(validation):
        return {
            name: Decision(temperature=old.temperature, cut_points=old.cut_points, review_below=REVIEW_ALL)
            for name, old in member.scorer.decisions.items()
        }
    return fit_decisions(
        member.item,
        head.logits(reader.features(validation.inputs, updates)),
        validation.levels,
        risk=_chosen(member.scorer, "review_risk", config.review_risk),
        certainty=_chosen(member.scorer, "review_certainty", config.review_certainty),
    )


def _chosen(scorer: ScorerArtifact, name: str, default: float) -> float:
    """What the item's own training was told; a merge is to keep what somebody promised for an item."""
    told = (scorer.lineage.get("config") or {}).get(name)
    return told if isinstance(told, float) and 0 < told < 1 else default


def _merged_updates(pupils: Sequence[Pupil], method: Method, config: FusionConfig) -> Updates:
    updates = [pupil.updates for pupil in pupils]
    rank = config.rank or max(one.rank for each in updates for one in each.values())
    if method == "mean" or method == "ties" or method == "aligned_ties":  # noqa: PLR1714 (narrows the type)
        return merge_updates(updates, way=method, rank=rank)
    return least_squares_updates(updates, [pupil.moments for pupil in pupils], rank=rank)


def _heads(
    pupils: Sequence[Pupil],
    updates: Updates,
    reader: SharedReader,
    config: FusionConfig,
    others: Sequence[Head] | None = None,
) -> tuple[Head, ...]:
    """A head for each member on the merged features, or each member's own."""
    if not config.refits_heads:
        return tuple(pupil.member.head for pupil in pupils)
    candidates = others or [pupil.member.head for pupil in pupils]
    return tuple(
        _head(pupil, other, updates, reader=reader, config=config)
        for pupil, other in zip(pupils, candidates, strict=True)
    )


def _head(pupil: Pupil, other: Head, updates: Updates, *, reader: SharedReader, config: FusionConfig) -> Head:
    train = [table for table in (pupil.train, pupil.unread) if len(table)]
    if not train:
        return other
    features = reader.features(joined([table.inputs for table in train]), updates)
    targets = np.vstack([_targets(pupil, table, config) for table in train])
    held_out = HeadData(
        reader.features(pupil.validation.inputs, updates), _targets(pupil, pupil.validation, config)
    )
    return choose_head(
        HeadData(features, targets), held_out, num_levels=pupil.member.item.num_levels, others=[other]
    )


def _lesson(pupil: Pupil, head: Head, config: FusionConfig) -> Lesson:
    return Lesson(
        num_levels=pupil.member.item.num_levels,
        head=head,
        train=_all_answers(pupil),
        train_targets=np.vstack([_targets(pupil, one, config) for one in (pupil.train, pupil.unread)]),
        validation=pupil.validation.inputs,
        validation_targets=_targets(pupil, pupil.validation, config),
    )


def _all_answers(pupil: Pupil) -> Inputs:
    return joined([pupil.train.inputs, pupil.unread.inputs])


def _targets(pupil: Pupil, table: Table, config: FusionConfig) -> NDArray[np.float64]:
    return mixed_targets(
        table.levels,
        table.taught,
        num_levels=pupil.member.item.num_levels,
        teacher_weight=config.teacher_weight,
    )
