"""One night's export as an LMS would write it: thousands of good rows, a few dozen broken ones, two repeats.

Items and draws go in; CSV rows, human scores and the counts a correct ingest must arrive at come out.
Knows no database and nothing of how the product counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from typing import TYPE_CHECKING

from workers.demo.corpus_answers import compose, draw_near_misses, draw_shown
from workers.demo.corpus_readers import read
from workers.demo.corpus_spelling import roughen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.demo.corpus_dice import Dice
    from workers.demo.corpus_rubric import DemoItem

NIGHTLY_HEADER = ("response_id", "item_id", "attempt", "student_id", "submitted_at", "text")
#: Answers longer than this, in characters, are refused at the door.
MAX_TEXT_CHARS = 100_000

_DUPLICATE_SHARE = 0.08
_NON_ANSWER_SHARE = 0.03
_SECOND_ATTEMPT_SHARE = 0.02
_NON_ANSWERS = {
    "en": ("", "", "-", "idk", "i dont know", "I don't know", "?", "no idea", "...", "pass", " "),
    "de": ("", "", "-", "keine Ahnung", "weiß nicht", "weiss ich nicht", "?", "k.A.", "...", " "),
}
_SCHOOL_DAY = datetime(2026, 3, 2, 8, 0, tzinfo=timezone(timedelta(hours=1)))


class BrokenRow(StrEnum):
    """The ways in which a row of the export can be refused."""

    UNKNOWN_ITEM = "unknown_item"
    MISSING_RESPONSE_ID = "missing_response_id"
    TOO_FEW_COLUMNS = "too_few_columns"
    TOO_MANY_COLUMNS = "too_many_columns"
    BAD_ATTEMPT = "bad_attempt"
    TEXT_TOO_LONG = "text_too_long"


NUM_BROKEN = {
    BrokenRow.UNKNOWN_ITEM: 8,
    BrokenRow.MISSING_RESPONSE_ID: 6,
    BrokenRow.TOO_FEW_COLUMNS: 5,
    BrokenRow.TOO_MANY_COLUMNS: 5,
    BrokenRow.BAD_ATTEMPT: 6,
    BrokenRow.TEXT_TOO_LONG: 1,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer with the scores a human reader gave it."""

    response_id: str
    item_id: str
    attempt: int
    student: str
    text: str
    scores: dict[str, int]


@dataclass(frozen=True, slots=True)
class Night:
    """The export and what a correct ingest makes of it; `answers` are the rows to accept, in file order."""

    rows: list[tuple[str, ...]]
    answers: list[Answer]
    num_non_answers: int
    num_accepted_by_item: dict[str, int]


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
        answers.append(
            Answer(f"{prefix}{index:06d}", item.item_id, 1, f"{prefix}s{student:05d}", text, scores)
        )
    return answers


def make_night(items: Sequence[DemoItem], num_answers: int, dice: Dice) -> Night:
    """Write the export of one night.

    Args:
        items: the questions answered
        num_answers: rows that a correct ingest accepts, at least 2
        dice: where the draws come from
    """
    answers = write_answers(items, num_answers, "n", dice)
    num_non_answers = _blank_and_copy(answers, {item.item_id: item for item in items}, dice)
    dice.shuffle(answers)
    _number_attempts(answers, dice)
    rows = [_row(answer, minute) for minute, answer in enumerate(answers)]
    # The later of two rows with one key is the repeat or the conflict, so both go behind their first.
    again = dice.below(num_answers // 2)
    changed = num_answers // 2 + dice.below(num_answers - num_answers // 2)
    conflicting = replace(answers[changed], text=f"{answers[changed].text} I changed my mind.")
    rows += [rows[again], _row(conflicting, num_answers)]
    for broken in _broken_rows(answers, dice):
        rows.insert(dice.below(num_answers), broken)
    by_item = Counter(answer.item_id for answer in answers)
    return Night(rows, answers, num_non_answers, dict(sorted(by_item.items())))


def _blank_and_copy(answers: list[Answer], items: dict[str, DemoItem], dice: Dice) -> int:
    """Put non-answers and exact copies among the answers, in place; returns the number of non-answers."""
    num_non_answers = 0
    originals: dict[str, list[Answer]] = {item_id: [] for item_id in items}
    for index, answer in enumerate(answers):
        earlier = originals[answer.item_id]
        if dice.chance(_NON_ANSWER_SHARE):
            text = dice.pick(_NON_ANSWERS[items[answer.item_id].language])
            answers[index] = replace(answer, text=text, scores=dict.fromkeys(answer.scores, 0))
            num_non_answers += 1
        elif earlier and dice.chance(_DUPLICATE_SHARE):
            copied = dice.pick(earlier)
            answers[index] = replace(answer, text=copied.text, scores=copied.scores)
        else:
            earlier.append(answer)
    return num_non_answers


def _number_attempts(answers: list[Answer], dice: Dice) -> None:
    """Make some answers the second attempt of the response before them to the same item, in place."""
    latest: dict[str, Answer] = {}
    for index, answer in enumerate(answers):
        first = latest.pop(answer.item_id, None)
        if first is not None and dice.chance(_SECOND_ATTEMPT_SHARE):
            answers[index] = replace(answer, response_id=first.response_id, student=first.student, attempt=2)
        else:
            latest[answer.item_id] = answer


def _row(answer: Answer, minute: int) -> tuple[str, ...]:
    submitted_at = (_SCHOOL_DAY + timedelta(seconds=11 * minute)).isoformat()
    return (
        answer.response_id,
        answer.item_id,
        str(answer.attempt),
        answer.student,
        submitted_at,
        answer.text,
    )


def _broken_rows(answers: list[Answer], dice: Dice) -> list[tuple[str, ...]]:
    """Broken variants of good rows under ids of their own, as many of each kind as `NUM_BROKEN` says."""
    kinds = [kind for kind, count in NUM_BROKEN.items() for _ in range(count)]
    rows = []
    for number, kind in enumerate(kinds):
        answer = replace(dice.pick(answers), response_id=f"b{number:06d}", attempt=1)
        rows.append(_break(kind, _row(answer, number), dice))
    return rows


def _break(kind: BrokenRow, row: tuple[str, ...], dice: Dice) -> tuple[str, ...]:
    response_id, item_id, attempt, student, submitted_at, text = row
    match kind:
        case BrokenRow.UNKNOWN_ITEM:
            return (response_id, f"{item_id}-old", attempt, student, submitted_at, text)
        case BrokenRow.MISSING_RESPONSE_ID:
            return (dice.pick(("", " ")), item_id, attempt, student, submitted_at, text)
        case BrokenRow.TOO_FEW_COLUMNS:
            return row[: 2 + dice.below(4)]
        case BrokenRow.TOO_MANY_COLUMNS:
            return (*row, dice.pick(("1.0", "", "and more")))
        case BrokenRow.BAD_ATTEMPT:
            return (
                response_id,
                item_id,
                dice.pick(("first", "1st", "one", "?")),
                student,
                submitted_at,
                text,
            )
        case BrokenRow.TEXT_TOO_LONG:
            return (response_id, item_id, attempt, student, submitted_at, "la " * (MAX_TEXT_CHARS // 3 + 100))
