"""Retraining on a real registry: what is due, what is learned from, what a verdict leads to."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from db import aliases, retraining, runs
from scoring.config import TrainingConfig
from scoring.errors import InvalidInputError, StoreUnavailableError
from scoring.types import LabelledAnswer
from tests.schoolhouse import QUICK, School, policy, settings_for
from workers.dueness import standings
from workers.lessons import History
from workers.nightly import RETRAIN
from workers.recipes import recorded
from workers.retraining import Retrainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command_line import CommandLine
    from workers.dueness import Standing


@pytest.fixture
def school(tmp_path: Path, database_url: str) -> Iterator[School]:
    made = School.create(tmp_path, database_url)
    yield made
    made.town.close()


def run_of(school: School, item_id: str, period: str) -> dict[str, object]:
    with school.town.database.connect() as connection:
        row = connection.execute(
            text("SELECT * FROM model.training_run WHERE item_id = :item AND period = :period"),
            {"item": item_id, "period": period},
        ).one()
        return dict(row._mapping)


def folds_of(school: School, run: object) -> dict[str, int]:
    with school.town.database.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT fold, count(*) AS num FROM model.training_run_submission"
                " WHERE training_run_id = :run GROUP BY fold"
            ),
            {"run": run},
        )
        return {row.fold: row.num for row in rows}


def test_enough_new_reads_make_a_better_champion_once(school: School) -> None:
    first = school.serve("ice")
    handed_in = school.hand_in("ice", 420, num_repeated=30)
    school.read(handed_in[:90])
    assert school.retrain("w1") == []
    school.read(handed_in[90:])
    (done,) = school.retrain("w2")
    assert (done.item_id, done.trigger, done.verdict, done.decision) == (
        "ice",
        "new_scores",
        "pass",
        "champion",
    )
    assert school.aliases("ice") == {"champion": done.scorer_id, "previous": first}
    run = run_of(school, "ice", "w2")
    assert (run["state"], run["trigger"], run["verdict"], run["token"]) == (
        "done",
        "new_scores",
        "pass",
        None,
    )
    assert run["config"]["max_epochs"] == QUICK.max_epochs
    assert run["data"] == {"num_answers": 420, "num_submissions": 420, "num_left_out": 0}
    folds = folds_of(school, run["training_run_id"])
    assert sum(folds.values()) == 420
    assert set(folds) == {"train", "validation", "test"}
    assert run["metrics"]["num_test"] == folds["test"]
    checks = {check["name"]: check for check in run["evidence"]["checks"]}
    assert checks["qwk_change"]["verdict"] == "pass"
    assert checks["qwk"]["figure"]["num_answers"] == folds["test"]
    assert school.faults() == []

    assert school.retrain("w2") == []
    assert school.retrain("w3") == []
    with school.town.database.connect() as connection:
        assert runs.is_done(connection, kind=RETRAIN, period="w3")


def at_random(handed_in: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Levels that have nothing to do with the answers: nobody can learn them."""
    dice = random.Random(7)
    return [(number, dice.randrange(3)) for number, _ in handed_in]


def test_a_challenger_that_fails_is_kept_and_not_tried_again_on_the_same_answers(school: School) -> None:
    first = school.serve("ice")
    school.read(at_random(school.hand_in("ice", 300)))
    strict = policy(agreement={"min_qwk": 1.0})
    (done,) = school.retrain("w1", by=strict)
    assert (done.verdict, done.decision) == ("fail", "registered")
    assert school.aliases("ice") == {"champion": first}
    assert school.retrain("w2", by=strict) == []
    school.read(at_random(school.hand_in("ice", 99, seed=1)))
    assert school.retrain("w3", by=strict) == []
    school.read(at_random(school.hand_in("ice", 1, seed=2)))
    (again,) = school.retrain("w4", by=strict)
    assert again.verdict == "fail"
    assert school.faults() == []


def test_too_few_answers_to_judge_never_make_a_champion_nor_displace_a_shadow(school: School) -> None:
    first = school.serve("ice")
    school.read(school.hand_in("ice", 150))
    careful = policy(evidence={"min_answers": 200})
    (done,) = school.retrain("w1", by=careful)
    assert (done.verdict, done.decision) == ("inconclusive", "shadow")
    assert school.aliases("ice") == {"champion": first, "shadow": done.scorer_id}
    school.read(school.hand_in("ice", 120, seed=1))
    (second,) = school.retrain("w2", by=careful)
    assert (second.verdict, second.decision) == ("inconclusive", "registered")
    assert school.aliases("ice") == {"champion": first, "shadow": done.scorer_id}
    assert school.faults() == []


def test_the_next_champion_is_measured_on_what_the_last_one_did_not_learn(school: School) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 300))
    (first,) = school.retrain("w1")
    assert first.decision == "champion"
    learned = folds_of(school, first.training_run_id)
    # A new answer by the same students may move them to another fold: the comparison leaves them out.
    school.read(school.hand_in("ice", 300, seed=1))
    (second,) = school.retrain("w2")
    run = run_of(school, "ice", "w2")
    (change,) = [check for check in run["evidence"]["checks"] if check["name"] == "qwk_change"]
    assert run["evidence"]["champion"] == first.scorer_id
    num_fresh = school.town.count(f"""
        SELECT count(*) FROM model.training_run_submission t
        WHERE t.training_run_id = {second.training_run_id} AND t.fold = 'test' AND NOT EXISTS (
            SELECT FROM model.training_run_submission o WHERE o.submission_id = t.submission_id
              AND o.training_run_id = {first.training_run_id} AND o.fold <> 'test')""")
    assert change["figure"]["num_answers"] == num_fresh
    assert learned["train"] > 0


def test_answers_that_a_rule_decides_and_half_read_ones_are_not_learned_from(school: School) -> None:
    school.serve("many", 2, 2)
    handed_in = [(number, min(level, 1)) for number, level in school.hand_in("many", 130)]
    school.read(handed_in)
    school.read(handed_in[:120], trait="trait1")
    with school.town.database.begin() as connection:
        connection.execute(
            text("UPDATE ingest.submission SET text = 'idk' WHERE submission_id = :id"),
            {"id": handed_in[0][0]},
        )
        connection.execute(
            text("UPDATE score.human_score SET level = 9 WHERE submission_id = :id"), {"id": handed_in[1][0]}
        )
    (done,) = school.retrain("w1")
    run = run_of(school, "many", "w1")
    assert run["data"] == {"num_answers": 118, "num_submissions": 118, "num_left_out": 1}
    assert done.error is None


def test_a_history_file_teaches_too_and_its_students_stay_on_one_side(school: School) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 120))
    told = [
        LabelledAnswer(f"h{number}", f"the ice melts {number} heat", {"trait0": number % 3}, student=student)
        for number, student in enumerate(["ice-0-s0", "ice-0-s1", "ice-0-s2", "a stranger", None] * 20)
    ]
    history = History({"ice": told}, "old.csv", "f" * 64, "lms")
    (done,) = school.retrain("w1", history=history)
    data = run_of(school, "ice", "w1")["data"]
    assert (data["num_answers"], data["num_submissions"], data["num_history"]) == (220, 120, 100)
    assert data["sha256"] == "f" * 64
    from workers.lessons import lessons_of
    from workers.roster import spec_of

    with school.town.database.connect() as connection:
        from db import registry

        item = spec_of(registry.load_items(connection)["ice"])
        lessons = lessons_of(connection, item, history)
    sides: dict[str | None, set[str | None]] = {}
    for one in lessons.answers:
        sides.setdefault(one.student, set()).add(one.fold)
    shared = [folds for student, folds in sides.items() if student is not None]
    assert all(len(folds) == 1 for folds in shared)
    # The ledger's pseudonym is the file's student: three of them wrote in both.
    in_both = {a.student for a in lessons.answers if a.response_id.startswith("history")} & {
        a.student for a in lessons.answers if a.response_id.startswith("submission")
    }
    assert len(in_both) == 3
    assert done.error is None


def test_too_few_answers_end_the_run_with_the_reason(school: School) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 12))
    (done,) = school.retrain("w1", by=policy(retraining={"min_new_reads": 10}))
    assert "12 scored answers, training needs at least" in done.error
    run = run_of(school, "ice", "w1")
    assert (run["state"], run["token"]) == ("failed", None)
    assert school.faults() == []
    # They taught nobody, so that they still are new.
    (again,) = school.retrain("w2", by=policy(retraining={"min_new_reads": 10}))
    assert again.training_run_id != done.training_run_id


def test_an_absent_store_gives_the_run_back_and_a_rerun_completes_it(school: School) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 150))
    store = school.town.folder / "artifacts"
    aside = store.rename(school.town.folder / "aside")
    store.write_text("not a folder")
    for _ in range(5):
        with pytest.raises(StoreUnavailableError):
            school.retrain("w1")
    run = run_of(school, "ice", "w1")
    assert run["state"] == "running"
    assert school.town.count("SELECT count(*) FROM ops.run WHERE state = 'done'") == 0
    store.unlink()
    aside.rename(store)
    (done,) = school.retrain("w2")
    assert done.training_run_id == run["training_run_id"]
    finished = run_of(school, "ice", "w1")
    assert (finished["state"], finished["num_attempts"], finished["period"]) == ("done", 1, "w1")
    assert school.faults() == []


def test_a_run_that_ends_its_process_again_and_again_is_given_up(school: School) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 150))
    for _ in range(3):
        with school.town.database.begin() as connection:
            held = retraining.claim(
                connection, "ice", period="w1", trigger="new_scores", worker="dead", lease_s=-1
            )
            assert held is not None
    (done,) = school.retrain("w1")
    assert "ended 3 times" in done.error
    assert run_of(school, "ice", "w1")["state"] == "failed"


def test_a_run_whose_item_lost_its_champion_holds_up_nobody(school: School) -> None:
    for item_id in ("air", "ice"):
        school.serve(item_id)
        school.read(school.hand_in(item_id, 150))
    with school.town.database.begin() as connection:
        retraining.claim(connection, "air", period="w1", trigger="new_scores", worker="dead", lease_s=-1)
        connection.execute(text("DELETE FROM model.alias WHERE item_id = 'air'"))
    (done,) = school.retrain("w2")
    assert (done.item_id, done.error) == ("ice", None)
    assert "lost its champion" in run_of(school, "air", "w1")["error"]
    with school.town.database.connect() as connection:
        assert runs.is_done(connection, kind=RETRAIN, period="w2")


def test_an_item_in_other_hands_is_left_alone(school: School) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 150))
    with school.town.database.begin() as connection:
        retraining.claim(connection, "ice", period="w1", trigger="new_scores", worker="other", lease_s=60)
    assert school.retrain("w1") == []
    assert school.retrain("w2") == []
    with school.town.database.connect() as connection:
        assert [(run.item_id, run.worker) for run in retraining.busy(connection)] == [("ice", "other")]
        assert not runs.is_done(connection, kind=RETRAIN, period="w1")
    assert school.town.count("SELECT count(*) FROM model.training_run") == 1


def test_a_lost_lease_concludes_nothing(school: School, database_url: str) -> None:
    # So long a lease is not renewed before the end: only the last transaction can notice.
    school.settings = settings_for(school.town.folder, database_url, lease_s=3600.0)
    champion = school.serve("ice")
    school.read(school.hand_in("ice", 150))
    taken = []

    def steal(item_id: str, num_done: int, num_epochs: int) -> None:
        if not taken:
            with school.town.database.begin() as connection:
                connection.execute(text("UPDATE model.training_run SET lease_until = now() - interval '1 s'"))
                taken.append(
                    retraining.claim(
                        connection, "ice", period="w1", trigger="new_scores", worker="thief", lease_s=60
                    )
                )

    retrainer = Retrainer(school.town.database, school.settings, policy(), config=QUICK, num_threads=1)
    assert list(retrainer.run_due("w1", progress=steal)) == []
    assert taken[0] is not None
    run = run_of(school, "ice", "w1")
    assert (run["state"], run["worker"], run["token"]) == ("running", "thief", taken[0].token)
    assert school.aliases("ice") == {"champion": champion}
    assert school.town.count("SELECT count(*) FROM model.scorer") == 1


def test_two_at_once_share_the_items(school: School) -> None:
    items = ["a", "bb", "ccc", "dddd"]
    for seed, item_id in enumerate(items):
        school.serve(item_id, seed=seed)
        school.read(school.hand_in(item_id, 110))
    results: list[list[str]] = [[], []]
    gate = threading.Barrier(2)

    def work(place: int) -> None:
        gate.wait()
        results[place] = [done.item_id for done in school.retrain("w1")]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results[0] + results[1]) == items
    assert school.town.count("SELECT count(*) FROM model.training_run WHERE state = 'done'") == 4
    assert school.faults() == []


def test_a_champion_that_was_changed_meanwhile_is_left_alone(school: School) -> None:
    school.serve("ice")
    other = school.town.add_scorer("ice", (3,), seed=9, promote=False)
    school.read(school.hand_in("ice", 300))

    def promote_other(item_id: str, num_done: int, num_epochs: int) -> None:
        with school.town.database.begin() as connection:
            aliases.promote(connection, [other], actor="ada", reason="in a hurry")

    retrainer = Retrainer(school.town.database, school.settings, policy(), config=QUICK, num_threads=1)
    (done,) = retrainer.run_due("w1", progress=promote_other)
    assert (done.verdict, done.decision) == ("pass", "registered")
    assert school.aliases("ice")["champion"] == other


def test_nobody_moves_an_alias_between_the_look_at_it_and_the_decision(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 300))
    look, refusals = aliases.aliases_of, []

    def looked(connection: Connection, item_ids: list[str]) -> object:
        found = look(connection, item_ids)
        with school.town.database.connect() as other, pytest.raises(OperationalError) as refusal:
            other.execute(text("SELECT 1 FROM model.epoch FOR UPDATE NOWAIT"))
        refusals.append(refusal)
        return found

    monkeypatch.setattr(aliases, "aliases_of", looked)
    (done,) = school.retrain("w1")
    assert done.decision == "champion"
    assert refusals


def test_a_recipe_that_was_chosen_for_an_item_stays_chosen(school: School) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 150))
    chosen = replace(QUICK, review_risk=0.01, head_lr=0.02)
    (first,) = school.retrain("w1", config=chosen)
    with school.town.database.begin() as connection:
        aliases.promote(connection, [first.scorer_id], actor="ada", reason="good enough")
    school.read(school.hand_in("ice", 150, seed=7))
    (second,) = school.retrain("w2", config=QUICK)
    assert second.error is None
    config = run_of(school, "ice", "w2")["config"]
    assert (config["review_risk"], config["head_lr"]) == (0.01, 0.02)


def test_a_champion_that_cannot_be_asked_leaves_the_verdict_open(school: School) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 300))
    (head,) = (school.town.folder / "artifacts").rglob("head.safetensors")
    head.write_bytes(head.read_bytes()[:-1])
    (done,) = school.retrain("w1")
    assert (done.verdict, done.decision) == ("inconclusive", "shadow")


def test_an_item_by_name_needs_no_reason_but_a_champion(school: School) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 60))
    retrainer = Retrainer(school.town.database, school.settings, policy(), config=QUICK, num_threads=1)
    (done,) = retrainer.run({"ice": "manual"}, "w1")
    assert done.trigger == "manual"
    assert list(retrainer.run({"ice": "manual"}, "w1")) == []
    with pytest.raises(InvalidInputError, match="item sun: has no champion"):
        list(retrainer.run({"sun": "manual"}, "w1"))


def standing(school: School, **sections: dict[str, object]) -> Standing:
    (found,) = standings(school.town.database, policy(**sections))
    return found


def score(school: School, handed_in: list[tuple[int, int]], scorer_id: int, *, days_ago: int) -> None:
    with school.town.database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO score.machine_score
                    (submission_id, trait, scorer_id, role, level, engine, scored_at)
                VALUES (:id, 'trait0', :scorer, 'champion', :level, 'test',
                        now() - make_interval(days => :days))
            """),
            [
                {"id": number, "scorer": scorer_id, "level": level, "days": days_ago}
                for number, level in handed_in
            ],
        )


def test_drift_makes_an_item_due_once_people_have_read_a_little(school: School) -> None:
    champion = school.serve("ice")
    before, recent = school.hand_in("ice", 60), school.hand_in("ice", 60, seed=1)
    score(school, before, champion, days_ago=60)
    score(school, recent, champion, days_ago=1)
    assert standing(school).psi == pytest.approx(0, abs=0.2)
    moved = school.hand_in("ice", 200, seed=2)
    score(school, [(number, 2) for number, _ in moved], champion, days_ago=1)
    found = standing(school)
    assert found.psi > 0.25
    assert found.trigger is None
    assert "but 0 new reads of 20" in found.reason
    school.read(moved[:20])
    assert standing(school).trigger == "drift"
    assert standing(school, evidence={"min_answers": 61}).psi is None


def test_falling_agreement_makes_an_item_due(school: School) -> None:
    champion = school.serve("ice")
    handed_in = school.hand_in("ice", 60)
    score(school, handed_in, champion, days_ago=1)
    school.read([(number, 2 - level) for number, level in handed_in])
    assert standing(school).qwk_drop is None, "nothing is known of the champion's test fold"
    with school.town.database.begin() as connection:
        connection.execute(
            text("UPDATE model.scorer SET metrics = :metrics"),
            {"metrics": '{"test": [{"trait": "trait0", "qwk": 0.8}]}'},
        )
    found = standing(school)
    assert found.qwk_drop > 1
    assert found.trigger == "agreement"
    with school.town.database.begin() as connection:
        connection.execute(text("UPDATE score.human_score SET scored_at = now() - interval '60 days'"))
    assert standing(school).qwk_drop is None


def test_items_are_retrained_by_command_with_a_history_file(school: School, scorefold: CommandLine) -> None:
    school.serve("ice")
    school.read(school.hand_in("ice", 60))
    names = {
        "BACKBONE__NAME": school.settings.backbone.name,
        "ARTIFACTS__URL": school.settings.artifact_url(),
    }
    scorefold.set(**names)
    path = school.town.folder / "old.jsonl"
    rows = [{"item_id": "ice", "text": f"heat {number}", "score": number % 3} for number in range(40)]
    path.write_text("\n".join(map(json.dumps, [*rows, {"item_id": "ice", "text": "x", "score": 7.5}])))
    arguments = ["ice", "--history", path, "--epochs", 1, "--period", "w1"]
    done = scorefold("retrain", *arguments, "--json")
    assert done.code == 0, done.err
    assert "line 41" in done.err
    told = json.loads(done.out)
    assert (told["retrained"][0]["trigger"], told["busy"]) == ("manual", [])
    run = run_of(school, "ice", "w1")
    assert run["data"]["num_history"] == 40
    # What was asked for once is told, and is not what a later retraining goes by.
    assert (run["config"]["max_epochs"], recorded(run["config"])) == (1, TrainingConfig())
    shown = scorefold("models", "show", told["retrained"][0]["scorer_id"])
    assert "manual" in shown.out
    assert "nothing was due" in scorefold("retrain", *arguments).out
    assert scorefold("retrain").code == 1
    assert scorefold("retrain", "--due", "ice").code == 1
