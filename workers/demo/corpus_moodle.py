"""The night as a German Moodle exports it: "Responses" with the questions' texts, with what makes it awkward.

Headers and dates in the downloader's language and time zone; a dash where nothing is; random questions, so
that a slot holds another question for every student; a second try in a row without an id; students who never
began and some who never ended; rows cut short; the same sitting twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from workers.demo.corpus_export import Expected, Sheet, changed_mind
from workers.demo.corpus_nightly import num_non_answers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from workers.demo.corpus_dice import Dice
    from workers.demo.corpus_export import Cells
    from workers.demo.corpus_nightly import Sitting
    from workers.demo.corpus_rubric import DemoItem

TIME_ZONE = "Europe/Berlin"

_LEAD = ("Nachname", "Vorname", "ID-Nummer", "E-Mail-Adresse", "Status", "Begonnen", "Beendet", "Dauer")
_ID, _MAIL, _STATE, _STARTED, _ENDED = 2, 3, 4, 5, 6
_MONTHS = (
    *("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli"),
    *("August", "September", "Oktober", "November", "Dezember"),
)
_NUM_BROKEN = {"student_missing": 5, "wrong_columns": 4, "date_unreadable": 3}
_NUM_NEVER_BEGUN, _NUM_NEVER_ENDED = 12, 5


def moodle_sheet(
    items: Sequence[DemoItem], sittings: Sequence[Sitting], dice: Dice
) -> tuple[Sheet, Expected]:
    """The rows of the export, and what a correct ingest must count.

    Args:
        items: the questions
        sittings: who answered what, a second sitting behind its first; at least three students
        dice: where broken rows come from and go to
    """
    sheet = Sheet(_header(len(items)))
    for sitting, second in zip(sittings, [*sittings[1:], None], strict=True):
        if sitting.attempt == 2:
            continue
        if second is None or second.attempt == 1:
            sheet.add(_row(items, sitting))
        else:
            sheet.add(_row(items, sitting, state=""), _second_try(items, second))
    for kind, count in _NUM_BROKEN.items():
        for number in range(count):
            sheet.scatter(_broken(kind, items, sittings, number, dice), dice, reason=kind)
    for row in _unfinished(items, sittings, dice):
        sheet.scatter(row, dice)
    # The later of two rows with one key is the repeat or the conflict, so both go behind their first.
    again, changed, *_ = [sitting for sitting in sittings if sitting.attempt == 1]
    sheet.add(_row(items, again))
    sheet.add(_row(items, changed_mind(changed)))
    answers = [answer for sitting in sittings for answer in sitting.answers]
    by_item = {item.item_id: sum(answer.item_id == item.item_id for answer in answers) for item in items}
    expected = Expected(
        num_accepted=len(answers),
        num_repeated=len(again.answers) + len(changed.answers) - 1,
        num_conflicts=1,
        num_rejected=dict(sheet.num_rejected),
        num_passed_over=sum(len(items) - len(sitting.answers) for sitting in sittings),
        num_non_answers=num_non_answers(sittings),
        num_accepted_by_item=by_item,
    )
    return sheet, expected


def moodle_items(items: Sequence[DemoItem]) -> Iterable[tuple[str, str]]:
    """Which question is which item, by its text."""
    return ((item.prompt, item.item_id) for item in items)


def _header(num_slots: int) -> list[str]:
    slots = range(1, num_slots + 1)
    return [*_LEAD, "Bewertung/10,00"] + [
        f"{name} {slot}" for slot in slots for name in ("Frage", "Antwort", "Richtige Antwort")
    ]


def _row(items: Sequence[DemoItem], sitting: Sitting, *, state: str = "Beendet") -> Cells:
    """Questions in this student's own order; a blank answer is a dash."""
    given = {answer.item_id: answer.text for answer in sitting.answers}
    number = int(sitting.student[-5:])
    cells = [
        f"Schüler {number}",
        "Anna" if number % 2 else "Ben",
        sitting.student,
        f"{sitting.student}@schule.example",
        state,
        *(_date(moment) for moment in (sitting.started_at, sitting.ended_at)),
        *("38 Minuten", "-"),
    ]
    for place in range(len(items)):
        item = items[(place + number) % len(items)]
        text = given.get(item.item_id)
        cells += ["", "", ""] if text is None else [item.prompt, text or "-", "-"]
    return cells


def _second_try(items: Sequence[DemoItem], sitting: Sitting) -> Cells:
    row = _row(items, sitting)
    row[_ID] = row[_MAIL] = ""
    return row


def _date(moment: datetime) -> str:
    # Moodle puts a blank where its own format has a comma.
    local = moment.astimezone(ZoneInfo(TIME_ZONE))
    return f"{local.day}. {_MONTHS[local.month - 1]} {local.year}  {local:%H:%M}"


def _broken(
    kind: str, items: Sequence[DemoItem], sittings: Sequence[Sitting], number: int, dice: Dice
) -> Cells:
    row = _row(items, replace(dice.pick(sittings), student=f"broken-{kind}-{number:05d}"))
    if kind == "student_missing":
        row[_ID] = "-"
    elif kind == "date_unreadable":
        row[_STARTED] = dice.pick(("gestern", "3/2/26 8:30", "?"))
    elif kind == "wrong_columns":
        row = [*row, "und mehr"] if number % 2 else row[: 2 + dice.below(len(row) - 2)]
    return row


def _unfinished(items: Sequence[DemoItem], sittings: Sequence[Sitting], dice: Dice) -> Iterable[Cells]:
    """Rows that hold no answer: who never began has dashes only, who never ended has no end."""
    for number in range(_NUM_NEVER_BEGUN + _NUM_NEVER_ENDED):
        row = _row(items, replace(dice.pick(sittings), student=f"absent-{number:05d}"))
        if number < _NUM_NEVER_BEGUN:
            row[_STATE:] = ["-"] * (len(row) - _STATE)
        else:
            row[_STATE], row[_ENDED] = "In Bearbeitung", "-"
        yield row
