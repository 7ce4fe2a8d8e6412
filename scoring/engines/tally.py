"""From logits to the columns of `Scores`: one decision per scorer and trait, over all its answers at once.

Shared by all engines; knows neither texts nor weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import NotANumberError
from scoring.heads import decide
from scoring.types import Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scoring.engines.roster import LoadedScorer


def tally(scorers: Sequence[LoadedScorer], logits: NDArray[np.float32]) -> Scores:
    """Decide every trait of every answer.

    Args:
        scorers: the scorer of each answer [num_answers]
        logits: columns beyond a scorer's own width are ignored [num_answers, max_width]

    Raises:
        NotANumberError: an answer's logits are not all finite, so that no level follows from them.
    """
    if not np.isfinite(logits).all():
        _refuse_broken(scorers, logits)
    answers_of: dict[LoadedScorer, list[int]] = {}
    for index, scorer in enumerate(scorers):
        answers_of.setdefault(scorer, []).append(index)
    num_traits = np.array([len(scorer.artifact.item.traits) for scorer in scorers], dtype=np.intp)
    scores = _empty(num_traits)
    first = np.cumsum(num_traits) - num_traits
    for scorer, answers in answers_of.items():
        _fill(scores, scorer, logits[answers], first[answers])
    return scores


def _refuse_broken(scorers: Sequence[LoadedScorer], logits: NDArray[np.float32]) -> None:
    for scorer, row in zip(scorers, logits, strict=True):
        item = scorer.artifact.item
        if not np.isfinite(row[: item.num_logits]).all():
            raise NotANumberError(
                f"scorer {scorer.key[:12]} of item {item.item_id}: a logit is not a finite number"
            )


def _empty(num_traits: NDArray[np.intp]) -> Scores:
    num_scores = int(num_traits.sum())
    return Scores(
        answer=np.repeat(np.arange(len(num_traits), dtype=np.int32), num_traits),
        trait=[""] * num_scores,
        level=np.zeros(num_scores, dtype=np.int16),
        probabilities=[[]] * num_scores,
        confidence=np.zeros(num_scores, dtype=np.float32),
        needs_review=np.zeros(num_scores, dtype=np.bool_),
    )


def _fill(scores: Scores, scorer: LoadedScorer, logits: NDArray[np.float32], first: NDArray[np.intp]) -> None:
    column = 0
    for offset, trait in enumerate(scorer.artifact.item.traits):
        places = first + offset
        part = logits[:, column : column + trait.num_levels]
        decided = decide(part, scorer.artifact.decisions[trait.name])
        scores.level[places] = decided.level
        scores.confidence[places] = decided.confidence
        scores.needs_review[places] = decided.needs_review
        for place, probabilities in zip(places.tolist(), decided.probabilities.tolist(), strict=True):
            scores.trait[place] = trait.name
            scores.probabilities[place] = probabilities
        column += trait.num_levels
