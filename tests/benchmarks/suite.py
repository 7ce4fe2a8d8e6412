"""The suite of 27 items: real answers with human scores, used in place."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from scoring.types import ItemId, ItemSpec, LabelledAnswer, Trait

if TYPE_CHECKING:
    from pathlib import Path

NUM_BEETLE = 8
#: One item of each data set, for quick looks.
SHORT = ("mind-sf-2", "saf-de-3", "beetle-opt1-explain-q2")

_LANGUAGES = {"uk-mind-20": "en", "saf-de": "de", "beetle": "en"}


def suite(folder: Path) -> list[tuple[ItemSpec, list[LabelledAnswer]]]:
    """All items of uk-mind-20 and saf-de, and the items of beetle with the most answers, with their folds."""
    found = []
    for name, language in _LANGUAGES.items():
        items = _items(folder / f"{name}.jsonl", language)
        if name == "beetle":
            items = sorted(items, key=lambda item: -len(item[1]))[:NUM_BEETLE]
        found += sorted(items, key=lambda item: item[0].item_id)
    return found


def _items(path: Path, language: str) -> list[tuple[ItemSpec, list[LabelledAnswer]]]:
    lines: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    with path.open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            lines[line["item_id"]].append(line)
    return [(_spec(item_id, rows, language), [*map(_answer, rows)]) for item_id, rows in lines.items()]


def _spec(item_id: str, rows: list[dict[str, Any]], language: str) -> ItemSpec:
    num_levels = 1 + max(int(row["score"]) for row in rows)
    return ItemSpec(ItemId(item_id), str(rows[0].get("prompt", "")), language, (Trait("score", num_levels),))


def _answer(row: dict[str, Any]) -> LabelledAnswer:
    return LabelledAnswer(
        str(row["response_id"]), str(row["text"]), {"score": int(row["score"])}, str(row["fold"])
    )
