"""Labelled answers as a model sees them: token ids and a table of levels.

What is checked here is what would otherwise surface as a strange tensor error or as a model that learned
nothing; the room knows no adapter and no loss.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import InvalidInputError
from scoring.text import duplicate_key, normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from scoring.backbone import Backbone
    from scoring.training.folds import Folds
    from scoring.types import ItemSpec, LabelledAnswer

MIN_ANSWERS = 20


@dataclass(frozen=True, slots=True)
class Examples:
    """One fold's answers, ready for the encoder.

    Attributes:
        token_ids: ids with special tokens, unpadded [num_answers][num_tokens]
        levels: human levels, traits in the item's order [num_answers, num_traits]
    """

    token_ids: list[list[int]]
    levels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class FoldExamples:
    """The three folds, ready for the encoder."""

    train: Examples
    validation: Examples
    test: Examples


def encode_folds(item: ItemSpec, folds: Folds, *, backbone: Backbone, max_tokens: int) -> FoldExamples:
    """`encode_examples` of each fold."""
    return FoldExamples(
        *(
            encode_examples(item, fold, backbone=backbone, max_tokens=max_tokens)
            for fold in (folds.train, folds.validation, folds.test)
        )
    )


def encode_examples(
    item: ItemSpec, answers: Sequence[LabelledAnswer], *, backbone: Backbone, max_tokens: int
) -> Examples:
    """Normalise and tokenise answers, and lay their levels out as a table."""
    levels = [[answer.levels[trait.name] for trait in item.traits] for answer in answers]
    return Examples(
        token_ids=backbone.encode([normalise(answer.text) for answer in answers], max_tokens),
        levels=np.array(levels, dtype=np.int64).reshape(len(answers), len(item.traits)),
    )


def check_answers(item: ItemSpec, answers: Sequence[LabelledAnswer]) -> None:
    """Refuse answers that cannot train this item.

    Raises:
        InvalidInputError: too few answers, a response id twice, a trait without a level, an unknown trait,
            or a level outside of the rubric.
    """
    if len(answers) < MIN_ANSWERS:
        raise InvalidInputError(
            f"item {item.item_id!r}: {len(answers)} scored answers, training needs at least {MIN_ANSWERS} "
            "(a few hundred for a useful scorer)"
        )
    seen: set[str] = set()
    for answer in answers:
        if answer.response_id in seen:
            raise InvalidInputError(
                f"item {item.item_id!r}: response {answer.response_id!r} occurs twice; keep one of its scores"
            )
        seen.add(answer.response_id)
        _check_levels(item, answer)


def check_folds(item: ItemSpec, folds: Folds) -> tuple[str, ...]:
    """Refuse folds that cannot train or calibrate; warn of levels that nothing can be learned about.

    Returns:
        warnings, one sentence each

    Raises:
        InvalidInputError: the train or validation fold is empty, or no trait has two levels to tell apart.
    """
    for name, fold in (("train", folds.train), ("validation", folds.validation)):
        if not fold:
            raise InvalidInputError(
                f"item {item.item_id!r}: the {name} fold is empty; mark some answers with fold {name!r}, or "
                "leave all folds out to have them drawn"
            )
    seen = {trait.name: {answer.levels[trait.name] for answer in folds.train} for trait in item.traits}
    if all(len(levels) == 1 for levels in seen.values()):
        raise InvalidInputError(
            f"item {item.item_id!r}: all training answers have the same level; add answers of other levels"
        )
    return tuple(
        f"trait {trait.name!r}: no training answer has level {level}"
        for trait in item.traits
        for level in range(trait.num_levels)
        if level not in seen[trait.name]
    )


def data_digest(answers: Iterable[LabelledAnswer]) -> str:
    """Sha256 (hex) over all that a training depends on, in any order: which data a scorer was trained on."""
    lines = sorted(json.dumps(_identity(answer), sort_keys=True) for answer in answers)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _identity(answer: LabelledAnswer) -> list[object]:
    told: list[object] = [answer.response_id, duplicate_key(answer.text).hex(), answer.levels, answer.fold]
    # Folds keep a student's answers together.
    return told if answer.student is None else [*told, answer.student]


def _check_levels(item: ItemSpec, answer: LabelledAnswer) -> None:
    where = f"item {item.item_id!r}, response {answer.response_id!r}"
    names = {trait.name for trait in item.traits}
    if set(answer.levels) != names:
        raise InvalidInputError(
            f"{where}: has levels for {', '.join(sorted(answer.levels)) or 'nothing'}, the item's traits are "
            f"{', '.join(sorted(names))}"
        )
    for trait in item.traits:
        level = answer.levels[trait.name]
        if not 0 <= level < trait.num_levels:
            raise InvalidInputError(
                f"{where}: level {level} of trait {trait.name!r} is outside of 0..{trait.num_levels - 1}"
            )
