"""A challenger is trained, measured beside the champion on answers that neither learned from, and judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.config import EngineConfig
from scoring.engines.torch import TorchEngine
from scoring.errors import PermanentError
from scoring.evaluation.comparison import qwk_change
from scoring.evaluation.gates import Judgement, judge
from scoring.evaluation.reads import Reads
from scoring.evaluation.report import NO_FIGURE, evaluate
from scoring.training.finetuning import train_item
from scoring.types import Requests, ScorerKey
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from db.evaluations import DoubleRead
    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.config import TrainingConfig
    from scoring.evaluation.policy import Policy
    from scoring.evaluation.report import Figure, ItemReport
    from scoring.training.fitting import Epoch
    from scoring.types import ItemSpec, LabelledAnswer, TrainingReport
    from workers.lessons import Lessons

log = get_logger("challenge")


@dataclass(frozen=True, slots=True)
class Arena:
    """Where challengers are trained and measured: one backbone, loaded once for all items."""

    backbone: Backbone
    store: ArtifactStore
    policy: Policy


@dataclass(frozen=True, slots=True)
class Defender:
    """The champion, as far as a challenge needs it."""

    scorer_id: int
    scorer_key: str
    #: Submissions it learned from, as far as its lineage tells.
    learned: set[int]


@dataclass(frozen=True, slots=True)
class Challenger:
    """A trained scorer, its agreement on held-out answers, and the gates' word."""

    training: TrainingReport
    report: ItemReport
    judgement: Judgement


def challenge(
    item: ItemSpec,
    lessons: Lessons,
    defender: Defender,
    *,
    double_reads: Sequence[DoubleRead],
    arena: Arena,
    config: TrainingConfig,
    progress: Callable[[Epoch], None],
) -> Challenger:
    """Train a challenger and judge it; nothing is registered.

    Args:
        item: what is scored.
        lessons: answers with folds.
        defender: the champion.
        double_reads: answers of the item that two people read.
        arena: backbone, store and policy.
        config: the recipe.
        progress: called after every epoch; may raise to end the training.

    Raises:
        InvalidInputError: the answers cannot train this item.
        StoreUnavailableError: the store does not answer.
    """
    training = train_item(
        item,
        lessons.answers,
        backbone=arena.backbone,
        store=arena.store,
        config=config,
        progress=progress,
    )
    engine = TorchEngine(arena.backbone, arena.store, EngineConfig())
    engine.load(training.scorer_key)
    held_out = lessons.held_out(set())
    machine = _levels(engine, training.scorer_key, item, held_out)
    report = evaluate(_reads(item, held_out, machine, double_reads), arena.policy.evidence.bootstrap())
    changes = _changes(item, lessons.held_out(defender.learned), engine, (defender, training), arena.policy)
    return Challenger(training, report, judge(report, arena.policy, changes=changes))


def _changes(
    item: ItemSpec,
    answers: Sequence[LabelledAnswer],
    engine: TorchEngine,
    pair: tuple[Defender, TrainingReport],
    policy: Policy,
) -> dict[str, Figure]:
    """Change of QWK by trait; no answers at all where the champion cannot be asked."""
    defender, training = pair
    try:
        engine.load(ScorerKey(defender.scorer_key))
    except PermanentError as error:
        log.warning("champion_not_comparable", item=item.item_id, reason=str(error))
        return {trait.name: NO_FIGURE for trait in item.traits}
    before = _levels(engine, ScorerKey(defender.scorer_key), item, answers)
    after = _levels(engine, training.scorer_key, item, answers)
    human = _human(item, answers)
    return {
        trait.name: qwk_change(
            before[:, column],
            after[:, column],
            human[:, column],
            num_levels=trait.num_levels,
            bootstrap=policy.evidence.bootstrap(),
        )
        for column, trait in enumerate(item.traits)
    }


def _levels(
    engine: TorchEngine, key: ScorerKey, item: ItemSpec, answers: Sequence[LabelledAnswer]
) -> NDArray[np.int64]:
    """A scorer's levels [num_answers, num_traits]."""
    levels = np.zeros((len(answers), len(item.traits)), dtype=np.int64)
    if answers:
        columns = {trait.name: column for column, trait in enumerate(item.traits)}
        scores = engine.score(Requests([key] * len(answers), [answer.text for answer in answers]))
        levels[scores.answer, [columns[name] for name in scores.trait]] = scores.level
    return levels


def _human(item: ItemSpec, answers: Sequence[LabelledAnswer]) -> NDArray[np.int64]:
    rows = [[answer.levels[trait.name] for trait in item.traits] for answer in answers]
    return np.array(rows, dtype=np.int64).reshape(len(answers), len(item.traits))


def _reads(
    item: ItemSpec,
    answers: Sequence[LabelledAnswer],
    machine: NDArray[np.int64],
    double_reads: Sequence[DoubleRead],
) -> Reads:
    """Held-out answers with both levels; below them, for the agreement of people, those read twice."""
    columns = {trait.name: column for column, trait in enumerate(item.traits)}
    names = [*(answer.response_id for answer in answers), *(f"twice-{n}" for n in range(len(double_reads)))]
    empty = np.full((len(double_reads), len(item.traits)), np.nan)
    first, second = (np.full((len(names), len(item.traits)), np.nan) for _ in range(2))
    for row, read in enumerate(double_reads, start=len(answers)):
        first[row, columns[read.trait]], second[row, columns[read.trait]] = read.first, read.second
    return Reads(
        item_id=item.item_id,
        traits=item.traits,
        response_ids=names,
        machine=np.vstack([machine.astype(np.float64), empty]),
        human=np.vstack([_human(item, answers).astype(np.float64), empty]),
        first=first,
        second=second,
    )
