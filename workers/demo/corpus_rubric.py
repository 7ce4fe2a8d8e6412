"""What the demo's answers are made of: items, rubric elements, and phrases that show them or fall short.

A phrase may hold alternatives in brackets, "the (sun|heat) dries it"; an empty one leaves the word out. Knows
neither spelling mistakes nor files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.demo.corpus_dice import Dice

_ALTERNATIVES = re.compile(r"\(([^()]*\|[^()]*)\)")


class Phrase:
    """A clause without capital letter or full stop.

    Attributes:
        parts: the clause cut where alternatives stand; a part with one member is fixed text
    """

    __slots__ = ("parts",)

    def __init__(self, template: str) -> None:
        # split() by a pattern with one group alternates: fixed text, alternatives, fixed text, ...
        pieces = _ALTERNATIVES.split(template)
        if any("|" in fixed for fixed in pieces[::2]):
            raise ValueError(f"brackets cannot be nested or left open: {template!r}")
        self.parts = tuple(
            tuple(piece.split("|")) if index % 2 else (piece,) for index, piece in enumerate(pieces)
        )

    def spell(self, dice: Dice) -> str:
        """The clause with one alternative drawn at each place."""
        text = "".join([part[0] if len(part) == 1 else dice.pick(part) for part in self.parts])
        return " ".join(text.split())


def phrases(templates: Iterable[str]) -> tuple[Phrase, ...]:
    """Compile templates; each must be a clause that can stand alone or be joined to another."""
    return tuple(Phrase(template) for template in templates)


@dataclass(frozen=True, slots=True)
class Element:
    """One idea that the rubric gives credit for.

    Attributes:
        name: its name in the item
        shown: clauses that earn the credit
        short: clauses that come near it, often in the same words, and earn nothing
        ease: log-odds that a student of middling ability shows it
    """

    name: str
    shown: tuple[Phrase, ...]
    short: tuple[Phrase, ...]
    ease: float = 0.0


@dataclass(frozen=True, slots=True)
class RubricTrait:
    """One thing scored: its level is the number of its elements that the answer shows."""

    name: str
    labels: tuple[str, ...]
    elements: tuple[Element, ...]

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.elements) + 1:
            raise ValueError(
                f"trait {self.name!r}: {len(self.elements)} elements make "
                f"{len(self.elements) + 1} levels, but there are {len(self.labels)} labels"
            )

    def level(self, shown: frozenset[str]) -> int:
        """The level that the rubric gives an answer showing these elements."""
        return sum(element.name in shown for element in self.elements)


@dataclass(frozen=True, slots=True)
class DemoItem:
    """One question of the demo with its rubric and the phrases that answers to it are made of.

    Attributes:
        item_id: id as in `items.json`
        language: "en" or "de"
        prompt: the question as students read it
        rubric: what earns which level, as graders read it
        traits: what is scored, one trait or several
        wrong: misconceptions and remarks beside the point, worth nothing
    """

    item_id: str
    language: str
    prompt: str
    rubric: str
    traits: tuple[RubricTrait, ...]
    wrong: tuple[Phrase, ...] = field(repr=False)

    @property
    def elements(self) -> tuple[Element, ...]:
        """The elements of all traits, in rubric order."""
        return tuple(element for trait in self.traits for element in trait.elements)

    def levels(self, shown: frozenset[str]) -> dict[str, int]:
        """The level of each trait for an answer showing these elements."""
        return {trait.name: trait.level(shown) for trait in self.traits}
