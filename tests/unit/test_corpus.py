"""The demo's files: the same bytes everywhere, counts that hold, answers to be learnt but not guessed."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.pipeline import make_pipeline

from scoring.types import ItemSpec, Trait
from workers.demo.corpus import CorpusFiles, write_corpus
from workers.demo.corpus_nightly import MAX_TEXT_CHARS, NIGHTLY_HEADER

NUM_HISTORY_PER_ITEM = 500
NUM_NIGHTLY = 3000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusFiles:
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(folder, seed=1, num_history_per_item=NUM_HISTORY_PER_ITEM, num_nightly=NUM_NIGHTLY)


@pytest.fixture(scope="module")
def items(corpus: CorpusFiles) -> dict[str, ItemSpec]:
    return {
        entry["id"]: ItemSpec(
            entry["id"],
            entry["prompt"],
            entry["language"],
            tuple(Trait(t["name"], len(t["levels"]), tuple(t["levels"])) for t in entry["traits"]),
            entry["rubric"],
        )
        for entry in json.loads(corpus.items.read_text(encoding="utf-8"))
    }


@pytest.fixture(scope="module")
def history(corpus: CorpusFiles) -> list[dict]:
    lines = [json.loads(line) for line in corpus.history.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line.setdefault("scores", {"score": line.get("score")})
    return lines


@pytest.fixture(scope="module")
def rows(corpus: CorpusFiles) -> list[list[str]]:
    csv.field_size_limit(1_000_000)
    with corpus.nightly.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    assert tuple(header) == NIGHTLY_HEADER
    return rows


def broken_as(row: list[str], item_ids: set[str]) -> str | None:
    """Why a reader who knows only the format refuses a row; None where it is good."""
    if len(row) != len(NIGHTLY_HEADER):
        return "too_few_columns" if len(row) < len(NIGHTLY_HEADER) else "too_many_columns"
    response_id, item_id, attempt, *_, text = row
    reasons = {
        "missing_response_id": not response_id.strip(),
        "unknown_item": item_id not in item_ids,
        "bad_attempt": not attempt.isdecimal(),
        "text_too_long": len(text) > MAX_TEXT_CHARS,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def test_items_cover_scales_subjects_and_languages(items: dict[str, ItemSpec]) -> None:
    assert len(items) >= 8
    scales = Counter(tuple(trait.num_levels for trait in item.traits) for item in items.values())
    assert scales[3,] >= 3
    assert scales[4,] >= 2
    assert scales[2, 2, 2, 2] == 1
    assert {item.language for item in items.values()} == {"en", "de"}
    assert len({item_id.split("-")[0] for item_id in items}) >= 4


def test_the_same_seed_gives_the_same_bytes_in_another_process(corpus: CorpusFiles, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from workers.demo.corpus import write_corpus;"
        "write_corpus(Path(sys.argv[1]), seed=1,"
        f" num_history_per_item={NUM_HISTORY_PER_ITEM}, num_nightly={NUM_NIGHTLY})"
    )
    environment = os.environ | {"PYTHONHASHSEED": "12345", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    for path in (corpus.items, corpus.history, corpus.nightly, corpus.nightly_human):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_another_seed_gives_other_answers(corpus: CorpusFiles, tmp_path: Path) -> None:
    other = write_corpus(tmp_path, seed=2, num_history_per_item=50, num_nightly=50)
    assert other.items.read_bytes() == corpus.items.read_bytes()
    first, second = (
        set(path.read_text(encoding="utf-8").splitlines()) for path in (corpus.history, other.history)
    )
    assert not first & second


def test_the_history_has_every_level_of_every_trait(history: list[dict], items: dict[str, ItemSpec]) -> None:
    levels = defaultdict(Counter)
    for line in history:
        for trait, level in line["scores"].items():
            levels[line["item_id"], trait][level] += 1
    assert set(levels) == {(item_id, trait.name) for item_id, item in items.items() for trait in item.traits}
    for item_id, item in items.items():
        for trait in item.traits:
            counts = levels[item_id, trait.name]
            assert sorted(counts) == list(range(trait.num_levels))
            assert min(counts.values()) >= 0.05 * NUM_HISTORY_PER_ITEM, (item_id, trait.name, counts)


def test_one_trait_items_carry_a_score_and_others_scores(
    corpus: CorpusFiles, items: dict[str, ItemSpec]
) -> None:
    for line in map(json.loads, corpus.history.read_text(encoding="utf-8").splitlines()):
        is_single = len(items[line["item_id"]].traits) == 1
        assert ("score" in line, "scores" in line) == (is_single, not is_single)
        assert line["text"].strip()
        assert line["student"]


def test_history_counts_and_ids(corpus: CorpusFiles, history: list[dict], items: dict[str, ItemSpec]) -> None:
    assert corpus.num_history == len(history) == len({line["response_id"] for line in history})
    assert set(Counter(line["item_id"] for line in history).values()) == {NUM_HISTORY_PER_ITEM}
    assert len({(line["student"], line["item_id"]) for line in history}) == len(history)


def test_the_expected_counts_are_those_of_the_file(
    corpus: CorpusFiles, rows: list[list[str]], items: dict[str, ItemSpec]
) -> None:
    reasons = [broken_as(row, set(items)) for row in rows]
    assert dict(Counter(filter(None, reasons))) == corpus.num_rejected
    accepted: dict[tuple[str, str], list[str]] = {}
    num_repeated = num_conflicts = 0
    for row in (row for row, reason in zip(rows, reasons, strict=True) if reason is None):
        first = accepted.setdefault((row[0], row[2]), row)
        if first is not row:
            same = (first[1], first[5]) == (row[1], row[5])
            num_repeated, num_conflicts = num_repeated + same, num_conflicts + (not same)
    assert (num_repeated, num_conflicts) == (corpus.num_repeated, corpus.num_conflicts) == (1, 1)
    assert len(accepted) == corpus.num_accepted == NUM_NIGHTLY
    assert dict(Counter(row[1] for row in accepted.values())) == corpus.num_accepted_by_item
    refused = sum(corpus.num_rejected.values())
    assert len(rows) == corpus.num_rows == corpus.num_accepted + refused + num_repeated + num_conflicts


def test_human_scores_belong_to_the_accepted_answers(
    corpus: CorpusFiles, rows: list[list[str]], items: dict[str, ItemSpec]
) -> None:
    item_of = {(row[0], row[2]): row[1] for row in rows if broken_as(row, set(items)) is None}
    with corpus.nightly_human.open(encoding="utf-8", newline="") as file:
        human = list(csv.DictReader(file))
    wanted = {(*key, trait.name) for key, item_id in item_of.items() for trait in items[item_id].traits}
    assert {(row["response_id"], row["attempt"], row["trait"]) for row in human} == wanted
    assert len(human) == len(wanted)
    for row in human:
        item = items[item_of[row["response_id"], row["attempt"]]]
        top = {trait.name: trait.num_levels - 1 for trait in item.traits}[row["trait"]]
        assert 0 <= int(row["score"]) <= top


def test_texts_vary_repeat_and_hold_what_breaks_naive_readers(
    rows: list[list[str]], corpus: CorpusFiles
) -> None:
    good = [row for row in rows if len(row) == len(NIGHTLY_HEADER) and len(row[5]) <= MAX_TEXT_CHARS]
    answers = [(row[1], row[5]) for row in good]
    num_distinct = len(set(answers))
    assert 0.6 * len(answers) <= num_distinct
    assert 0.06 * len(answers) <= len(answers) - num_distinct <= 0.16 * len(answers)
    assert 0.015 * NUM_NIGHTLY <= corpus.num_non_answers <= 0.05 * NUM_NIGHTLY
    texts = [text for _, text in answers]
    for mark in (",", '"', "\n", "ß", "ü", "\u00a0", "…"):
        assert any(mark in text for text in texts), repr(mark)
    assert any(ord(char) > 0xFFFF for text in texts for char in text), "an emoji beyond the basic plane"
    assert any(row[2] == "2" for row in good)


def test_learnable_but_not_trivial(history: list[dict], items: dict[str, ItemSpec]) -> None:
    """A bag of words finds most of the score in held-out answers, and nobody can find all of it."""
    by_item = defaultdict(list)
    for line in history:
        by_item[line["item_id"]].append(line)
    qwk = {}
    for item_id, lines in by_item.items():
        texts = [line["text"] for line in lines]
        cut = int(0.7 * len(lines))
        for trait in items[item_id].traits:
            levels = np.array([line["scores"][trait.name] for line in lines])
            model = make_pipeline(
                TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
                LogisticRegression(C=10.0, max_iter=500, class_weight="balanced"),
            )
            predicted = model.fit(texts[:cut], levels[:cut]).predict(texts[cut:])
            qwk[item_id, trait.name] = cohen_kappa_score(levels[cut:], predicted, weights="quadratic")
    assert 0.65 < np.mean(list(qwk.values())) < 0.92, qwk
    assert all(0.5 < value < 0.95 for value in qwk.values()), qwk


@pytest.mark.parametrize("numbers", [(10, 1), (-1, 10)])
def test_senseless_sizes_are_refused(tmp_path: Path, numbers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="num_nightly >= 2"):
        write_corpus(tmp_path, seed=1, num_history_per_item=numbers[0], num_nightly=numbers[1])
    assert not list(tmp_path.iterdir())


def test_counts_are_plain_data(corpus: CorpusFiles) -> None:
    counts = {name: value for name, value in asdict(corpus).items() if not isinstance(value, Path)}
    assert json.loads(json.dumps(counts)) == counts
