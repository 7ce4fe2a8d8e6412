"""Answers as a class would write them, still spelled well: which ideas are shown, and in which words.

Phrases and draws go in; clean text and the rubric's levels come out. Knows no misspellings, readers or files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.demo.corpus_rubric import Phrase, phrases

if TYPE_CHECKING:
    from workers.demo.corpus_dice import Dice
    from workers.demo.corpus_rubric import DemoItem

#: How much a student's ability moves the log-odds of showing an element.
_ABILITY_WEIGHT = 1.3


@dataclass(frozen=True, slots=True)
class Manner:
    """How students of one language begin, join and end their clauses."""

    openers: tuple[Phrase, ...]
    joints: tuple[str, ...]
    chatter: tuple[Phrase, ...]


_MANNERS = {
    "en": Manner(
        openers=phrases(
            (
                "(i think|i think that|i believe|i guess|i would say)",
                "(well|so|ok so|basically|um)",
                "(maybe|probably|perhaps)",
                "(i'm|im|i am) not sure but",
                "(we learned|we learnt|our teacher said|i know) that",
                "in my opinion",
                "(my answer is|the answer is|my idea is) that",
            )
        ),
        joints=(". ", ". ", ". ", " and ", ", and ", ", ", ". Also ", "; "),
        chatter=phrases(
            (
                "(thats|that is|that's) (why|my answer|what i think|all i know)",
                "we did this in class (last week|in spring|once|with mr brown)",
                "i (hope|think) (this|that) is right",
                "my (dad|mum|sister|grandma) (told me|showed me) (that|this) (once|)",
                "i (saw|read) it in a (book|film|video)",
                "(this|it) is (easy|hard|a hard question)",
                "(thank you for reading|bye|the end)",
                "i (don't|dont) know (more|what else to write)",
            )
        ),
    ),
    "de": Manner(
        openers=phrases(
            (
                "ich (glaube|denke|meine),",
                "(also|na ja|tja),",
                "ich bin (mir |)nicht sicher, aber",
                "wir haben (gelernt|im Unterricht gehört):",
                "meine (Antwort|Idee|Vermutung) ist:",
                "(meine Lehrerin|unser Lehrer|mein Opa) hat gesagt,",
            )
        ),
        joints=(". ", ". ", ". ", " und ", ", und ", ", ", "; "),
        chatter=phrases(
            (
                "(das ist meine Antwort|deshalb ist das so|das war's)",
                "das hatten wir (schon |)(letzte Woche|neulich) im Unterricht",
                "(mehr weiß ich nicht|mehr fällt mir nicht ein)",
                "ich hoffe, das (ist richtig|stimmt)",
                "das habe ich in einem (Buch|Film|Video) gesehen",
                "(das ist|die Frage ist) (schwer|leicht|komisch)",
                "(mein Papa|meine Oma|meine Schwester) hat mir das erklärt",
            )
        ),
    ),
}


def draw_shown(item: DemoItem, ability: float, dice: Dice) -> frozenset[str]:
    """The elements that a student of this ability (0 is middling, 1 one standard deviation up) shows."""
    return frozenset(
        element.name
        for element in item.elements
        if dice.chance(1.0 / (1.0 + math.exp(-element.ease - _ABILITY_WEIGHT * ability)))
    )


def draw_near_misses(item: DemoItem, shown: frozenset[str], dice: Dice) -> frozenset[str]:
    """Elements that the answer comes near without showing them."""
    return frozenset(e.name for e in item.elements if e.name not in shown and dice.chance(0.5))


def compose(item: DemoItem, shown: frozenset[str], near_misses: frozenset[str], dice: Dice) -> str:
    """Write one answer without spelling mistakes.

    Args:
        item: the question answered
        shown: elements that the answer earns credit for
        near_misses: elements that it comes near and earns nothing for
        dice: where the draws come from

    Returns:
        Sentences of one or more clauses, never empty.
    """
    manner = _MANNERS[item.language]
    clauses = [dice.pick(e.shown).spell(dice) for e in item.elements if e.name in shown]
    clauses += [dice.pick(e.short).spell(dice) for e in item.elements if e.name in near_misses]
    if not clauses or dice.chance(0.12 if shown else 0.45):
        clauses.append(dice.pick(item.wrong).spell(dice))
    if dice.chance(0.5):
        dice.shuffle(clauses)
    if dice.chance(0.35):
        clauses[0] = f"{dice.pick(manner.openers).spell(dice)} {clauses[0]}"
    if dice.chance(0.12):
        clauses.append(dice.pick(manner.chatter).spell(dice))
    return _join(clauses, manner.joints, dice)


def _join(clauses: list[str], joints: tuple[str, ...], dice: Dice) -> str:
    text = _capital(clauses[0])
    for clause in clauses[1:]:
        joint = dice.pick(joints)
        text += joint + (_capital(clause) if joint == ". " else clause)
    return text + "."


def _capital(clause: str) -> str:
    return clause[:1].upper() + clause[1:]
