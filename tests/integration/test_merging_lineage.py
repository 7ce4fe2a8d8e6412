"""What merged scorers learned from: written down, left out of what they are measured on, named on erasure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import clouds, evaluations, privacy, readable
from db.merges import Word
from tests.mergetown import QUICK, MergeTown
from workers.merging import decisions, proposing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from db.privacy import Erasure

ADA = Word("ada", "looked at it")


@pytest.fixture
def town(tmp_path: Path, database_url: str) -> Iterator[MergeTown]:
    made = MergeTown.create(tmp_path, database_url)
    yield made
    made.town.close()


def merged(town: MergeTown) -> dict[str, int]:
    """The merged scorers, by item."""
    rows = town.rows("SELECT item_id, scorer_after FROM model.merge_member")
    return {row["item_id"]: row["scorer_after"] for row in rows}


def num_new(town: MergeTown) -> dict[str, int]:
    with town.town.database.connect() as connection:
        return {one.item_id: one.num_new for one in readable.champions(connection)}


def forget(town: MergeTown, student: str) -> Erasure:
    """An erasure that is undone again."""
    with town.town.database.connect() as connection:
        erasure = privacy.forget(connection, student, source=None, actor="officer")
    assert erasure is not None
    return erasure


def test_a_merge_is_a_finished_training_of_each_item_with_its_lineage(town: MergeTown) -> None:
    town.settle("air", "ice")
    town.night("n1", fusion=QUICK)
    for item_id, scorer_id in merged(town).items():
        (run,) = town.rows("SELECT * FROM model.training_run WHERE item_id = :item", item=item_id)
        assert (run["trigger"], run["state"], run["period"]) == ("merge", "done", None)
        assert run["finished_at"] is not None
        (scorer,) = town.rows("SELECT * FROM model.scorer WHERE scorer_id = :id", id=scorer_id)
        assert (scorer["training_run_id"], scorer["metrics"]) == (run["training_run_id"], run["metrics"])
        with town.town.database.connect() as connection:
            folds = readable.folds_of(connection, scorer_id)
            item_answers = clouds.recent_answers(connection, item_id, limit=1000)
            unread = {one.submission_id for one in item_answers} - {
                one.submission_id for one in readable.read_answers(connection, item_id)
            }
            learned = readable.learned_from(connection, scorer_id)
        assert unread
        assert {folds[number] for number in unread} == {"train"}
        counts = {name: list(folds.values()).count(name) for name in ("train", "validation", "test")}
        assert counts["train"] == run["data"]["num_train"] + run["data"]["num_unread"]
        assert counts["validation"] == run["data"]["num_validation"] > 0
        assert counts["test"] == run["metrics"]["num_test"] > 0
        assert learned == {number for number, fold in folds.items() if fold != "test"}


def test_a_merged_scorer_is_not_evaluated_on_what_it_learned_from(town: MergeTown) -> None:
    town.settle("air", "ice")
    town.night("n1", fusion=QUICK)
    scorer = merged(town)["ice"]
    with town.town.database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO score.machine_score (submission_id, trait, scorer_id, role, level, engine)
                SELECT submission_id, 'trait0', :scorer, 'shadow', 1, 'test'
                FROM ingest.submission WHERE item_id = 'ice'
            """),
            {"scorer": scorer},
        )
        told = {one.submission_id for one in evaluations.read_levels(connection, scorer)}
        folds = readable.folds_of(connection, scorer)
    assert told == {number for number, fold in folds.items() if fold == "test"}


def test_reads_are_used_up_by_a_merge_only_while_it_serves(town: MergeTown) -> None:
    town.settle("air", "ice", num_read=0)
    answers = town.hand_in("ice", 60, seed=9)
    town.read(answers[:40])
    town.night("n1", fusion=QUICK)
    assert num_new(town)["ice"] == 40
    decisions.approve(town.town.database, town.settings, 1, policy=None, word=ADA)
    assert num_new(town)["ice"] == 0
    # The merge learned from these too, but from no person's word on them.
    town.read(answers[40:])
    assert num_new(town)["ice"] == 20
    decisions.rollback(town.town.database, 1, word=ADA)
    assert num_new(town)["ice"] == 60


def test_erasure_names_the_scorers_that_share_what_learned_from_the_answers(town: MergeTown) -> None:
    champions = town.settle("air", "ice")
    town.night("n1", fusion=QUICK)
    names = merged(town)
    (learned,) = town.rows(
        """
        SELECT p.source_student_id AS student FROM model.scorer c
        JOIN model.training_run_submission t USING (training_run_id)
        JOIN ingest.submission s USING (submission_id) JOIN pii.student p USING (student_key)
        WHERE c.scorer_id = :scorer AND t.fold = 'validation' ORDER BY t.submission_id LIMIT 1""",
        scorer=names["ice"],
    )
    told = forget(town, learned["student"])
    assert {one.scorer_id for one in told.scorers} == set(names.values())
    assert [one.scorer_id for one in told.scorers_of_unknown_lineage] == [champions["ice"]]


def test_erasure_names_what_was_merged_from_what_learned_from_the_answers(town: MergeTown) -> None:
    champions = town.settle("air", "ice")
    town.night("n1", fusion=QUICK)
    names = merged(town)
    late = town.hand_in("ice", 2, seed=70)
    town.teach(champions["ice"], {late[0][0]: "train"})
    told = forget(town, "ice-70-s0")
    assert {one.scorer_id for one in told.scorers} == {champions["ice"], *names.values()}
    tested = town.hand_in("air", 2, seed=71)
    town.teach(champions["air"], {tested[0][0]: "test"})
    assert {one.scorer_id for one in forget(town, "air-71-s0").scorers} == {champions["air"]}


def test_an_answer_erased_during_the_trial_leaves_no_merged_scorer(
    town: MergeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.settle("air", "ice")
    record, erased = proposing.trainings.add_lineage, list[int]()

    def erased_first(*told: object) -> bool:
        if not erased:
            erased.append(max(told[2]))
            with town.town.database.begin() as connection:
                connection.execute(
                    text("DELETE FROM ingest.submission WHERE submission_id = :id"), {"id": erased[0]}
                )
        return record(*told)

    monkeypatch.setattr(proposing.trainings, "add_lineage", erased_first)
    night = town.night("n1", fusion=QUICK)
    assert night is not None
    assert (night.state, night.proposals) == ("done", ())
    assert "erased while the group was tried" in night.report["left_out"]["air + ice"]
    assert town.rows("SELECT * FROM model.extractor WHERE kind = 'merged'") == []
    assert town.rows("SELECT * FROM model.training_run") == []
    again = town.night("n2", fusion=QUICK)
    assert again is not None
    assert [one.items for one in again.proposals] == [("air", "ice")]
