"""Records become answers to score, or human-scored answers to learn from, or human scores to compare with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.humans import HumanRow
from db.intake import IncomingRow, RejectedRow
from scoring.text import duplicate_key
from scoring.types import LabelledAnswer
from workers.importers.fields import (
    FieldFault,
    answer_text,
    identifier,
    moment,
    optional_identifier,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from workers.importers.files import Record

SUBMISSION_FIELDS = ("response_id", "item_id", "text")
LABELLED_FIELDS = ("item_id", "text")
HUMAN_FIELDS = ("response_id",)
#: What tells an answer of a learning platform, where its response_id holds a pseudonym.
STUDENT_FIELDS = ("student_id", "item_id")


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A human-scored answer and the item it belongs to."""

    line: int
    item_id: str
    answer: LabelledAnswer


def submissions(
    records: Iterable[Record | RejectedRow], *, max_text_chars: int
) -> Iterator[IncomingRow | RejectedRow]:
    """Answers to score, as the ledger takes them."""
    for record in records:
        if isinstance(record, RejectedRow):
            yield record
            continue
        try:
            yield _submission(record, max_text_chars)
        except FieldFault as fault:
            yield RejectedRow(record.line, fault.reason, fault.detail)


def labelled(
    records: Iterable[Record | RejectedRow], traits: Mapping[str, Sequence[str]], *, max_text_chars: int
) -> Iterator[LabelledRow | RejectedRow]:
    """Human-scored answers; `traits` maps each known item to the names of its traits."""
    for record in records:
        if isinstance(record, RejectedRow):
            yield record
            continue
        try:
            yield _labelled(record, traits, max_text_chars)
        except FieldFault as fault:
            yield RejectedRow(record.line, fault.reason, fault.detail)


def human_scores(records: Iterable[Record | RejectedRow]) -> Iterator[HumanRow | RejectedRow]:
    """Human scores: a `trait` and a `score`, or `scores` by trait, or one `score` of the only trait.

    The answer goes by its `response_id`, or where there is none by `student_id` and `item_id`; the ledger
    sees to it that they agree where all are given.
    """
    for record in records:
        if isinstance(record, RejectedRow):
            yield record
            continue
        try:
            yield from _human_rows(record)
        except FieldFault as fault:
            yield RejectedRow(record.line, fault.reason, fault.detail)


def _submission(record: Record, max_text_chars: int) -> IncomingRow:
    fields = record.fields
    item_id = identifier(fields, "item_id")
    text = answer_text(fields, max_chars=max_text_chars)
    content = item_id.encode() + b"\x00" + text.encode()
    return IncomingRow(
        line=record.line,
        response_id=identifier(fields, "response_id"),
        attempt=whole_number(fields, "attempt", least=1, default=1),
        item_id=item_id,
        text=text,
        text_key=duplicate_key(text),
        content_sha256=hashlib.sha256(content).digest(),
        student_id=optional_identifier(fields, "student_id"),
        submitted_at=moment(fields, "submitted_at"),
    )


def _human_rows(record: Record) -> Iterator[HumanRow]:
    fields = record.fields
    student_id: str | None
    item_id: str | None
    if set(STUDENT_FIELDS) <= fields.keys() and not fields.get("response_id"):
        response_id = None
        student_id, item_id = identifier(fields, "student_id"), identifier(fields, "item_id")
    else:
        response_id = identifier(fields, "response_id")
        student_id = optional_identifier(fields, "student_id")
        item_id = optional_identifier(fields, "item_id")
    attempt = whole_number(fields, "attempt", least=1, default=1)
    for trait, level in levels_by_trait(fields).items():
        yield HumanRow(
            record.line,
            response_id,
            attempt,
            trait or None,
            level,
            student_id=student_id,
            item_id=item_id,
        )


def _labelled(record: Record, traits: Mapping[str, Sequence[str]], max_text_chars: int) -> LabelledRow:
    fields = record.fields
    item_id = identifier(fields, "item_id")
    names = traits.get(item_id)
    if names is None:
        raise FieldFault("unknown_item", f"item {item_id} has not been loaded")
    levels = levels_by_trait(fields)
    if "" in levels:
        if len(names) > 1:
            raise FieldFault(
                "trait_missing", f"item {item_id} has {len(names)} traits: name them in `scores`"
            )
        levels = {names[0]: levels[""]}
    if levels.keys() != set(names):
        raise FieldFault("wrong_traits", f"item {item_id} has the traits {', '.join(names)}")
    answer = LabelledAnswer(
        response_id=optional_identifier(fields, "response_id") or f"line-{record.line}",
        text=answer_text(fields, max_chars=max_text_chars),
        levels=levels,
        fold=optional_identifier(fields, "fold"),
        student=_student(fields),
    )
    return LabelledRow(record.line, item_id, answer)


def levels_by_trait(fields: Mapping[str, object]) -> dict[str, int]:
    """The levels that a record gives; under the name "" where it names no trait.

    Raises:
        FieldFault: a level is no whole number from 0 up, or a trait's name cannot be kept.
    """
    scores = fields.get("scores")
    if not isinstance(scores, dict) or not scores:
        marked = [name for name in fields if name.startswith("score:")]
        scores = {name.removeprefix("score:"): fields[name] for name in marked}
    if not scores:
        trait = optional_identifier(fields, "trait") or ""
        return {trait: whole_number(fields, "score", least=0)}
    levels = {identifier({"trait": trait}, "trait"): _level(trait, value) for trait, value in scores.items()}
    if len(levels) < len(scores):
        raise FieldFault("trait_invalid", "two scores are for the same trait")
    return levels


def _level(trait: str, value: object) -> int:
    try:
        return whole_number({"score": value}, "score", least=0)
    except FieldFault as fault:
        raise FieldFault(fault.reason, f"trait {trait}: {fault.detail}") from None


def _student(fields: Mapping[str, object]) -> str | None:
    # Some sets describe a student by several fields; only a plain id is used.
    name = "student_id" if fields.get("student_id") else "student"
    return None if isinstance(fields.get(name), dict) else optional_identifier(fields, name)
