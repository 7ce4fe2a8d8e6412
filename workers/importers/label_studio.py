"""Label Studio's JSON export: one array of tasks, each with the annotations that people made.

A task's data must name the answer (`response_id`, perhaps `attempt`, `item_id`, `student_id`). A control is
named after its trait, or `score` where the item has one. Every annotator counts as a rater of their own;
cancelled annotations and predictions do not count.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from db.humans import HumanRow
from db.intake import RejectedRow
from scoring.errors import InvalidInputError
from workers.importers.fields import FieldFault, identifier, optional_identifier, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The whole array is in memory: so many bytes hold the reads of a large team's year.
MAX_BYTES = 200_000_000

_ONLY_TRAIT = "score"


def is_export(path: Path) -> bool:
    """Whether a file begins as an array, after blanks and a mark."""
    try:
        if not path.is_file():  # opening a pipe waits for whoever writes into it
            return False
        with path.open("rb") as stream:
            return stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError:
        return False  # whoever reads it says why


def human_scores(path: Path) -> Iterator[HumanRow | RejectedRow]:
    """Human scores of an export; a row's `line` is the task's place in the array, from 1.

    Raises:
        InvalidInputError: it is not an array of tasks with annotations, or too large.
    """
    tasks = _tasks(path)
    for place, task in enumerate(tasks, start=1):
        try:
            yield from _scores(place, task)
        except FieldFault as fault:
            yield RejectedRow(place, fault.reason, fault.detail)


def _tasks(path: Path) -> list[dict[str, Any]]:
    try:
        num_bytes = path.stat().st_size
        if num_bytes > MAX_BYTES:
            raise InvalidInputError(
                f"{path}: has {num_bytes:,} bytes, {MAX_BYTES:,} are allowed; export less"
            )
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"{path}: cannot be read: {type(error).__name__}") from error
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"{path}: line {error.lineno}: {error.msg}") from error
    except ValueError as error:
        raise InvalidInputError(f"{path}: a number has too many digits") from error
    if not all(isinstance(task, dict) and isinstance(task.get("annotations"), list) for task in tasks):
        raise InvalidInputError(
            f"{path}: an array, but not of tasks with annotations; choose JSON, not JSON-MIN, in Label Studio"
        )
    return list(tasks)


def _scores(place: int, task: dict[str, Any]) -> Iterator[HumanRow]:
    data = task.get("data")
    data = data if isinstance(data, dict) else {}
    response_id = identifier(data, "response_id")
    attempt = whole_number(data, "attempt", least=1, default=1)
    # Where a task names more, the ledger sees to it that all of it means the same answer.
    named = {name: optional_identifier(data, name) for name in ("student_id", "item_id")}
    for annotation in task["annotations"]:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        rater = _rater(annotation.get("completed_by"))
        for trait, level in _levels(annotation.get("result")):
            yield HumanRow(place, response_id, attempt, trait, level, rater, **named)


def _rater(completed_by: object) -> str:
    """A name or a number; exports give either an id or a user with an e-mail address."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return identifier({"completed_by": completed_by}, "completed_by")


def _levels(results: object) -> Iterator[tuple[str | None, int]]:
    for result in results if isinstance(results, list) else []:
        if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
            continue
        value = result["value"]
        if isinstance(value.get("choices"), list) and len(value["choices"]) == 1:
            given = value["choices"][0]
        else:
            given = value.get("rating", value.get("number"))
        if given is None:
            continue  # a comment, a highlighted span
        trait = identifier(result, "from_name")
        yield None if trait == _ONLY_TRAIT else trait, whole_number({"score": given}, "score", least=0)
