"""The values that flow through scoring: frozen, without behaviour beyond their own consistency."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

ItemId = NewType("ItemId", str)
#: Content address (sha256, hex) of an extractor's folder in the artifact store.
ExtractorKey = NewType("ExtractorKey", str)
#: Content address (sha256, hex) of a scorer's folder in the artifact store.
ScorerKey = NewType("ScorerKey", str)


class ConditionCode(StrEnum):
    """Why an answer gets no machine level: decided by rules before the model is asked."""

    BLANK = "blank"
    TOO_SHORT = "too_short"
    COPIED_PROMPT = "copied_prompt"
    REFUSED = "refused"
    WRONG_LANGUAGE = "wrong_language"
    NOT_TEXT = "not_text"


@dataclass(frozen=True, slots=True)
class Trait:
    """One thing scored in an item, with levels 0..num_levels-1."""

    name: str
    num_levels: int
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_levels < 2:
            raise ValueError(f"trait {self.name!r} needs at least two levels, has {self.num_levels}")
        if self.labels and len(self.labels) != self.num_levels:
            raise ValueError(
                f"trait {self.name!r} has {self.num_levels} levels and {len(self.labels)} labels"
            )


@dataclass(frozen=True, slots=True)
class ItemSpec:
    """One question with its rubric, as the model core needs it."""

    item_id: ItemId
    prompt: str
    language: str
    traits: tuple[Trait, ...]
    rubric: str = ""

    def __post_init__(self) -> None:
        names = [trait.name for trait in self.traits]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"item {self.item_id!r} needs at least one trait, each with its own name")

    @property
    def num_levels(self) -> tuple[int, ...]:
        """Levels of each trait [num_traits]."""
        return tuple(trait.num_levels for trait in self.traits)

    @property
    def num_logits(self) -> int:
        """Width of the head: the levels of all traits, one softmax group after the other."""
        return sum(self.num_levels)


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """One human-scored answer; `levels` maps a trait's name to its level."""

    response_id: str
    text: str
    levels: dict[str, int]
    fold: str | None = None
    student: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """How one trait's logits become a level, a confidence and a review flag."""

    temperature: float = 1.0
    #: Cut points on the expected level, ascending, one fewer than levels; empty means "most likely level".
    cut_points: tuple[float, ...] = ()
    #: Answers whose confidence is below this go to a human reader.
    review_below: float = 0.0


@dataclass(frozen=True, slots=True)
class Requests:
    """Answers to score, column by column; any mix of items.

    Attributes:
        scorers: content address of the scorer that each answer wants [num_answers]
        texts: the answers as submitted; the engine normalises [num_answers]
        token_ids: what the engine's `prepare` made of the texts; None until then [num_answers][tokens]
    """

    scorers: Sequence[ScorerKey]
    texts: Sequence[str]
    token_ids: Sequence[tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        if len(self.scorers) != len(self.texts):
            raise ValueError(f"{len(self.scorers)} scorers for {len(self.texts)} texts")

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Iterable[int]) -> Requests:
        """The requests at these indices, in this order."""
        chosen = list(indices)
        ids = self.token_ids
        return Requests(
            [self.scorers[index] for index in chosen],
            [self.texts[index] for index in chosen],
            None if ids is None else [ids[index] for index in chosen],
        )

    @classmethod
    def joined(cls, parts: Sequence[Requests]) -> Requests:
        """Several in a row; prepared if all of them are."""
        ids = [part.token_ids for part in parts if part.token_ids is not None]
        return cls(
            [key for part in parts for key in part.scorers],
            [text for part in parts for text in part.texts],
            [row for rows in ids for row in rows] if len(ids) == len(parts) else None,
        )


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores, column by column; one row per answer and trait, in the order of the requests.

    Attributes:
        answer: index of the answer in the requests [num_scores]
        trait: the trait's name [num_scores]
        level: decided level, 0..num_levels-1 [num_scores]
        probabilities: calibrated probability of each level [num_scores][num_levels]
        confidence: calibrated probability of the decided level [num_scores]
        needs_review: whether confidence is below the scorer's review threshold [num_scores]
    """

    answer: NDArray[np.int32]
    trait: list[str]
    level: NDArray[np.int16]
    probabilities: list[list[float]]
    confidence: NDArray[np.float32]
    needs_review: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.trait)

    def take(self, indices: NDArray[np.intp]) -> Scores:
        """The rows at these indices, in this order; `answer` keeps its meaning."""
        return Scores(
            answer=self.answer[indices],
            trait=[self.trait[index] for index in indices],
            level=self.level[indices],
            probabilities=[self.probabilities[index] for index in indices],
            confidence=self.confidence[indices],
            needs_review=self.needs_review[indices],
        )


@dataclass(frozen=True, slots=True)
class BankState:
    """How full an engine's bank of extractors is, and what came and went since its start.

    Attributes:
        num_resident: extractors in the bank
        num_bytes: memory of the bank, free slots included
        num_brought: extractors read from the store into the bank
        num_evicted: extractors that had to leave for others
        num_overflows: calls that wanted more extractors than fit at once
    """

    num_resident: int
    num_bytes: int
    num_brought: int
    num_evicted: int
    num_overflows: int


@dataclass(frozen=True, slots=True)
class TraitMetrics:
    """Agreement with human scores on held-out answers, one trait."""

    trait: str
    num_answers: int
    qwk: float
    accuracy: float
    macro_f1: float


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What one training run gave: where the scorer lies and how well it does on held-out answers."""

    item_id: ItemId
    scorer_key: ScorerKey
    extractor_key: ExtractorKey
    backbone: str
    backbone_revision: str
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    extractor_num_bytes: int
    num_train: int
    num_validation: int
    num_test: int
    num_epochs: int
    seed: int
    seconds: float
    #: Metrics on the test fold; empty when it holds no answer.
    metrics: tuple[TraitMetrics, ...] = field(default=())
    #: What a person should know about the data, one sentence each.
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class BaselineReport:
    """How well a whole encoder of one item's own does; nothing of it is stored."""

    item_id: ItemId
    backbone: str
    backbone_revision: str
    #: What it would take to keep it: every weight of encoder and head.
    num_bytes: int
    num_train: int
    num_validation: int
    num_test: int
    num_epochs: int
    seed: int
    seconds: float
    #: Metrics on the test fold; empty when it holds no answer.
    metrics: tuple[TraitMetrics, ...] = field(default=())
    #: What a person should know about the data, one sentence each.
    warnings: tuple[str, ...] = field(default=())
