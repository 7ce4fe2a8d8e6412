"""A plan is tried: the group merged and stored, both scorers of each item asked about held-out answers.

Nothing is registered here: what a killed trial leaves in the artifact store is known to nobody.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from db import clouds, readable
from scoring.config import EngineConfig
from scoring.engines.torch import TorchEngine
from scoring.merging.evidence import GroupEvidence, PairedLevels, compare
from scoring.merging.fusing import FusionConfig, fuse
from scoring.merging.members import Member, levels_of, prepare
from scoring.merging.storing import store_fusion
from scoring.text import condition_code, duplicate_key
from scoring.types import Requests, ScorerKey
from workers.evaluating import plain
from workers.lessons import lessons_of
from workers.writer import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

    from db.clouds import RecentAnswer
    from scoring.artifacts import ArtifactStore
    from scoring.evaluation.policy import Policy
    from scoring.merging.storing import StoredFusion
    from scoring.types import ItemSpec, LabelledAnswer
    from workers.lessons import Lessons
    from workers.merging.planning import Plan
    from workers.merging.standing import Readers, StandingItem

#: Answers of an item that nobody read, which its own model teaches about.
_MAX_UNREAD = 250


@dataclass(frozen=True, slots=True, eq=False)
class TrialMember:
    """One item of a trial.

    Attributes:
        standing: what serves it
        member: its own model and its answers
        held_out: answers that neither scorer learned from
        folds: fold by submission, of all of these answers; those that nobody read are trained on
    """

    standing: StandingItem
    member: Member
    held_out: Sequence[LabelledAnswer]
    folds: Mapping[int, str]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What came of a plan.

    Attributes:
        plan: the group
        method: joint, least_squares, mean; own for a split
        stored: extractor and scorers; None for a split, whose scorers have been there all along
        evidence: both scorers on held-out answers
    """

    plan: Plan
    method: str
    stored: StoredFusion | None
    evidence: GroupEvidence
    members: tuple[TrialMember, ...]


class Laboratory:
    """Where plans are tried: one backbone, one store, one policy."""

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        readers: Readers,
        *,
        policy: Policy,
        config: FusionConfig | None = None,
    ) -> None:
        self._database = database
        self._store = store
        self._readers = readers
        self._policy = policy
        self._config = config or FusionConfig()

    def attempt(self, plan: Plan, items: Mapping[str, StandingItem], check: Callable[[], None]) -> Trial:
        """Merge a group (or ask its items' own scorers, for a split) and measure it.

        Args:
            plan: the group.
            items: what serves now.
            check: called between steps; raises where the run is no longer ours.

        Raises:
            DatabaseUnavailableError: Postgres does not answer.
            StoreUnavailableError: the store does not answer.
            PermanentError: the group cannot be merged; the message says why.
        """
        with database_errors(), self._database.connect() as connection:
            members = tuple(self._member(connection, items[name]) for name in plan.items)
        stored, method = None, "own"
        if plan.kind != "split":
            stored, method = self._merged(members, check)
        check()
        after = (
            [ScorerKey(one.standing.served.own_key) for one in members]
            if stored is None
            else list(stored.scorer_keys)
        )
        return Trial(plan, method, stored, self._measured(members, after), members)

    def _merged(self, members: Sequence[TrialMember], check: Callable[[], None]) -> tuple[StoredFusion, str]:
        reader = self._readers.of(members[0].standing)
        pupils = []
        for one in members:
            check()
            pupils.append(prepare(one.member, reader))
        fusion = fuse(
            pupils,
            reader=reader,
            backbone=self._readers.backbone,
            config=self._config,
            progress=lambda _epoch, _epochs: check(),
        )
        lineage = {
            "config": plain(asdict(self._config)),
            "num_train": {str(one.member.item.item_id): len(one.member.train) for one in members},
            "validation_losses": list(fusion.validation_losses),
        }
        stored = store_fusion(
            fusion, [one.member for one in members], reader=reader, store=self._store, lineage=lineage
        )
        return stored, fusion.method

    def _measured(self, members: Sequence[TrialMember], after: Sequence[ScorerKey]) -> GroupEvidence:
        """Both scorers as a worker runs them: from the store, golden rows and all."""
        engine = TorchEngine(self._readers.backbone, self._store, EngineConfig())
        pairs = []
        for one, key in zip(members, after, strict=True):
            item, answers = one.standing.item, one.held_out
            champion = ScorerKey(one.standing.served.champion_key)
            before, new = (_levels(engine, each, item, answers) for each in (champion, key))
            human = levels_of(item, answers)
            pairs.append(PairedLevels(str(item.item_id), item.traits, before, new, human))
        return compare(pairs, self._policy)

    def _member(self, connection: Connection, standing: StandingItem) -> TrialMember:
        lessons = lessons_of(connection, standing.item, None)
        served = standing.served
        folds = readable.folds_of(connection, served.own)
        trained_on = {number for number, fold in folds.items() if fold == "train"}
        learned = readable.learned_from(connection, served.champion)
        learned |= readable.learned_from(connection, served.own)
        unread = _unread(connection, standing.item, lessons)
        member = Member(
            scorer=standing.scorer,
            extractor=standing.extractor,
            train=lessons.of_fold("train"),
            # Folds move as answers come in: what the item's own model knows by heart calibrates nothing.
            validation=lessons.of_fold("validation", without=trained_on),
            unread=[answer.text for answer in unread],
        )
        left_out = {"train": set[int](), "validation": trained_on, "test": learned}
        used = {number: fold for number, fold in lessons.folds.items() if number not in left_out[fold]}
        used |= {answer.submission_id: "train" for answer in unread}
        return TrialMember(standing, member, lessons.held_out(learned), used)


def _unread(connection: Connection, item: ItemSpec, lessons: Lessons) -> list[RecentAnswer]:
    """Recent answers that nobody read; none with the text of an answer that somebody did."""
    known = {duplicate_key(answer.text) for answer in lessons.answers}
    recent = clouds.recent_answers(connection, item.item_id, limit=_MAX_UNREAD + len(known))
    unread = [
        answer
        for answer in recent
        if answer.text_key not in known
        and condition_code(answer.text, prompt=item.prompt, language=item.language) is None
    ]
    return unread[-_MAX_UNREAD:]


def _levels(
    engine: TorchEngine, key: ScorerKey, item: ItemSpec, answers: Sequence[LabelledAnswer]
) -> NDArray[np.int64]:
    """A scorer's levels [num_answers, num_traits]."""
    engine.load(key)
    table = np.zeros((len(answers), len(item.traits)), dtype=np.int64)
    if not answers:
        return table
    scores = engine.score(Requests([key] * len(answers), [answer.text for answer in answers]))
    place = {trait.name: column for column, trait in enumerate(item.traits)}
    table[scores.answer, [place[name] for name in scores.trait]] = scores.level
    return table
