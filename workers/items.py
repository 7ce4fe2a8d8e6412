"""Item files: read, checked, and drafted from scored answers."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from db.registry import ItemRecord, TraitRecord
from scoring.errors import InvalidInputError
from workers.importers import answers, files
from workers.importers.fields import FieldFault, identifier
from workers.importers.files import Record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MAX_FILE_BYTES = 50_000_000

_MAX_LEVELS = 100


def _as_identifier(value: str) -> str:
    # As in files of answers: an id that could never match there is refused here.
    try:
        return identifier({"name": value}, "name")
    except FieldFault as fault:
        raise ValueError(fault.detail) from None


def _storable(value: str) -> str:
    # Postgres' only exception; pydantic has refused lone surrogates before.
    if "\x00" in value:
        raise ValueError("holds a NUL character")
    return value


Word = Annotated[str, AfterValidator(_as_identifier)]
Prose = Annotated[str, AfterValidator(_storable)]


class TraitForm(BaseModel):
    """One trait in an item file: its levels from 0 up, each with a label."""

    model_config = ConfigDict(extra="forbid")

    name: Word
    levels: Annotated[list[Word], Field(min_length=2, max_length=_MAX_LEVELS)]


class ItemForm(BaseModel):
    """One item in an item file."""

    model_config = ConfigDict(extra="forbid")

    id: Word
    prompt: Prose = ""
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$")] = "en"
    rubric: Prose = ""
    traits: Annotated[list[TraitForm], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _distinct_traits(self) -> ItemForm:
        names = [trait.name for trait in self.traits]
        if len(set(names)) < len(names):
            raise ValueError("two traits have the same name")
        return self


def read_items(path: Path) -> list[ItemRecord]:
    """Read an item file: one JSON list of items.

    Raises:
        InvalidInputError: it cannot be read or an item is not as documented; names item and field.
    """
    content = _content(path)
    if not isinstance(content, list) or not content:
        raise InvalidInputError(f"{path}: is not a JSON list of items")
    items = [_record(path, position, value) for position, value in enumerate(content, start=1)]
    twice = [name for name, number in Counter(item.item_id for item in items).items() if number > 1]
    if twice:
        raise InvalidInputError(f"{path}: item {twice[0]} stands there twice")
    return items


def draft_items(path: Path, *, language: str, max_line_bytes: int) -> list[dict[str, object]]:
    """Draft an item file from scored answers: ids, prompts and as many levels as the scores show.

    Raises:
        InvalidInputError: the file cannot be read, or a score is no whole number.
    """
    source = files.inspect(path)
    prompts: dict[str, str] = {}
    highest: dict[str, dict[str, int]] = {}
    for record in files.read_records(source, required=("item_id",), max_line_bytes=max_line_bytes):
        if not isinstance(record, Record):
            raise InvalidInputError(f"{path}: line {record.line}: {record.detail}")
        try:
            item_id = identifier(record.fields, "item_id")
            levels = _levels_of(record.fields)
            _refuse_many_levels(levels)
        except FieldFault as fault:
            raise InvalidInputError(f"{path}: line {record.line}: {fault.detail}") from fault
        prompts.setdefault(item_id, str(record.fields.get("prompt") or ""))
        seen = highest.setdefault(item_id, {})
        for trait, level in levels.items():
            seen[trait] = max(level, seen.get(trait, 1))
    return [
        {
            "id": item_id,
            "prompt": prompts[item_id],
            "language": language,
            "rubric": "",
            "traits": [
                {"name": trait, "levels": [str(level) for level in range(top + 1)]}
                for trait, top in traits.items()
            ],
        }
        for item_id, traits in highest.items()
    ]


def _refuse_many_levels(levels: Mapping[str, int]) -> None:
    for trait, level in levels.items():
        if level >= _MAX_LEVELS:
            raise FieldFault("score_invalid", f"trait {trait}: score {level} is above {_MAX_LEVELS - 1}")


def _levels_of(fields: Mapping[str, object]) -> dict[str, int]:
    return {trait or "overall": level for trait, level in answers.levels_by_trait(fields).items()}


def _content(path: Path) -> object:
    try:
        if path.exists() and not path.is_file():
            raise InvalidInputError(f"{path}: is not a file")
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InvalidInputError(f"{path}: larger than {_MAX_FILE_BYTES:,} bytes")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: is not UTF-8") from error
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise InvalidInputError(
            f"{path}: line {line}: not JSON: {getattr(error, 'msg', 'invalid')}"
        ) from error


def _named(value: object) -> str:
    try:
        return f" ({identifier(value, 'id')})" if isinstance(value, dict) else ""
    except FieldFault:
        return ""


def _record(path: Path, position: int, value: object) -> ItemRecord:
    try:
        form = ItemForm.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = "".join(c if c.isprintable() else "?" for c in ".".join(map(str, fault["loc"])))[:200]
        raise InvalidInputError(f"{path}: item {position}{_named(value)}: {where}: {fault['msg']}") from error
    return ItemRecord(
        item_id=form.id,
        prompt=form.prompt,
        language=form.language,
        rubric=form.rubric,
        traits=tuple(
            TraitRecord(trait.name, len(trait.levels), tuple(trait.levels)) for trait in form.traits
        ),
    )
