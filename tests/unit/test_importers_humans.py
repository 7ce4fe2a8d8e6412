"""Human scores and human-scored answers: every way to write levels, and every way to get them wrong."""

from __future__ import annotations

import json

import pytest

from db.humans import HumanRow
from db.intake import RejectedRow
from workers.importers import answers, files
from workers.importers.answers import LabelledRow

TRAITS = {"ice": ["overall"], "essay": ["content", "form"]}
MARKER = "Gletscherkuss"


def records(folder, *lines, required=answers.HUMAN_FIELDS):
    path = folder / "scores.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return files.read_records(files.inspect(path), required=required, max_line_bytes=100_000)


def human(folder, *lines):
    return list(answers.human_scores(records(folder, *lines)))


def labelled(folder, *lines, max_text_chars=1000):
    found = records(folder, *lines, required=answers.LABELLED_FIELDS)
    return list(answers.labelled(found, TRAITS, max_text_chars=max_text_chars))


def row(**fields):
    return json.dumps({"response_id": "r1", "item_id": "ice", "text": MARKER, **fields})


@pytest.mark.parametrize(
    ("lines", "levels"),
    [
        (("response_id,score", "r1,2"), {None: 2}),
        (("response_id,trait,score", "r1,form,2"), {"form": 2}),
        (("response_id,score:form,score:content", "r1,2,0"), {"form": 2, "content": 0}),
        ((row(score=2),), {None: 2}),
        ((row(score="2"),), {None: 2}),
        ((row(score=2.0),), {None: 2}),
        ((row(scores={"form": 2, "content": "0"}),), {"form": 2, "content": 0}),
        ((row(scores={}, score=1),), {None: 1}),
        ((row(scores=None, score=1),), {None: 1}),
    ],
)
def test_levels_may_be_written_in_several_ways(tmp_path, lines, levels):
    found = human(tmp_path, *lines)
    assert all(isinstance(one, HumanRow) for one in found)
    assert {one.trait: one.level for one in found} == levels
    assert {(one.response_id, one.attempt) for one in found} == {("r1", 1)}


LEVEL_FAULTS = {
    "none": ({}, "score_missing"),
    "empty": ({"score": ""}, "score_missing"),
    "negative": ({"score": -1}, "score_invalid"),
    "half": ({"score": 1.5}, "score_invalid"),
    "a word": ({"score": "good"}, "score_invalid"),
    "true": ({"score": True}, "score_invalid"),
    "2^31": ({"score": 2**31}, "score_invalid"),
    "NaN": ({"score": float("nan")}, "score_invalid"),
    "one of several a word": ({"scores": {"form": 1, "content": "good"}}, "score_invalid"),
    "one of several null": ({"scores": {"form": None}}, "score_missing"),
    "a trait without a name": ({"scores": {" ": 1}}, "trait_missing"),
    "a trait with NUL": ({"scores": {"a\x00b": 1}}, "trait_invalid"),
    "a trait with a lone surrogate": ({"scores": {"\ud800": 1}}, "trait_invalid"),
    "a trait with a line break": ({"scores": {"a\nb": "x"}}, "trait_invalid"),
    "a long trait": ({"scores": {"t" * 300: 1}}, "trait_invalid"),
    "two traits of one name": ({"scores": {"form": 1, "form ": 2}}, "trait_invalid"),
    "trait a list": ({"trait": ["form"], "score": 1}, "trait_invalid"),
}


@pytest.mark.parametrize(("fields", "reason"), LEVEL_FAULTS.values(), ids=LEVEL_FAULTS)
def test_a_wrong_level_rejects_its_row_only(tmp_path, fields, reason):
    for rows in (
        human(tmp_path, row(score=0), row(**fields), row(score=1)),
        labelled(tmp_path, row(score=0), row(**fields), row(score=1)),
    ):
        assert [isinstance(one, RejectedRow) for one in rows] == [False, True, False]
        assert (rows[1].line, rows[1].reason) == (2, reason)
        assert MARKER not in rows[1].detail
        assert "\n" not in rows[1].detail
        assert len(rows[1].detail) < 300


def test_a_fault_in_one_of_several_traits_names_the_trait(tmp_path):
    (rejected,) = human(tmp_path, row(scores={"form": 1, "content": "good"}))
    assert rejected.detail == "trait content: score is not a whole number"


def test_a_row_that_could_not_be_read_stays_rejected(tmp_path):
    assert [one.reason for one in human(tmp_path, "{broken")] == ["not_json"]
    assert [one.reason for one in labelled(tmp_path, "{broken")] == ["not_json"]


def test_labelled_answers_carry_what_training_needs(tmp_path):
    (found,) = labelled(tmp_path, row(score=2, fold="test", student_id="s1"))
    assert isinstance(found, LabelledRow)
    assert (found.line, found.item_id) == (1, "ice")
    kept = (found.answer.text, found.answer.levels, found.answer.fold, found.answer.student)
    assert kept == (MARKER, {"overall": 2}, "test", "s1")


def test_an_answer_without_an_id_is_known_by_its_line(tmp_path):
    found = labelled(tmp_path, "item_id,text,score", "ice,a,1", "ice,b,0")
    assert [one.answer.response_id for one in found] == ["line-2", "line-3"]


def test_several_traits_are_named(tmp_path):
    (found,) = labelled(tmp_path, row(item_id="essay", scores={"form": 1, "content": 0}))
    assert found.answer.levels == {"form": 1, "content": 0}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"item_id": "snow", "score": 1}, "unknown_item"),
        ({"item_id": "essay", "score": 1}, "trait_missing"),
        ({"item_id": "essay", "scores": {"form": 1}}, "wrong_traits"),
        ({"item_id": "ice", "scores": {"style": 1}}, "wrong_traits"),
        ({"item_id": "ice", "score": 1, "fold": "te\x00st"}, "fold_invalid"),
        ({"item_id": "ice", "score": 1, "text": MARKER * 100}, "text_too_long"),
    ],
)
def test_what_training_cannot_use_is_rejected(tmp_path, fields, reason):
    (rejected,) = labelled(tmp_path, row(**fields))
    assert rejected.reason == reason
    assert MARKER not in rejected.detail


@pytest.mark.parametrize(
    ("fields", "student"),
    [
        ({"student": "s1"}, "s1"),
        ({"student_id": "", "student": "s1"}, "s1"),
        ({"student": {"grade": 7}}, None),
        ({}, None),
    ],
)
def test_a_student_is_a_plain_id_or_nobody(tmp_path, fields, student):
    (found,) = labelled(tmp_path, row(score=1, **fields))
    assert found.answer.student == student
