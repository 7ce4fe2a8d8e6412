"""What happens to an answer before any model sees it: normal form, duplicate key, condition code.

Plain strings pass through here. The room knows no tokenizer, no item and no score; the rules are few, clear
and conservative, because an answer coded in error is a student not scored.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import pairwise

from scoring.types import ConditionCode

#: Joiners that carry meaning in Indic scripts, Persian and emoji; all other invisible characters go.
_JOINERS = frozenset("\u200c\u200d")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs"})

_DASHES = frozenset("-‐‑‒–—―−_.…·*~/\\|")
#: Signs that are right answers to "which sign goes in the box?", beside all of Unicode's Sm and Sc.
_OPERATORS = frozenset("*/·%:°")
#: A strand of DNA or RNA looks like a key held down.
_STRAND = re.compile(r"[ACGTU]{3,}(?: [ACGTU]{3,})*")
_NO_ANSWER = frozenset(
    {"n/a", "n.a.", "n.a", "k.a.", "k.a", "no answer", "no response", "left blank"}
    | {"keine antwort", "ohne antwort", "sin respuesta", "pas de réponse", "nessuna risposta"}
    | {"sem resposta", "geen antwoord"}
)
#: Whole answers only, in the form that `_bare` gives them ("ß" reads "ss", apostrophes are gone).
_REFUSALS = frozenset(
    {"idk", "i d k", "i dk", "idek", "dunno", "i dunno", "dont know", "do not know", "i dont know"}
    | {"i do not know", "i really dont know", "i dont know this", "i dont know the answer", "i dont no"}
    | {"no idea", "i have no idea", "no clue", "i have no clue", "not sure", "im not sure", "i am not sure"}
    | {"i have no answer", "i cant answer", "i cannot answer"}
    | {"weiss nicht", "ich weiss nicht", "ich weiss es nicht", "weiss ich nicht", "keine ahnung"}
    | {"hab keine ahnung", "ich habe keine ahnung", "ich hab keine ahnung", "kein plan", "keinen plan"}
    | {"no sé", "no se", "no lo sé", "no lo se", "ni idea", "no tengo ni idea"}
    | {"je ne sais pas", "je sais pas", "aucune idée", "non lo so", "non so", "não sei", "nao sei"}
    | {"weet ik niet", "ik weet het niet", "geen idee", "nie wiem", "не знаю", "bilmiyorum"}
)

_KEY_ROWS = (
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjkl",
    "qsdfghjklm",
    "zxcvbnm",
    "yxcvbnm",
    "wxcvbn",
)
_NEIGHBOURS = frozenset(
    pair for row in _KEY_ROWS for left, right in pairwise(row) for pair in ((left, right), (right, left))
)
_VOWELS = frozenset("aeiouy")

_LATIN = (
    "af ca cs cy da de en es et eu fi fr ga gl hr hu id is it lt lv ms mt nl no pl pt ro sk sl sq sv sw tr vi"
)
#: Scripts a language is written in, as the first word of the Unicode names of its letters.
_SCRIPTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(_LATIN.split(), frozenset({"LATIN"})),
    **dict.fromkeys(("be", "bg", "mk", "ru", "uk"), frozenset({"CYRILLIC"})),
    **dict.fromkeys(("ar", "fa", "ur"), frozenset({"ARABIC"})),
    "el": frozenset({"GREEK"}),
    "he": frozenset({"HEBREW"}),
    "hi": frozenset({"DEVANAGARI"}),
    "ja": frozenset({"CJK", "HIRAGANA", "KATAKANA"}),
    "ko": frozenset({"HANGUL", "CJK"}),
    "th": frozenset({"THAI"}),
    "zh": frozenset({"CJK", "BOPOMOFO"}),
}


def normalise(text: str) -> str:
    """Bring an answer into the form in which it is stored, compared and scored.

    Unicode NFKC; control and other invisible characters (NUL, lone surrogates, byte-order marks) removed;
    every run of white space folded into one space, none at the ends. Letter case is kept for the model.
    Idempotent, and never raises for any `str`.
    """
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFKC", "".join(map(_visible, text)))
    return " ".join(text.split())


def duplicate_key(text: str) -> bytes:
    """Sha256 (32 bytes) of the normalised text: equal for answers that must get the same score."""
    return hashlib.sha256(normalise(text).encode()).digest()


def condition_code(text: str, *, prompt: str = "", language: str = "") -> ConditionCode | None:
    """Say why an answer should get no machine level, or None where the model is to judge it.

    Args:
        text: the answer, raw or normalised.
        prompt: the question as the student saw it; without it no answer counts as copied.
        language: ISO 639 code of the language asked for ("de", "de-CH"); without it, or where a language
            is unknown here, any script is welcome.

    Returns:
        The first rule that fits, in this order: blank, refused, not text, too short, copied prompt, wrong
        language. A number, a formula, a mathematical sign, a single capital ("C") or a single word can be
        a right answer and is never coded for its length.
    """
    answer = normalise(text)
    if _is_sign(answer) or _STRAND.fullmatch(answer):
        return None
    return _code_of_form(answer, prompt) or _code_of_content(answer, prompt, language)


def _is_sign(answer: str) -> bool:
    """One mathematical or currency sign or operator; a lone hyphen, dash, tilde or bar fills a gap."""
    if len(answer) != 1 or answer in "~|":
        return False
    return answer in _OPERATORS or unicodedata.category(answer) in {"Sm", "Sc"}


def _code_of_form(answer: str, prompt: str) -> ConditionCode | None:
    if not answer or set(answer) <= _DASHES | {" "} or answer.casefold() in _NO_ANSWER:
        return ConditionCode.BLANK
    if set(answer) <= set("? ") or _bare(answer) in _REFUSALS:
        return ConditionCode.REFUSED
    if _is_not_text(answer):
        return ConditionCode.NOT_TEXT
    return ConditionCode.TOO_SHORT if _is_too_short(answer, prompt) else None


def _code_of_content(answer: str, prompt: str, language: str) -> ConditionCode | None:
    if prompt and _is_copied(answer, prompt):
        return ConditionCode.COPIED_PROMPT
    return ConditionCode.WRONG_LANGUAGE if _is_foreign_script(answer, language) else None


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    if unicodedata.category(character) in _INVISIBLE and character not in _JOINERS:
        return ""
    return character


def _bare(text: str) -> str:
    """Case, apostrophes and punctuation away: what is left of "I don't know!!" is "i dont know"."""
    without_apostrophes = re.sub(r"['’`´]", "", text.casefold())
    return " ".join(re.sub(r"[^\w\s]", " ", without_apostrophes).split())


def _words(text: str) -> list[str]:
    return _bare(text).split()


def _is_not_text(answer: str) -> bool:
    marks = [character for character in answer if not character.isspace()]
    num_alphanumeric = sum(character.isalnum() for character in marks)
    if num_alphanumeric == 0:
        return not (len(marks) <= 3 and all(unicodedata.category(mark) == "Sm" for mark in marks))
    if len(marks) >= 8 and num_alphanumeric < len(marks) / 4:
        return not any(character.isdigit() for character in marks)
    return all(map(_is_mashed, _words(answer)))


def _is_mashed(word: str) -> bool:
    """One key held down, a walk along a keyboard row, or a long Latin word without any vowel."""
    if not (word.isascii() and word.isalpha()):
        return False
    if len(set(word)) == 1:
        return len(word) >= 5
    num_steps = sum(pair in _NEIGHBOURS for pair in pairwise(word))
    walks = len(word) >= 6 and num_steps >= 0.75 * (len(word) - 1)
    return walks or (len(word) >= 9 and not _VOWELS & set(word))


def _is_too_short(answer: str, prompt: str) -> bool:
    """One small Latin letter that the prompt does not name; capitals can be symbols, choices, vitamins."""
    letters = [character for character in answer if character.isalnum()]
    if len(letters) != 1 or not ("a" <= letters[0] <= "z"):
        return False
    return letters[0] not in _words(prompt)


def _is_copied(answer: str, prompt: str) -> bool:
    """The prompt, or one question of it, given back from its first word on with nothing added.

    Statements inside a prompt may be quoted rightly (a reading passage, two options to choose from), so only
    the whole prompt and its questions count.
    """
    words = _words(answer)
    questions = re.findall(r"[^.?!]+\?", prompt)
    for source in map(_words, [prompt, *questions]):
        if len(source) < 4 or source[:1] != words[:1] or not set(words) <= set(source):
            continue
        if SequenceMatcher(None, source, words, autojunk=False).ratio() >= 0.9:
            return True
    return False


def _is_foreign_script(answer: str, language: str) -> bool:
    """Twelve letters or more, hardly one of them in a script of the language."""
    scripts = _SCRIPTS.get(re.split(r"[-_]", language.casefold())[0])
    letters = [character for character in answer if character.isalpha()]
    if scripts is None or len(letters) < 12:
        return False
    return sum(_script(letter) in scripts for letter in letters) < 0.1 * len(letters)


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").split(" ")[0]
