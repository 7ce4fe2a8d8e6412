"""What every export of the demo has in common: its rows with the broken ones among them, and what to count.

Knows no platform: how a sitting is written, and how a row is broken, is each platform's own.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from workers.demo.corpus_dice import Dice
    from workers.demo.corpus_nightly import Sitting

    Cells = list[str]

#: Answers longer than this, in characters, are refused at the door.
MAX_TEXT_CHARS = 100_000
HUMAN_HEADER = ("student_id", "item_id", "attempt", "trait", "score")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a correct ingest must count in an export.

    Attributes:
        num_accepted: answers that become submissions
        num_repeated: answers that stand there twice, word for word
        num_conflicts: answers that stand there twice with other words
        num_rejected: rows and answers that must be refused, by the reason that the ingest gives
        num_passed_over: answers to a question that is not scored; not among the rows that are counted
        num_non_answers: accepted answers that are blank, a dash or a refusal
        num_accepted_by_item: accepted answers by item id
    """

    num_accepted: int
    num_repeated: int
    num_conflicts: int
    num_rejected: dict[str, int]
    num_passed_over: int
    num_non_answers: int
    num_accepted_by_item: dict[str, int]

    @property
    def num_rows(self) -> int:
        """What the ledger counts as rows of the file: answers, and rows refused as a whole."""
        return self.num_accepted + self.num_repeated + self.num_conflicts + sum(self.num_rejected.values())


@dataclass(frozen=True, slots=True)
class ExportFile:
    """An export, the scores that people gave its answers, and what a correct ingest makes of it."""

    source: str
    path: Path
    human: Path
    expected: Expected


@dataclass(slots=True)
class Sheet:
    """Rows in the making; those that belong together stay together."""

    header: Sequence[str]
    groups: list[list[Cells]] = field(default_factory=list)
    num_rejected: Counter[str] = field(default_factory=Counter)

    def add(self, *rows: Cells) -> None:
        """Put rows at the end."""
        self.groups.append(list(rows))

    def scatter(self, row: Cells, dice: Dice, *, reason: str | None = None) -> None:
        """Put a row anywhere; with a reason, it must be rejected for it."""
        self.groups.insert(dice.below(len(self.groups) + 1), [row])
        if reason is not None:
            self.num_rejected[reason] += 1

    def write(self, path: Path) -> Path:
        """Write it as CSV in UTF-8 with a mark, as both platforms do."""
        rows = (row for group in self.groups for row in group)
        return write_csv(path, self.header, rows, encoding="utf-8-sig")


def changed_mind(sitting: Sitting) -> Sitting:
    """The same sitting with other words in its first answer."""
    first, *others = sitting.answers
    return replace(sitting, answers=(replace(first, text=f"{first.text} I changed my mind."), *others))


def human_rows(sittings: Iterable[Sitting]) -> Iterable[tuple[str, ...]]:
    """What people gave the answers, by student and item, as an office that knows both would list it."""
    for sitting in sittings:
        for answer in sitting.answers:
            for trait, score in answer.scores.items():
                yield sitting.student, answer.item_id, str(sitting.attempt), trait, str(score)


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[str]], *, encoding: str = "utf-8"
) -> Path:
    """Write a header and rows."""
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path
