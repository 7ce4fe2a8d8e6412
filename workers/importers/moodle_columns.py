"""Which column of a Moodle report is which, whatever the language of its headers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scoring.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

_GRADE = re.compile(r".+/\d+[.,]\d+")
_NUMBERED = re.compile(r"(\D+?)\s*(\d+\w*)")
_RESPONSE = frozenset(
    ("response", "antwort", "réponse", "respuesta", "risposta", "antwoord", "resposta", "responses")
)
_QUESTION = frozenset(("question", "frage", "pregunta", "domanda", "vraag", "questão", "pergunta"))
#: Identity columns that tell students apart, best first; names of people do not.
_STUDENT = (
    *("id number", "id-nummer", "numéro d'identification", "número de id", "codice identificativo"),
    *("username", "anmeldename", "nom d'utilisateur", "nombre de usuario", "gebruikersnaam"),
    *("email address", "e-mail-adresse", "adresse de courriel", "dirección de correo", "indirizzo email"),
    *("e-mailadres", "endereço de e-mail", "email"),
)


@dataclass(frozen=True, slots=True)
class Slot:
    """One place of the quiz: its number and columns."""

    number: str
    response: int
    question: int | None


@dataclass(frozen=True, slots=True)
class Columns:
    """Where everything stands."""

    student: int
    state: int
    started: int
    completed: int
    slots: tuple[Slot, ...]


def found(header: Sequence[str]) -> bool:
    """Whether a grade column stands far enough to the right and is followed by numbered columns."""
    grade = _grade(header)
    return grade is not None and any(_NUMBERED.fullmatch(name) for name in header[grade + 1 :])


def columns(header: Sequence[str], *, student_column: str | None) -> Columns:
    """Find every column.

    Raises:
        InvalidInputError: no column tells the students apart, or responses cannot be told from questions.
    """
    grade = _grade(header)
    if grade is None:
        raise InvalidInputError("no grade column such as Grade/10.00")
    return Columns(
        student=_student(header[: grade - 4], student_column),
        # State, started, completed, duration and grade stand in this order in every language.
        state=grade - 4,
        started=grade - 3,
        completed=grade - 2,
        slots=_slots(header, grade + 1),
    )


def _grade(header: Sequence[str]) -> int | None:
    return next((at for at, name in enumerate(header) if at >= 6 and _GRADE.fullmatch(name)), None)


def _student(lead: Sequence[str], wanted: str | None) -> int:
    names = [name.casefold() for name in lead]
    for name in _STUDENT if wanted is None else (wanted.casefold(),):
        if name in names:
            return names.index(name)
    if wanted is None and len(names) == 3:
        return 2  # last name, first name, and the only thing that identifies
    raise InvalidInputError(
        f"no column tells the students apart (found {', '.join(lead)}); let the site's report show the ID"
        " number or the e-mail address, or name a column in student_column of this source"
    )


def _slots(header: Sequence[str], first: int) -> tuple[Slot, ...]:
    labels: dict[str, dict[str, int]] = {}
    for at in range(first, len(header)):
        if parts := _NUMBERED.fullmatch(header[at]):
            labels.setdefault(parts[1].casefold(), {})[parts[2]] = at
    known = [label for label in labels if label in _RESPONSE]
    # In every language a slot's columns are question, response, right answer, as far as they are shown.
    by_place = {1: 0, 3: 1}.get(len(labels))
    if known:
        response = known[0]
    elif by_place is not None:
        response = list(labels)[by_place]
    else:
        raise InvalidInputError(
            f"cannot tell responses from questions in {', '.join(labels) or 'no numbered columns'};"
            " download the report in English, or with responses only"
        )
    question = next((label for label in labels if label in _QUESTION), None)
    if question is None and len(labels) == 3:
        question = next(iter(labels))
    asked = labels.get(question or "", {})
    return tuple(Slot(number, at, asked.get(number)) for number, at in labels[response].items())
