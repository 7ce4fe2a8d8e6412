"""What happens to clean text under a child's hands: slips of keys, phonetic spellings, lost commas, emoji.

Clean text goes in, rough text comes out, never empty. Knows nothing of items or scores.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from workers.demo.phrases import spellings_by_ear

if TYPE_CHECKING:
    from workers.demo.corpus_dice import Dice

_KEY_ROWS = {
    "en": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "de": ("qwertzuiopü", "asdfghjklöä", "yxcvbnm"),
}
_NEIGHBOURS = {
    language: {
        key: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
        for row in rows
        for place, key in enumerate(row)
    }
    for language, rows in _KEY_ROWS.items()
}
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"})
_EMOJI = ("🙂", "😅", "💧", "🤷", "☀️", "👍", "😂", "❄️", "🚗", "🤔")
#: What phones, tablets and copied text leave behind: dots, typographic quotes, hard spaces, doubled marks.
_ODD = ((". ", "… "), ("'", "’"), (" ", "\u00a0"), (".", "!!!"), (".", " ."), (", ", " ,"), (" ", "  "))
_WORD = re.compile(r"[^\W\d_]+")


def roughen(text: str, language: str, carelessness: float, dice: Dice) -> str:
    """Turn clean text into what a child types.

    Args:
        text: clean text with at least one character that is not a space
        language: "en" or "de"
        carelessness: 0 for no misspelt word (a lost full stop or an emoji at most), 1 for one in six
        dice: where the draws come from

    Returns:
        Text that is not blank either.
    """
    rough = _WORD.sub(lambda match: _misspell(match[0], language, carelessness, dice), text)
    for change in (_lose_marks, _change_case, _add_oddities):
        rough = change(rough, carelessness, dice)
    if language == "de" and dice.chance(0.08 * carelessness):
        rough = rough.translate(_UMLAUTS)
    return rough if rough.strip() else text


def _misspell(word: str, language: str, carelessness: float, dice: Dice) -> str:
    if not dice.chance(0.16 * carelessness):
        return word
    if dice.chance(0.5) and (spellings := spellings_by_ear()[language].get(word)):
        return dice.pick(spellings)
    return _slip(word, language, dice) if len(word) > 3 else word


def _slip(word: str, language: str, dice: Dice) -> str:
    """One slip behind the first letter: a letter missed, doubled or swapped, or the key beside it."""
    at = 1 + dice.below(len(word) - 2)
    kind = dice.below(4)
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at] + word[at:]
    if kind == 2:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    beside = _NEIGHBOURS[language].get(word[at].lower(), "")
    return word[:at] + dice.pick(beside) + word[at + 1 :] if beside else word


def _lose_marks(text: str, carelessness: float, dice: Dice) -> str:
    if dice.chance(0.25 * carelessness):
        text = text.replace(". ", " and " if dice.chance(0.3) else " ")
    if dice.chance(0.3 * carelessness):
        text = text.replace(",", "")
    if dice.chance(0.3 + 0.3 * carelessness):
        text = text.rstrip(".")
    return text


def _change_case(text: str, carelessness: float, dice: Dice) -> str:
    if dice.chance(0.35 * carelessness):
        return text.lower()
    if dice.chance(0.012):
        return text.upper()
    return text


def _add_oddities(text: str, carelessness: float, dice: Dice) -> str:
    if dice.chance(0.06 * carelessness):
        old, new = dice.pick(_ODD)
        text = text.replace(old, new)
    if dice.chance(0.02):
        text = f"{text} {dice.pick(_EMOJI)}"
    if dice.chance(0.03):
        text = text.replace(". ", ".\n", 1)
    if dice.chance(0.01):
        text = f'"{text}"'
    return text
