"""What RSMTool's `rsmeval` reads: a CSV of scores and the configuration beside it."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING

import numpy as np

from scoring.errors import InvalidInputError
from workers.replacing import replaced
from workers.spreadsheets import plain_cell

if TYPE_CHECKING:
    from pathlib import Path

    from workers.evaluating import Evaluation


def write_rsmeval(path: Path, evaluation: Evaluation, *, trait: str | None = None) -> Path:
    """Write one trait's scores to `path` and the configuration beside it, to be given to `rsmeval`.

    Levels start at 0 here, and RSMTool drops human zeros unless told otherwise: the configuration tells it.

    Returns:
        The configuration's path.

    Raises:
        InvalidInputError: it is not clear which trait, nothing was read, or a file cannot be written.
    """
    column = _column(evaluation, trait)
    if not evaluation.reads.paired(column).any():
        raise InvalidInputError(f"item {evaluation.item_id}: no answer was read by both machine and people")
    config_path = config_beside(path)
    if config_path == path:
        raise InvalidInputError(f"{path}: name the CSV; the configuration is written beside it as .json")
    num_double = _write_scores(path, evaluation, column)
    config = _config(path, evaluation, column, has_second=num_double > 0)
    with replaced(config_path) as stream:
        stream.write(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    return config_path


def config_beside(path: Path) -> Path:
    """Where the configuration of a CSV of scores lies.

    Raises:
        InvalidInputError: the path names no file.
    """
    if not path.name:
        raise InvalidInputError(f"{path}: is no name of a file")
    return path.with_suffix(".json")


def _column(evaluation: Evaluation, trait: str | None) -> int:
    names = [one.name for one in evaluation.reads.traits]
    if trait is None and len(names) == 1:
        return 0
    if trait in names:
        return names.index(trait)
    what = (
        "rsmeval takes one trait: name it with --trait" if trait is None else f"there is no trait {trait!r}"
    )
    raise InvalidInputError(f"item {evaluation.item_id}: {what}; it has {', '.join(names)}")


def _write_scores(path: Path, evaluation: Evaluation, column: int) -> int:
    reads, num_double = evaluation.reads, 0
    with replaced(path) as stream:
        writer = csv.writer(stream)
        writer.writerow(["spkitemid", "system", "sc1", "sc2", *reads.groups])
        for row in np.flatnonzero(reads.paired(column)).tolist():
            human, second = reads.human[row, column], reads.second[row, column]
            if not np.isnan(second):
                # The pair of independent reads: the level that counts may be a later one.
                human, num_double = reads.first[row, column], num_double + 1
            levels = [reads.machine[row, column], human, second]
            groups = [plain_cell(groups[row]) for groups in reads.groups.values()]
            writer.writerow([plain_cell(reads.response_ids[row]), *map(_number, levels), *groups])
    return num_double


def _config(path: Path, evaluation: Evaluation, column: int, *, has_second: bool) -> dict[str, object]:
    trait = evaluation.reads.traits[column]
    subject = f"{evaluation.item_id}-{trait.name}"
    scorer = f"scorer {evaluation.scorer_id}" if evaluation.scorer_id is not None else "a file"
    config: dict[str, object] = {
        "experiment_id": re.sub(r"[^A-Za-z0-9_-]+", "_", subject)[:200],
        "description": f"Item {evaluation.item_id}, trait {trait.name}, {scorer}",
        "predictions_file": path.name,
        "id_column": "spkitemid",
        "system_score_column": "system",
        "human_score_column": "sc1",
        "trim_min": 0,
        "trim_max": trait.num_levels - 1,
        "exclude_zero_scores": False,
        "subgroups": list(evaluation.reads.groups),
    }
    return config | ({"second_human_score_column": "sc2"} if has_second else {})


def _number(level: float) -> str:
    return "" if np.isnan(level) else str(int(level))
