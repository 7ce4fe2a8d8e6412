"""Who trains, who validates, who tests: one fold for each answer, drawn once and the same for ever.

Labelled answers pass through here. The room knows no model and no score; only texts, students and the folds
that a file already names.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from scoring.errors import InvalidInputError
from scoring.text import duplicate_key

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from scoring.types import ItemId, LabelledAnswer

Fold = Literal["train", "validation", "test"]
FOLDS: tuple[Fold, ...] = get_args(Fold)

_NUM_CELLS = 2**32
_VALIDATION_SHARE = 0.1
_TEST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Folds:
    """The answers of one item, parted three ways; order as given."""

    train: tuple[LabelledAnswer, ...]
    validation: tuple[LabelledAnswer, ...]
    test: tuple[LabelledAnswer, ...]


def part(item_id: ItemId, answers: Sequence[LabelledAnswer]) -> Folds:
    """Part an item's answers into train, validation and test.

    Where every answer names its fold, that is taken as it is: the file's owner knows best, and figures stay
    comparable. Where none does, folds are drawn 80/10/10 by `draw_folds`.

    Raises:
        InvalidInputError: only some answers name a fold, or a fold has an unknown name.
    """
    given = [answer.fold for answer in answers]
    if any(given):
        names = [
            _known(fold, answer.response_id, item_id) for fold, answer in zip(given, answers, strict=True)
        ]
    else:
        names = draw_folds(item_id, answers)
    parts: dict[Fold, list[LabelledAnswer]] = {fold: [] for fold in FOLDS}
    for name, answer in zip(names, answers, strict=True):
        parts[name].append(answer)
    return Folds(*(tuple(parts[fold]) for fold in FOLDS))


def draw_folds(item_id: ItemId, answers: Sequence[LabelledAnswer]) -> list[Fold]:
    """Draw a fold for each answer, without any state or seed.

    Answers that belong together (equal after normalisation, or by the same student, or linked by a chain of
    such) form one component and never fall on two sides. A component's fold is a hash of the item and of the
    component's smallest text key: the same answers get the same folds in any order and on any machine, and
    with texts alone (no students) a new answer never moves an old one. With students known, an answer that
    links two components can move one of them. Where so few components are there that no one falls to
    validation or to the test, the train component that came nearest to it does, until one falls there itself.

    Returns:
        folds in the order of the answers [num_answers]
    """
    keys = [duplicate_key(answer.text) for answer in answers]
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, (key, answer) in enumerate(zip(keys, answers, strict=True)):
        members[key].append(index)
        if answer.student is not None:
            members["student", answer.student].append(index)
    component = _components(len(answers), members.values())
    smallest: dict[int, bytes] = {}
    for root, key in zip(component, keys, strict=True):
        smallest[root] = min(key, smallest.get(root, key))
    positions = {root: _position(item_id, key) for root, key in smallest.items()}
    folds = _none_empty({root: _fold_at(place) for root, place in positions.items()}, positions, component)
    return [folds[root] for root in component]


def _known(fold: str | None, response_id: str, item_id: ItemId) -> Fold:
    for name in FOLDS:
        if fold == name:
            return name
    raise InvalidInputError(
        f"item {item_id!r}, response {response_id!r}: fold {fold!r}; name one of {', '.join(FOLDS)} "
        "for every answer of the item, or for none"
    )


def _components(num_nodes: int, groups: Iterable[Sequence[int]]) -> list[int]:
    """Connected components by union-find: the root of each node."""
    parent = list(range(num_nodes))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for first, *others in groups:
        for other in others:
            parent[root(other)] = root(first)
    return [root(node) for node in range(num_nodes)]


def _none_empty(
    folds: dict[int, Fold], positions: dict[int, float], component: Sequence[int]
) -> dict[int, Fold]:
    """The folds by component, with one taken from train for each other fold that has none."""
    sizes = Counter(component)
    for empty in ("validation", "test"):
        taught = sorted((root for root, fold in folds.items() if fold == "train"), key=positions.__getitem__)
        num_taught = sum(sizes[root] for root in taught)
        # One answer that most students gave is what training lives on.
        spare = [root for root in taught if 2 * sizes[root] <= num_taught]
        if empty not in folds.values() and spare:
            folds[spare[0]] = empty
    return folds


def _position(item_id: ItemId, key: bytes) -> float:
    """Where in 0..1 a component stands, for ever."""
    digest = hashlib.sha256(item_id.encode() + b"\0" + key).digest()
    return int.from_bytes(digest[:4]) / _NUM_CELLS


def _fold_at(position: float) -> Fold:
    if position < _TEST_SHARE:
        return "test"
    return "validation" if position < _TEST_SHARE + _VALIDATION_SHARE else "train"
