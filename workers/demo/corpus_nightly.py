"""One night at school: who sat which questions and what they wrote, blank answers, copies and second tries.

Items and draws go in; sittings come out. Knows no platform, no file, and nothing of how the product counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from workers.demo.corpus_answers import compose, draw_near_misses, draw_shown
from workers.demo.corpus_readers import read
from workers.demo.corpus_spelling import roughen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.demo.corpus_dice import Dice
    from workers.demo.corpus_rubric import DemoItem

_DUPLICATE_SHARE = 0.08
_NON_ANSWER_SHARE = 0.03
_SECOND_SITTING_SHARE = 0.06
_NON_ANSWERS = {
    "en": ("", "", "-", "idk", "i dont know", "I don't know", "?", "no idea", "...", "pass", " "),
    "de": ("", "", "-", "keine Ahnung", "weiß nicht", "weiss ich nicht", "?", "k.A.", "...", " "),
}
_SCHOOL_DAY = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)
_SITTING = timedelta(minutes=38)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer with the scores a human reader gave it."""

    response_id: str
    item_id: str
    student: str
    text: str
    scores: dict[str, int]


@dataclass(frozen=True, slots=True)
class Sitting:
    """One student's attempt at the night's questions; `attempt` 2 follows the same student's first."""

    student: str
    attempt: int
    started_at: datetime
    answers: tuple[Answer, ...]

    @property
    def ended_at(self) -> datetime:
        """When it was handed in."""
        return self.started_at + _SITTING


def write_answers(items: Sequence[DemoItem], num_answers: int, prefix: str, dice: Dice) -> list[Answer]:
    """Let a class answer: each student takes the items in turn, able and careful in their own way."""
    answers: list[Answer] = []
    ability = carelessness = 0.0
    for index in range(num_answers):
        student, turn = divmod(index, len(items))
        if turn == 0:
            ability = dice.bell()
            carelessness = max(0.0, min(1.0, 0.4 - 0.12 * ability + 0.25 * dice.bell()))
        item = items[turn]
        shown = draw_shown(item, ability, dice)
        near_misses = draw_near_misses(item, shown, dice)
        text = roughen(compose(item, shown, near_misses, dice), item.language, carelessness, dice)
        scores = read(item, shown, near_misses, dice)
        answers.append(Answer(f"{prefix}{index:06d}", item.item_id, f"{prefix}s{student:05d}", text, scores))
    return answers


def make_night(items: Sequence[DemoItem], num_answers: int, prefix: str, dice: Dice) -> list[Sitting]:
    """Let students sit the questions of one night; a student's second sitting stands behind the first.

    Args:
        items: the questions
        num_answers: over all sittings; the last student may not get to the last questions
        prefix: begins every student's number
        dice: where the draws come from
    """
    answers = write_answers(items, num_answers, prefix, dice)
    _blank_and_copy(answers, {item.item_id: item for item in items}, dice)
    sittings: list[Sitting] = []
    for number, (student, group) in enumerate(groupby(answers, attrgetter("student"))):
        started_at = _SCHOOL_DAY + timedelta(minutes=number % 240)
        sitting = Sitting(student, 1, started_at, tuple(group))
        first = sittings[-1] if sittings else None
        if first is not None and _may_follow(sitting, first) and dice.chance(_SECOND_SITTING_SHARE):
            sitting = replace(sitting, student=first.student, attempt=2, started_at=first.started_at)
        sittings.append(sitting)
    return sittings


def _may_follow(second: Sitting, first: Sitting) -> bool:
    # A try that leaves a question blank is taken for none by one of the platforms.
    tries = first, second
    is_full = all(answer.text not in ("", "-") for one in tries for answer in one.answers)
    return is_full and first.attempt == 1 and len(first.answers) == len(second.answers)


def num_non_answers(sittings: Sequence[Sitting]) -> int:
    """How many answers are blank, a dash or a refusal."""
    known = {text for texts in _NON_ANSWERS.values() for text in texts}
    return sum(answer.text in known for sitting in sittings for answer in sitting.answers)


def _blank_and_copy(answers: list[Answer], items: dict[str, DemoItem], dice: Dice) -> None:
    """Put non-answers and exact copies among the answers, in place."""
    originals: dict[str, list[Answer]] = {item_id: [] for item_id in items}
    for index, answer in enumerate(answers):
        earlier = originals[answer.item_id]
        if dice.chance(_NON_ANSWER_SHARE):
            text = dice.pick(_NON_ANSWERS[items[answer.item_id].language])
            answers[index] = replace(answer, text=text, scores=dict.fromkeys(answer.scores, 0))
        elif earlier and dice.chance(_DUPLICATE_SHARE):
            copied = dice.pick(earlier)
            answers[index] = replace(answer, text=copied.text, scores=copied.scores)
        else:
            earlier.append(answer)
