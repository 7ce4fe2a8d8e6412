"""Folds: taken as given, or drawn so that what belongs together stays together."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInputError
from scoring.text import duplicate_key
from scoring.training.examples import data_digest
from scoring.training.folds import FOLDS, _fold_at, _position, draw_folds, part
from scoring.types import ItemId, LabelledAnswer

ITEM = ItemId("ice")


def answer(number, text, *, fold=None, student=None):
    return LabelledAnswer(
        response_id=f"r{number}", text=text, levels={"score": 0}, fold=fold, student=student
    )


CROWDS = st.lists(
    st.tuples(st.sampled_from(["a", "a ", "b", "c", "d", "e"]), st.none() | st.sampled_from("stuvw")),
    max_size=25,
).map(lambda rows: [answer(number, text, student=student) for number, (text, student) in enumerate(rows)])


@given(CROWDS)
def test_equal_texts_and_one_students_answers_never_fall_on_two_sides(answers):
    sides = defaultdict(set)
    for row, fold in zip(answers, draw_folds(ITEM, answers), strict=True):
        sides["text", duplicate_key(row.text)].add(fold)
        if row.student is not None:
            sides["student", row.student].add(fold)
    assert all(len(folds) == 1 for folds in sides.values())


@given(CROWDS, st.randoms(use_true_random=False))
def test_folds_do_not_depend_on_the_order(answers, random):
    drawn = {row.response_id: fold for row, fold in zip(answers, draw_folds(ITEM, answers), strict=True)}
    shuffled = random.sample(answers, len(answers))
    assert drawn == {
        row.response_id: fold for row, fold in zip(shuffled, draw_folds(ITEM, shuffled), strict=True)
    }


@given(st.lists(st.text(max_size=5), max_size=20), st.text(max_size=5))
def test_without_students_a_new_answer_moves_none_but_what_filled_an_empty_fold(texts, newcomer):
    answers = [answer(number, text) for number, text in enumerate([*texts, newcomer])]
    before, after = draw_folds(ITEM, answers[:-1]), draw_folds(ITEM, answers)
    keys = [duplicate_key(one.text) for one in answers]
    moved = {key: (old, new) for key, old, new in zip(keys, before, after, strict=False) if old != new}
    drawn = {key: _fold_at(_position(ITEM, key)) for key in keys}
    assert all(drawn[key] == "train" for key in moved)
    if {drawn[key] for key in keys[:-1]} == set(FOLDS):
        assert not moved


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40))
def test_no_fold_is_empty_where_there_are_answers_for_all_and_most_still_teach(texts):
    names = draw_folds(ITEM, [answer(number, text) for number, text in enumerate(texts)])
    sizes, drawn = Counter(map(duplicate_key, texts)), defaultdict(int)
    for key, size in sizes.items():
        drawn[_fold_at(_position(ITEM, key))] += size
    for fold in ("validation", "test"):
        if drawn[fold]:
            assert names.count(fold) == drawn[fold]
    if len(sizes) >= 4 and max(sizes.values()) * 3 <= len(texts) and drawn["train"] >= 0.7 * len(texts):
        assert set(names) == set(FOLDS)


def test_a_few_short_answers_that_many_gave_can_be_trained_and_measured():
    for number in range(200):
        item = ItemId(f"item-{number}")
        answers = [answer(place, f"{place % 12}") for place in range(240)]
        counts = Counter(draw_folds(item, answers))
        assert set(counts) == set(FOLDS)
        assert counts["train"] >= 100
    assert Counter(draw_folds(ITEM, [answer(n, "4") for n in range(50)]))["train"] in (0, 50)


def test_shares_are_about_80_10_10_and_differ_from_item_to_item():
    answers = [answer(number, f"answer number {number}") for number in range(4000)]
    drawn = draw_folds(ITEM, answers)
    shares = {fold: count / 4000 for fold, count in Counter(drawn).items()}
    assert shares == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.02)
    assert drawn != draw_folds(ItemId("snow"), answers)


def test_a_chain_of_texts_and_students_is_one_component():
    chain = [
        answer(number, f"text {number // 2}", student=f"student {(number + 1) // 2}") for number in range(400)
    ]
    assert len(set(draw_folds(ITEM, chain))) == 1
    assert set(draw_folds(ITEM, [answer(n, row.text) for n, row in enumerate(chain)])) > {"train"}


def test_folds_named_by_the_file_are_taken_as_they_are():
    answers = [
        answer(n, "same", fold=fold) for n, fold in enumerate(["test", "train", "validation", "train"])
    ]
    folds = part(ITEM, answers)
    assert [row.response_id for row in folds.train] == ["r1", "r3"]
    assert [row.response_id for row in folds.validation] == ["r2"]
    assert [row.response_id for row in folds.test] == ["r0"]


@pytest.mark.parametrize("second", [None, "dev", ""])
def test_half_given_or_unknown_folds_are_refused(second):
    with pytest.raises(InvalidInputError, match=r"'ice', response 'r1'.*train, validation, test"):
        part(ITEM, [answer(0, "a", fold="train"), answer(1, "b", fold=second)])


def test_parting_loses_nobody():
    answers = [answer(number, f"answer {number}") for number in range(50)]
    folds = part(ITEM, answers)
    everyone = [*folds.train, *folds.validation, *folds.test]
    assert sorted(row.response_id for row in everyone) == sorted(row.response_id for row in answers)


def test_the_digest_of_data_tells_students_apart_as_folds_do() -> None:
    answers = [answer(number, f"text {number}") for number in range(4)]
    named = [replace(one, student="ada") for one in answers]
    assert data_digest(answers) == data_digest(answers[::-1])
    assert data_digest(answers) != data_digest(named)
