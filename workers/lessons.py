"""What an item is retrained on: answers that people read, from the ledger and perhaps a file, in folds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from db import readable
from scoring.text import condition_code
from scoring.training.folds import draw_folds
from scoring.types import LabelledAnswer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import Connection

    from db.readable import ReadAnswer
    from scoring.types import ItemSpec


@dataclass(frozen=True, slots=True)
class History:
    """Human-scored answers that are not in the ledger: a file's, by item, and the file's identity."""

    answers: Mapping[str, Sequence[LabelledAnswer]]
    file_name: str
    file_sha256: str
    #: The source under whose name the ledger may know the same students.
    source: str


@dataclass(frozen=True, slots=True)
class Lessons:
    """One item's answers, folds drawn, and which of them stand in the ledger.

    Attributes:
        answers: every one with its fold
        folds: fold by the number of the submission, for the lineage
        num_history: answers that come from a file
        num_coded: answers left out because a rule, not the model, decides on them
    """

    answers: tuple[LabelledAnswer, ...]
    folds: Mapping[int, str]
    num_history: int
    num_coded: int

    def held_out(self, learned: Collection[int]) -> list[LabelledAnswer]:
        """Test answers that a scorer with this lineage has not learned from either."""
        return self.of_fold("test", without=learned)

    def of_fold(self, fold: str, *, without: Collection[int] = ()) -> list[LabelledAnswer]:
        """A fold's answers but for these submissions."""
        left_out = {_name(submission_id) for submission_id in without}
        return [one for one in self.answers if one.fold == fold and one.response_id not in left_out]


def lessons_of(connection: Connection, item: ItemSpec, history: History | None) -> Lessons:
    """Read an item's answers and draw their folds, all together.

    Folds never put equal answers, or one student, on two sides: not within the ledger, not within a file,
    and not between the two where the ledger knows the file's students.
    """
    found = readable.read_answers(connection, item.item_id)
    kept = [one for one in found if not _is_coded(one.text, item)]
    told = _history_answers(connection, item, history)
    answers = [*map(_answer, kept), *told]
    folds = draw_folds(item.item_id, answers)
    return Lessons(
        answers=tuple(replace(one, fold=fold) for one, fold in zip(answers, folds, strict=True)),
        folds={one.submission_id: fold for one, fold in zip(kept, folds, strict=False)},
        num_history=len(told),
        num_coded=len(found) - len(kept),
    )


def told_data(lessons: Lessons, history: History | None) -> dict[str, Any]:
    """What a run says about its data beside the lineage: numbers, and the identity of a file."""
    told: dict[str, Any] = {
        "num_answers": len(lessons.answers),
        "num_submissions": len(lessons.folds),
        "num_left_out": lessons.num_coded,
    }
    if history is None or not lessons.num_history:
        return told
    return told | {
        "num_history": lessons.num_history,
        "file": history.file_name,
        "sha256": history.file_sha256,
    }


def _history_answers(connection: Connection, item: ItemSpec, history: History | None) -> list[LabelledAnswer]:
    if history is None:
        return []
    answers = [one for one in history.answers.get(item.item_id, ()) if not _is_coded(one.text, item)]
    students = sorted({one.student for one in answers if one.student is not None})
    keys = readable.pseudonyms(connection, history.source, students)
    return [
        replace(
            one,
            response_id=f"history-{one.response_id}",
            student=None if one.student is None else str(keys.get(one.student, f"history-{one.student}")),
        )
        for one in answers
    ]


def _answer(read: ReadAnswer) -> LabelledAnswer:
    student = None if read.student_key is None else str(read.student_key)
    return LabelledAnswer(_name(read.submission_id), read.text, read.levels, student=student)


def _name(submission_id: int) -> str:
    return f"submission-{submission_id}"


def _is_coded(text: str, item: ItemSpec) -> bool:
    return condition_code(text, prompt=item.prompt, language=item.language) is not None
