"""Item files: read as documented, refused in one line, drafted from scored answers."""

from __future__ import annotations

import json
import os
import re

import pytest

from db.registry import ItemRecord, TraitRecord
from scoring.errors import InvalidInputError
from workers.items import draft_items, read_items

ICE = {"id": "ice", "traits": [{"name": "overall", "levels": ["wrong", "right"]}]}


def written(folder, content):
    path = folder / "items.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def ice(**fields):
    return {**ICE, **fields}


def trait(name="overall", levels=("wrong", "right")):
    return {"name": name, "levels": list(levels)}


def test_items_are_read_with_their_defaults(tmp_path):
    essay = {
        "id": " essay ",
        "prompt": "Warum?\n",
        "language": "de",
        "rubric": "2 points for ...",
        "traits": [trait("content", ("0", "1", "2")), trait("form")],
    }
    found = read_items(written(tmp_path, b"\xef\xbb\xbf" + json.dumps([ICE, essay]).encode()))
    assert found == [
        ItemRecord("ice", "", "en", "", (TraitRecord("overall", 2, ("wrong", "right")),)),
        ItemRecord(
            "essay",
            "Warum?\n",
            "de",
            "2 points for ...",
            (TraitRecord("content", 3, ("0", "1", "2")), TraitRecord("form", 2, ("wrong", "right"))),
        ),
    ]


FAULTS = {
    "empty": (b"", r"line 1: not JSON: .*"),
    "not JSON": (b'[\n{"id": "ice",\n]', r"line 3: not JSON: .*"),
    "not UTF-8": (b'["\xf6"]', r"is not UTF-8"),
    "too deep": (b"[" * 100_000, r"line 1: not JSON: .*"),
    "an object": (ICE, r"is not a JSON list of items"),
    "an empty list": ([], r"is not a JSON list of items"),
    "a word for an item": ([ICE, "ice"], r"item 2: : .*"),
    "no id": ([{"traits": [trait()]}], r"item 1: id: Field required"),
    "id empty": ([ice(id="")], r"item 1: id: .*empty"),
    "id a number": ([ice(id=7)], r"item 1 \(7\): id: .*string"),
    "id with NUL": ([ice(id="a\x00")], r"item 1: id: .*control characters"),
    "id with a line break": ([ice(id="a\nb")], r"item 1: id: .*control characters"),
    "id a lone surrogate": ([ice(id="\ud800")], r"item 1: id: .*"),
    "id too long": ([ice(id="i" * 201)], r"item 1: id: .*longer than 200 characters"),
    "prompt with NUL": ([ice(prompt="a\x00b")], r"item 1 \(ice\): prompt: .*NUL.*"),
    "rubric with NUL": ([ice(rubric="\x00")], r"item 1 \(ice\): rubric: .*NUL.*"),
    "language a word": ([ice(language="German")], r"item 1 \(ice\): language: .*"),
    "unknown field": ([ice(levels=["0", "1"])], r"item 1 \(ice\): levels: Extra inputs .*"),
    "odd unknown field": ([ice(**{"a\nb" * 200: 1})], r"item 1 \(ice\): a\?b.{10,200}: Extra inputs .*"),
    "no trait": ([ice(traits=[])], r"item 1 \(ice\): traits: .*"),
    "one level only": ([ice(traits=[trait(levels=["0"])])], r"item 1 \(ice\): traits.0.levels: .*2 items.*"),
    "an empty label": ([ice(traits=[trait(levels=["0", ""])])], r"item 1 \(ice\): traits.0.levels.1: .*"),
    "a numeric label": ([ice(traits=[trait(levels=[0, 1])])], r"item 1 \(ice\): traits.0.levels.0: .*"),
    "too many levels": (
        [ice(traits=[trait(levels=[str(n) for n in range(101)])])],
        r"item 1 \(ice\): traits.0.levels: .*100 items.*",
    ),
    "two traits of one name": ([ice(traits=[trait("a"), trait("a ")])], r"item 1 \(ice\): : .*same name"),
    "an item twice": ([ICE, ice(prompt="again"), ice(id="snow")], r"item ice stands there twice"),
}


@pytest.mark.parametrize(("content", "told"), FAULTS.values(), ids=FAULTS)
def test_a_broken_item_file_is_refused_in_one_line(tmp_path, content, told):
    path = written(tmp_path, content)
    with pytest.raises(InvalidInputError) as refused:
        read_items(path)
    assert re.fullmatch(re.escape(str(path)) + ": " + told, str(refused.value))


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {"": "not a file", "absent": "No such file", "pipe": "not a file"}.items():
        with pytest.raises(InvalidInputError, match=f"^{re.escape(str(tmp_path / name))}: .*{reason}"):
            read_items(tmp_path / name)


def test_an_enormous_item_file_is_refused_unread(tmp_path):
    path = tmp_path / "items.json"
    with path.open("wb") as stream:
        stream.truncate(50_000_001)
    with pytest.raises(InvalidInputError, match="larger than 50,000,000 bytes"):
        read_items(path)


def test_a_draft_has_as_many_levels_as_the_scores_show_and_can_be_loaded(tmp_path):
    answers = tmp_path / "answers.jsonl"
    rows = [
        {"item_id": "ice", "text": "a", "score": 0, "prompt": "Why?"},
        {"item_id": "ice", "text": "b", "score": "2"},
        {"item_id": "essay", "text": "c", "scores": {"content": 3, "form": 0}},
        {"item_id": "form", "text": "c", "trait": "style", "score": 1},
    ]
    answers.write_text("\n".join(json.dumps(row) for row in rows))
    drafted = draft_items(answers, language="de", max_line_bytes=10_000)
    assert {item["id"]: {one["name"]: len(one["levels"]) for one in item["traits"]} for item in drafted} == {
        "ice": {"overall": 3},
        "essay": {"content": 4, "form": 2},
        "form": {"style": 2},
    }
    assert drafted[0]["prompt"] == "Why?"
    loaded = read_items(written(tmp_path, drafted))
    assert [item.item_id for item in loaded] == ["ice", "essay", "form"]
    assert {item.language for item in loaded} == {"de"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"item_id": "ice", "score": "good"}', "line 2: score is not a whole number"),
        ('{"item_id": "ice", "score": 2147483647}', "line 2: trait overall: score 2147483647 is above 99"),
        ('{"item_id": "ice", "score": 100}', "line 2: trait overall: score 100 is above 99"),
        ('{"item_id": "", "score": 1}', "line 2: item_id is empty"),
        ('{"score": 1}', "line 2: missing item_id"),
        ('{"item_id": "ice", "scores": {"a": 1, "b": "x"}}', "line 2: trait b: score is not a whole number"),
        ("{broken", "line 2: .*"),
    ],
)
def test_a_draft_of_broken_answers_is_refused_with_the_line(tmp_path, line, told):
    path = written(tmp_path, f'{{"item_id": "ice", "score": 1}}\n{line}\n'.encode())
    with pytest.raises(InvalidInputError, match=f"^{re.escape(str(path))}: {told}$"):
        draft_items(path, language="en", max_line_bytes=10_000)
