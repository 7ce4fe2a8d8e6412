"""The night as Canvas Classic exports it: "Student Analysis" for all versions, with what makes it awkward.

Two columns a question, the second named by its points only; a question with choices; one that is no longer
scored and was given to few; students without an id; rows cut short; the same sitting twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from workers.demo.corpus_export import MAX_TEXT_CHARS, Expected, Sheet, changed_mind
from workers.demo.corpus_nightly import num_non_answers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workers.demo.corpus_dice import Dice
    from workers.demo.corpus_export import Cells
    from workers.demo.corpus_nightly import Sitting
    from workers.demo.corpus_rubric import DemoItem

_LEAD = ("name", "id", "sis_id", "section", "section_id", "section_sis_id", "submitted", "attempt")
_TAIL = ("n correct", "n incorrect", "score")
_STUDENT, _SUBMITTED = 1, 6
#: Numbers of questions as Canvas gives them; the first one has choices and no answer to score.
_CHOICE, _FIRST = 40, 41
#: Stands in the item map and in no item file.
RETIRED_ITEM = "sci-candle-old"
_NUM_RETIRED = 8
_NUM_BROKEN = {"student_missing": 6, "wrong_columns": 10, "date_unreadable": 4, "text_too_long": 1}


def canvas_sheet(
    items: Sequence[DemoItem], sittings: Sequence[Sitting], dice: Dice
) -> tuple[Sheet, Expected]:
    """The rows of the export, and what a correct ingest must count.

    Args:
        items: the questions, in the order of the quiz
        sittings: who answered what; at least three
        dice: where broken rows come from and go to
    """
    sheet = Sheet(_header(items))
    for number, sitting in enumerate(sittings):
        sheet.add(_row(items, sitting, retired="I forgot." if number < _NUM_RETIRED else None))
    for kind, count in _NUM_BROKEN.items():
        for number in range(count):
            sheet.scatter(_broken(kind, items, sittings, number, dice), dice, reason=kind)
    sheet.num_rejected["unknown_item"] = min(_NUM_RETIRED, len(sittings))
    # The later of two rows with one key is the repeat or the conflict, so both go behind their first.
    again, changed = sittings[-1], sittings[-2]
    sheet.add(_row(items, again))
    sheet.add(_row(items, changed_mind(changed)))
    answers = [answer for sitting in sittings for answer in sitting.answers]
    by_item = {item.item_id: sum(answer.item_id == item.item_id for answer in answers) for item in items}
    expected = Expected(
        num_accepted=len(answers),
        num_repeated=len(again.answers) + len(changed.answers) - 1,
        num_conflicts=1,
        num_rejected=dict(sheet.num_rejected),
        num_passed_over=len(sittings) + 3,
        num_non_answers=num_non_answers(sittings),
        num_accepted_by_item=by_item,
    )
    return sheet, expected


def canvas_items(items: Sequence[DemoItem]) -> Iterable[tuple[str, str]]:
    """Which question is which item; the one with choices is none."""
    for number, item in enumerate(items, start=_FIRST):
        yield str(number), item.item_id
    yield str(_FIRST + len(items)), RETIRED_ITEM


def _header(items: Sequence[DemoItem]) -> list[str]:
    asked = [
        (_CHOICE, "Which of these is a gas at room temperature?"),
        *((number, item.prompt) for number, item in enumerate(items, start=_FIRST)),
        (_FIRST + len(items), "Why does a candle go out\nunder a glass?"),
    ]
    return [*_LEAD, *(cell for number, text in asked for cell in (f"{number}: {text}", "1.0")), *_TAIL]


def _row(items: Sequence[DemoItem], sitting: Sitting, *, retired: str | None = None) -> Cells:
    """A question that was not given to the student has two empty cells, a blank one only the first."""
    given = {answer.item_id: answer.text for answer in sitting.answers}
    cells = [
        f"Student {sitting.student}",
        sitting.student,
        f"sis-{sitting.student}",
        "Period 1, Period 3",
        "7, 9",
        "",
        f"{sitting.ended_at:%Y-%m-%d %H:%M:%S} UTC",
        str(sitting.attempt),
        *("oxygen", "1.0"),
    ]
    for item in items:
        text = given.get(item.item_id)
        cells += ["", ""] if text is None else [text, "0"]
    cells += ["", ""] if retired is None else [retired, "0"]
    return [*cells, "1", "0", "1.0"]


def _broken(
    kind: str, items: Sequence[DemoItem], sittings: Sequence[Sitting], number: int, dice: Dice
) -> Cells:
    sitting = replace(dice.pick(sittings), student=f"broken-{kind}-{number}", attempt=1)
    if kind == "text_too_long":
        long = replace(sitting.answers[0], text="la " * (MAX_TEXT_CHARS // 3 + 100))
        sitting = replace(sitting, answers=(long,))
    row = _row(items, sitting)
    if kind == "student_missing":
        row[_STUDENT] = dice.pick(("", " "))
    elif kind == "date_unreadable":
        row[_SUBMITTED] = dice.pick(("last Tuesday", "3/2/26 8:30", "?"))
    elif kind == "wrong_columns":
        row = [*row, "and more"] if number % 2 else row[: 2 + dice.below(len(row) - 2)]
    return row
