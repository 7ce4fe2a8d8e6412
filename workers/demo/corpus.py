"""The demo's corpus: items, human-scored history, one night's export and its human scores, written as files.

Everything is made from phrases written for this project and a seed: no student stands behind any answer.
Knows no database, no model, and not how the product reads these files.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.demo.corpus_dice import Dice
from workers.demo.corpus_nightly import NIGHTLY_HEADER, NUM_BROKEN, make_night, write_answers
from workers.demo.phrases import demo_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from workers.demo.corpus_nightly import Answer
    from workers.demo.corpus_rubric import DemoItem

HUMAN_HEADER = ("response_id", "attempt", "trait", "score")


@dataclass(frozen=True, slots=True)
class CorpusFiles:
    """Where the files lie, and what a correct ingest of `nightly` must count.

    Attributes:
        items: JSON list of items, rubrics and traits
        history: JSON lines, human-scored answers
        nightly: CSV export of one night, broken rows included
        nightly_human: CSV of the human scores of the accepted nightly answers
        num_history: answers in `history`
        num_rows: rows of `nightly` below its header
        num_accepted: rows to be accepted; = num_rows - rejected - repeated - conflicts
        num_rejected: rows to be rejected, by the way in which they are broken
        num_repeated: rows that repeat an accepted one, word for word
        num_conflicts: rows with the key of an accepted one and another text
        num_non_answers: accepted rows that are blank, a dash or a refusal
        num_accepted_by_item: accepted rows by item id
    """

    items: Path
    history: Path
    nightly: Path
    nightly_human: Path
    num_history: int
    num_rows: int
    num_accepted: int
    num_rejected: dict[str, int]
    num_repeated: int
    num_conflicts: int
    num_non_answers: int
    num_accepted_by_item: dict[str, int]


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
        folder: where the four files go; made if absent, files of an earlier run are replaced
        seed: any integer
        num_history_per_item: human-scored answers of each item
        num_nightly: answers of the night that are to be accepted, at least 2
        item_ids: only these items; all by default

    Raises:
        ValueError: fewer than two nightly answers are asked for, or a negative number of scored ones.
    """
    if num_nightly < 2 or num_history_per_item < 0:
        raise ValueError(
            f"a corpus needs num_nightly >= 2 and num_history_per_item >= 0, "
            f"got {num_nightly} and {num_history_per_item}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    items = tuple(item for item in demo_items() if item_ids is None or item.item_id in item_ids)
    num_history = num_history_per_item * len(items)
    history = write_answers(items, num_history, "h", Dice(seed, "history"))
    night = make_night(items, num_nightly, Dice(seed, "nightly"))
    return CorpusFiles(
        items=_write_items(folder / "items.json", items),
        history=_write_history(folder / "history.jsonl", history),
        nightly=_write_csv(folder / "nightly.csv", NIGHTLY_HEADER, night.rows),
        nightly_human=_write_csv(folder / "nightly-human.csv", HUMAN_HEADER, _human_rows(night.answers)),
        num_history=num_history,
        num_rows=len(night.rows),
        num_accepted=len(night.answers),
        num_rejected={str(kind): count for kind, count in NUM_BROKEN.items()},
        num_repeated=1,
        num_conflicts=1,
        num_non_answers=night.num_non_answers,
        num_accepted_by_item=night.num_accepted_by_item,
    )


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


def _human_rows(answers: Iterable[Answer]) -> Iterable[tuple[str, ...]]:
    for answer in answers:
        for trait, score in answer.scores.items():
            yield answer.response_id, str(answer.attempt), trait, str(score)


def _write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path
