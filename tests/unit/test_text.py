"""Normal form, duplicate key and condition codes."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.text import condition_code, duplicate_key, normalise
from scoring.types import ConditionCode

ANY_TEXT = st.text(st.characters(exclude_categories=()))
PROMPT = "Explain why the ice floats on the water. Why does it not sink?"


@given(ANY_TEXT)
def test_normalisation_is_idempotent_and_leaves_nothing_unwritable(text):
    normal = normalise(text)
    assert normalise(normal) == normal
    assert unicodedata.is_normalized("NFKC", normal)
    assert not any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in normal)
    assert normal == " ".join(normal.split())
    normal.encode()


@given(st.text(st.characters(codec="ascii")))
def test_the_short_way_for_ascii_agrees_with_the_long_way(text):
    # An en space makes the text non-ASCII without changing its normal form.
    assert normalise(text) == normalise(text + "\u2002")


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("  two\t words\r\n", "two words"),
        ("nul\x00 and\x07 bell", "nul and bell"),
        ("e\u0301te\u0301", "été"),
        ("e\u00ad\u0301", "é"),
        ("ﬁve ½", "five 1⁄2"),
        ("\ufeffBOM\ud800", "BOM"),
        ("Case STAYS", "Case STAYS"),
        ("می\u200cروم", "می\u200cروم"),
    ],
)
def test_normal_form(raw, normal):
    assert normalise(raw) == normal


def test_duplicate_key_is_a_digest_of_the_normal_form():
    assert duplicate_key("a  b\x00") == duplicate_key("a b")
    assert duplicate_key("a b") != duplicate_key("A b")
    assert len(duplicate_key("")) == 32


@given(ANY_TEXT, st.sampled_from(["", PROMPT]), st.sampled_from(["", "en", "de-CH", "ru", "zh", "tlh"]))
def test_condition_code_never_raises_and_sees_the_normal_form_only(text, prompt, language):
    code = condition_code(text, prompt=prompt, language=language)
    assert code == condition_code(normalise(text), prompt=prompt, language=language)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("", ConditionCode.BLANK),
        (" \t\n\x00", ConditionCode.BLANK),
        ("-", ConditionCode.BLANK),
        ("–", ConditionCode.BLANK),
        ("~", ConditionCode.BLANK),
        ("* * *", ConditionCode.BLANK),
        ("- - -", ConditionCode.BLANK),
        ("...", ConditionCode.BLANK),
        ("N/A", ConditionCode.BLANK),
        ("k.A.", ConditionCode.BLANK),
        ("?", ConditionCode.REFUSED),
        ("? ? ?", ConditionCode.REFUSED),
        ("IDK", ConditionCode.REFUSED),
        ("I don’t know!!!", ConditionCode.REFUSED),
        ("I dont know .", ConditionCode.REFUSED),
        ("weiß nicht", ConditionCode.REFUSED),
        ("Ich weiss es nicht.", ConditionCode.REFUSED),
        ("je ne sais pas", ConditionCode.REFUSED),
        (":-)", ConditionCode.NOT_TEXT),
        ("!!!", ConditionCode.NOT_TEXT),
        ("#%&§$!)(a", ConditionCode.NOT_TEXT),
        ("asdfghjkl", ConditionCode.NOT_TEXT),
        ("asdf asdfasdf qwertz", None),
        ("asdfasdf qwertz", ConditionCode.NOT_TEXT),
        ("aaaaaaa", ConditionCode.NOT_TEXT),
        ("slkdfkdjf", ConditionCode.NOT_TEXT),
        ("l", ConditionCode.TOO_SHORT),
        ("k.", ConditionCode.TOO_SHORT),
        ("Why does it not sink?", ConditionCode.COPIED_PROMPT),
        ("why does it not sink", ConditionCode.COPIED_PROMPT),
        (PROMPT.upper(), ConditionCode.COPIED_PROMPT),
        ("Потому что лёд легче воды", ConditionCode.WRONG_LANGUAGE),
        ("冰比水轻所以浮在水面上不会沉下去", ConditionCode.WRONG_LANGUAGE),
    ],
)
def test_coded(answer, code):
    assert condition_code(answer, prompt=PROMPT, language="en") == code


@pytest.mark.parametrize(
    "answer",
    [
        "5",
        "0",
        "H2O",
        "C",
        "Na",
        "No",
        "none",
        "+",
        "<",
        "−",
        "*",
        "/",
        "·",
        "%",
        ":",
        "°",
        "€",
        "TTTTT",
        "TGCTGCTGC AAAAA",
        "2 + 2 = 4",
        "1.5 V",
        "12:30-13:30",
        "水",
        "scared",
        "I don't know why but it is lighter",
        "they don't know that he is lying",
        "The ice floats on the water.",
        "the ice floats on the water because it is lighter",
        "Why does it not sink? Because it is lighter.",
        "it does not sink",
        "λ = 5 μm",
        "Μαρία",
        "rhythms",
        "Schritt",
        "asked property flasks",
        "hhhh",
    ],
)
def test_answers_that_can_be_right_are_left_to_the_model(answer):
    assert condition_code(answer, prompt=PROMPT, language="en") is None


def test_a_letter_the_prompt_names_is_an_answer():
    assert condition_code("x", prompt="Which is larger, x or y?") is None
    assert condition_code("z", prompt="Which is larger, x or y?") == ConditionCode.TOO_SHORT


def test_script_counts_only_for_languages_known_here():
    russian = "Потому что лёд легче воды"
    assert condition_code(russian, language="ru") is None
    assert condition_code(russian, language="") is None
    assert condition_code(russian, language="tlh") is None
    assert condition_code(russian, language="de_CH") == ConditionCode.WRONG_LANGUAGE
    assert condition_code("because ice is lighter", language="uk-UA") == ConditionCode.WRONG_LANGUAGE


def test_nothing_counts_as_copied_without_a_prompt():
    assert condition_code("Why does it not sink?") is None
