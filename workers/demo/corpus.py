"""The demo's corpus: items, human-scored history, one night's exports and their human scores, as files.

Everything is made from phrases written for this project and a seed: no student stands behind any answer.
Knows no database, no model, and not how the product reads these files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.demo.corpus_canvas import canvas_items, canvas_sheet
from workers.demo.corpus_dice import Dice
from workers.demo.corpus_export import HUMAN_HEADER, ExportFile, human_rows, write_csv
from workers.demo.corpus_moodle import TIME_ZONE, moodle_items, moodle_sheet
from workers.demo.corpus_nightly import make_night, write_answers
from workers.demo.phrases import demo_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from workers.demo.corpus_export import Expected, Sheet
    from workers.demo.corpus_nightly import Answer, Sitting
    from workers.demo.corpus_rubric import DemoItem

_SOURCES = f"""\
[canvas]
time_zone = "America/Chicago"
items = "canvas-items.csv"

[moodle]
time_zone = "{TIME_ZONE}"
items = "moodle-items.csv"
"""


@dataclass(frozen=True, slots=True)
class CorpusFiles:
    """Where the files lie, and what a correct ingest of the exports must count.

    Attributes:
        items: JSON list of items, rubrics and traits
        history: JSON lines, human-scored answers
        sources: TOML, how the exports are to be read
        exports: one Canvas export and one Moodle export of the night, each with what people gave its answers
        num_history: answers in `history`
    """

    items: Path
    history: Path
    sources: Path
    exports: tuple[ExportFile, ...]
    num_history: int

    @property
    def num_accepted(self) -> int:
        """Answers of the night that are to be accepted."""
        return sum(export.expected.num_accepted for export in self.exports)


def write_corpus(
    folder: Path,
    *,
    seed: int,
    num_history_per_item: int,
    num_nightly: int,
    item_ids: Sequence[str] | None = None,
) -> CorpusFiles:
    """Write the corpus; the same arguments give the same bytes on every machine.

    Args:
        folder: where the files go; made if absent, files of an earlier run are replaced
        seed: any integer; students of different seeds are different
        num_history_per_item: human-scored answers of each item
        num_nightly: answers of the night that are to be accepted, at least ten an item
        item_ids: only these items; all by default

    Raises:
        ValueError: fewer nightly answers are asked for, or a negative number of scored ones.
    """
    items = tuple(item for item in demo_items() if item_ids is None or item.item_id in item_ids)
    if num_nightly < 10 * len(items) or num_history_per_item < 0:
        raise ValueError(
            f"a corpus of {len(items)} items needs num_nightly >= {10 * len(items)} and"
            f" num_history_per_item >= 0, got {num_nightly} and {num_history_per_item}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    num_history = num_history_per_item * len(items)
    history = write_answers(items, num_history, "h", Dice(seed, "history"))
    sittings = make_night(items, num_nightly, f"n{seed}-", Dice(seed, "nightly"))
    sources = folder / "sources.toml"
    sources.write_text(_SOURCES, encoding="utf-8", newline="\n")
    return CorpusFiles(
        items=_write_items(folder / "items.json", items),
        history=_write_history(folder / "history.jsonl", history),
        sources=sources,
        exports=_write_exports(folder, items, sittings, Dice(seed, "exports")),
        num_history=num_history,
    )


def _write_exports(
    folder: Path, items: Sequence[DemoItem], sittings: Sequence[Sitting], dice: Dice
) -> tuple[ExportFile, ...]:
    """Half of the students use one platform, half the other."""
    half = len(sittings) // 2
    # A second sitting stays with its first.
    half += sittings[half].attempt == 2
    ours, theirs = sittings[:half], sittings[half:]
    for name, pairs in (("canvas", canvas_items(items)), ("moodle", moodle_items(items))):
        write_csv(folder / f"{name}-items.csv", ("question", "item_id"), list(pairs))
    return (
        _write_export(folder, "canvas", ours, canvas_sheet(items, ours, dice)),
        _write_export(folder, "moodle", theirs, moodle_sheet(items, theirs, dice)),
    )


def _write_export(
    folder: Path, source: str, sittings: Sequence[Sitting], made: tuple[Sheet, Expected]
) -> ExportFile:
    sheet, expected = made
    human = write_csv(folder / f"{source}-human.csv", HUMAN_HEADER, human_rows(sittings))
    return ExportFile(source, sheet.write(folder / f"{source}.csv"), human, expected)


def _write_items(path: Path, items: Iterable[DemoItem]) -> Path:
    entries = [_item_json(item) for item in items]
    path.write_text(json.dumps(entries, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")
    return path


def _item_json(item: DemoItem) -> dict[str, Any]:
    return {
        "id": item.item_id,
        "prompt": item.prompt,
        "language": item.language,
        "rubric": item.rubric,
        "traits": [{"name": trait.name, "levels": list(trait.labels)} for trait in item.traits],
    }


def _write_history(path: Path, answers: Iterable[Answer]) -> Path:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for answer in answers:
            file.write(json.dumps(_history_json(answer), ensure_ascii=False) + "\n")
    return path


def _history_json(answer: Answer) -> dict[str, Any]:
    line: dict[str, Any] = {
        "item_id": answer.item_id,
        "response_id": answer.response_id,
        "student": answer.student,
        "text": answer.text,
    }
    if len(answer.scores) == 1:
        return line | {"score": next(iter(answer.scores.values()))}
    return line | {"scores": answer.scores}
