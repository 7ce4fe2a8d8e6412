"""The demo's answers say what their levels claim, and a child's hands never rub them out."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.demo.corpus_answers import compose, draw_near_misses, draw_shown
from workers.demo.corpus_dice import Dice
from workers.demo.corpus_readers import read
from workers.demo.corpus_rubric import DemoItem, Element, Phrase, RubricTrait, phrases
from workers.demo.corpus_spelling import roughen
from workers.demo.phrases import demo_items, spellings_by_ear

ITEMS = pytest.mark.parametrize("item", demo_items(), ids=lambda item: item.item_id)


def spellings(phrase: Phrase) -> set[str]:
    """Every clause that a phrase can become, in lower case."""
    return {" ".join("".join(parts).split()).lower() for parts in itertools.product(*phrase.parts)}


def all_spellings(many: tuple[Phrase, ...]) -> set[str]:
    return set().union(*(spellings(phrase) for phrase in many))


def draw(item: DemoItem, number: int) -> tuple[frozenset[str], frozenset[str], str]:
    dice = Dice(11, f"{item.item_id}/{number}")
    shown = draw_shown(item, dice.bell(), dice)
    near_misses = draw_near_misses(item, shown, dice)
    return shown, near_misses, compose(item, shown, near_misses, dice)


@ITEMS
def test_an_answer_shows_the_elements_of_its_level_and_no_others(item: DemoItem) -> None:
    shown_by = {element.name: all_spellings(element.shown) for element in item.elements}
    for number in range(150):
        shown, _, text = draw(item, number)
        found = {name for name, clauses in shown_by.items() if any(c in text.lower() for c in clauses)}
        assert found == shown, text
        assert sum(item.levels(shown).values()) == len(found)


@ITEMS
def test_near_misses_and_misconceptions_never_contain_a_creditworthy_clause(item: DemoItem) -> None:
    creditworthy = set().union(*(all_spellings(element.shown) for element in item.elements))
    worthless = set().union(*(all_spellings(element.short) for element in item.elements))
    worthless |= all_spellings(item.wrong)
    assert not [(w, c) for w in worthless for c in creditworthy if c in w]


@ITEMS
def test_an_element_has_enough_wordings_for_answers_to_differ(item: DemoItem) -> None:
    assert all(len(all_spellings(element.shown)) >= 50 for element in item.elements)
    assert all(len(all_spellings(element.short)) >= 10 for element in item.elements)


@ITEMS
def test_abler_students_show_more(item: DemoItem) -> None:
    def mean_shown(ability: float) -> float:
        dice = Dice(3, item.item_id)
        return sum(len(draw_shown(item, ability, dice)) for _ in range(300)) / 300

    assert mean_shown(-1.5) + 0.3 * len(item.elements) < mean_shown(1.5)


@ITEMS
def test_readers_leave_the_rubric_by_one_level_in_about_one_answer_of_thirteen(item: DemoItem) -> None:
    dice = Dice(5, item.item_id)
    differences: Counter[int] = Counter()
    for number in range(1500):
        shown, near_misses, _ = draw(item, number)
        rubric, human = item.levels(shown), read(item, shown, near_misses, dice)
        assert all(0 <= human[trait.name] <= len(trait.elements) for trait in item.traits)
        differences.update(human[name] - level for name, level in rubric.items())
    assert set(differences) == {-1, 0, 1}
    share = 1 - differences[0] / differences.total()
    assert 0.05 < share < 0.10


@given(
    text=st.text(min_size=1).filter(str.strip),
    language=st.sampled_from(["en", "de"]),
    carelessness=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
def test_roughening_never_blanks_an_answer(text: str, language: str, carelessness: float, seed: int) -> None:
    assert roughen(text, language, carelessness, Dice(seed, "rough")).strip()


def test_a_careless_child_misspells_and_a_careful_one_does_not() -> None:
    clean = "Because the water becomes vapour, people could probably believe their particles have energy."
    words = set(clean.lower().replace(",", "").replace(".", "").split())

    def num_misspelt(carelessness: float) -> int:
        rough = [roughen(clean, "en", carelessness, Dice(seed, "hands")) for seed in range(200)]
        return sum(word.strip(',.!"').isalpha() and word.strip(',.!"').lower() not in words
                   for text in rough for word in text.split())  # fmt: skip

    assert num_misspelt(0.0) == 0
    assert num_misspelt(1.0) > num_misspelt(0.3) > 50


def test_umlauts_survive_and_are_sometimes_written_out() -> None:
    rough = [
        roughen("Das Wasser wird größer.", "de", 1.0, Dice(seed, "umlaut")).lower() for seed in range(300)
    ]
    assert sum("größer" in text for text in rough) > 150
    assert any("groesser" in text for text in rough)


def test_spellings_by_ear_change_the_word() -> None:
    tables = spellings_by_ear()
    assert set(tables) == {"en", "de"}
    assert all(word not in spelt and spelt for table in tables.values() for word, spelt in table.items())


def test_alternatives_are_drawn_and_empty_ones_leave_no_gap() -> None:
    (phrase,) = phrases(["the (sun |)(heats|warms) it"])
    assert spellings(phrase) == {"the sun heats it", "the sun warms it", "the heats it", "the warms it"}
    assert {phrase.spell(Dice(seed, "gap")) for seed in range(60)} == spellings(phrase)


@pytest.mark.parametrize("template", ["a (b (c|d)|e)", "a b|c", "a (b|c"])
def test_brackets_that_cannot_be_read_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="nested or left open"):
        Phrase(template)


def test_a_trait_without_a_label_for_each_level_is_refused() -> None:
    element = Element("idea", phrases(["yes"]), phrases(["no"]))
    with pytest.raises(ValueError, match="1 elements make 2 levels, but there are 3 labels"):
        RubricTrait("score", ("a", "b", "c"), (element,))


def test_dice_shuffle_reorders_without_losing_any() -> None:
    cards = list(range(52))
    Dice(1, "cards").shuffle(cards)
    assert cards != sorted(cards)
    assert sorted(cards) == list(range(52))


def test_streams_of_different_names_and_seeds_differ() -> None:
    streams = {(seed, name): [Dice(seed, name).below(1000)] for seed in (1, 2) for name in ("a", "b")}
    assert len({tuple(draws) for draws in streams.values()}) == 4
