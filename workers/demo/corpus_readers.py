"""Human readers: levels by the rubric go in, the scores that people give come out. Knows no text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.demo.corpus_dice import Dice
    from workers.demo.corpus_rubric import DemoItem

#: Readers leave the rubric more often where an answer comes near to an idea without showing it.
_SLIP_CLEAR = 0.05
_SLIP_NEAR_MISS = 0.10


def read(item: DemoItem, shown: frozenset[str], near_misses: frozenset[str], dice: Dice) -> dict[str, int]:
    """Score one answer as a trained reader does: by the rubric, with a slip to the next level now and then.

    Returns:
        Trait -> level. About one score in thirteen differs from the rubric, always by one level.
    """
    scores: dict[str, int] = {}
    for trait in item.traits:
        level, top = trait.level(shown), len(trait.elements)
        is_near = any(element.name in near_misses for element in trait.elements)
        if dice.chance(_SLIP_NEAR_MISS if is_near else _SLIP_CLEAR):
            if 0 < level < top:
                # Near misses are more often taken for the idea than ideas for near misses.
                level += 1 if dice.chance(0.65 if is_near else 0.5) else -1
            else:
                level += 1 if level == 0 else -1
        scores[trait.name] = level
    return scores
