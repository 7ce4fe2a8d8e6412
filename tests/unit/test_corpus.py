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

from db.intake import IncomingRow, RejectedRow
from scoring.types import ItemSpec, Trait
from workers.demo.corpus import CorpusFiles, write_corpus
from workers.demo.corpus_export import HUMAN_HEADER, ExportFile
from workers.importers import exports, files
from workers.importers.sources import load_source

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
def answers(corpus: CorpusFiles) -> dict[str, list[IncomingRow | RejectedRow]]:
    """What the importers make of each export, in file order, by its source."""
    return {export.source: imported(corpus, export) for export in corpus.exports}


def imported(corpus: CorpusFiles, export: ExportFile) -> list[IncomingRow | RejectedRow]:
    file = files.inspect(export.path)
    assert file.file_format == {"canvas": "canvas_classic", "moodle": "moodle"}[export.source]
    source, passed = load_source(corpus.sources, export.source), Counter[str]()
    found = list(
        exports.submissions(
            file,
            source,
            max_line_bytes=4_000_000,
            max_text_chars=50_000,
            on_passed_over=lambda question: passed.update([question]),
        )
    )
    assert passed.total() == export.expected.num_passed_over
    return found


def keyed(row: IncomingRow) -> tuple[object, ...]:
    return row.student_id, row.response_id, row.attempt


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
    written = sorted(path.name for path in corpus.items.parent.iterdir())
    assert len(written) == 9
    assert written == sorted(path.name for path in tmp_path.iterdir())
    for name in written:
        assert (tmp_path / name).read_bytes() == (corpus.items.parent / name).read_bytes()


def test_another_seed_gives_other_answers(corpus: CorpusFiles, tmp_path: Path) -> None:
    other = write_corpus(tmp_path, seed=2, num_history_per_item=50, num_nightly=100)
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


def test_the_expected_counts_are_those_that_the_importers_find(
    corpus: CorpusFiles, answers: dict[str, list], items: dict[str, ItemSpec]
) -> None:
    for export in corpus.exports:
        expected, first = export.expected, {}
        reasons, outcomes = Counter[str](), Counter[str]()
        for row in answers[export.source]:
            if isinstance(row, RejectedRow):
                reasons[row.reason] += 1
            elif row.item_id not in items:
                reasons["unknown_item"] += 1
            elif (known := first.setdefault(keyed(row), row)) is not row:
                outcomes["same" if known.content_sha256 == row.content_sha256 else "other"] += 1
        assert reasons == expected.num_rejected
        assert outcomes == {"same": expected.num_repeated, "other": expected.num_conflicts}
        assert len(first) == expected.num_accepted
        assert Counter(row.item_id for row in first.values()) == expected.num_accepted_by_item
        assert len(answers[export.source]) == expected.num_rows
    assert corpus.num_accepted == NUM_NIGHTLY


def test_human_scores_belong_to_the_accepted_answers(
    corpus: CorpusFiles, answers: dict[str, list], items: dict[str, ItemSpec]
) -> None:
    for export in corpus.exports:
        good = [
            row for row in answers[export.source] if isinstance(row, IncomingRow) and row.item_id in items
        ]
        wanted = {
            (row.student_id, row.item_id, str(row.attempt), trait.name)
            for row in good
            for trait in items[row.item_id].traits
        }
        with export.human.open(encoding="utf-8", newline="") as file:
            human = list(csv.DictReader(file))
        assert {tuple(row[name] for name in HUMAN_HEADER[:4]) for row in human} == wanted
        assert len(human) == len(wanted)
        for row in human:
            levels = {trait.name: trait.num_levels for trait in items[row["item_id"]].traits}
            assert 0 <= int(row["score"]) < levels[row["trait"]]


def test_students_of_another_night_are_others(corpus: CorpusFiles, tmp_path: Path) -> None:
    other = write_corpus(tmp_path, seed=2, num_history_per_item=1, num_nightly=200)
    first, second = (
        {line.split(",")[0] for export in one.exports for line in export.human.read_text().splitlines()[1:]}
        for one in (corpus, other)
    )
    assert not first & second


def test_texts_vary_repeat_and_hold_what_breaks_naive_readers(
    answers: dict[str, list], corpus: CorpusFiles
) -> None:
    good = [row for rows in answers.values() for row in rows if isinstance(row, IncomingRow)]
    found = [(row.item_id, row.text) for row in good]
    num_distinct = len(set(found))
    assert 0.6 * len(found) <= num_distinct
    assert 0.06 * len(found) <= len(found) - num_distinct <= 0.16 * len(found)
    num_non_answers = sum(export.expected.num_non_answers for export in corpus.exports)
    assert 0.015 * NUM_NIGHTLY <= num_non_answers <= 0.05 * NUM_NIGHTLY
    texts = [text for _, text in found]
    for mark in (",", '"', "\n", "ß", "ü", "\u00a0", "…"):
        assert any(mark in text for text in texts), repr(mark)
    assert any(ord(char) > 0xFFFF for text in texts for char in text), "an emoji beyond the basic plane"
    assert {row.attempt for row in good} == {1, 2}


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


@pytest.mark.parametrize("numbers", [(10, 99), (-1, 1000)])
def test_senseless_sizes_are_refused(tmp_path: Path, numbers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="num_nightly >= 100"):
        write_corpus(tmp_path, seed=1, num_history_per_item=numbers[0], num_nightly=numbers[1])
    assert not list(tmp_path.iterdir())


def test_counts_are_plain_data(corpus: CorpusFiles) -> None:
    for export in corpus.exports:
        counts = asdict(export.expected)
        assert json.loads(json.dumps(counts)) == counts
