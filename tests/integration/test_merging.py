"""Merging over nights on a real registry: proposed with evidence, decided by people, undone exactly."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import aliases, clouds, gw_runs, leases, registry
from db.merges import Word
from scoring.errors import InvalidInputError, UnknownItemError
from scoring.merging.search import Rung, SearchEffort
from tests.mergetown import QUICK, MergeTown, merging_policy
from workers.lessons import lessons_of
from workers.merging import decisions, neighbours, trial
from workers.roster import spec_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sqlalchemy import Connection

    from db.clouds import CloudRecord
    from db.gw_runs import GwRunClaim
    from scoring.merging.extraction import SharedReader
    from scoring.merging.members import Member, Pupil
    from tests.command_line import CommandLine

ADA = Word("ada", "looked at it")
NAMES = ("air", "ice", "sea")


@pytest.fixture
def town(tmp_path: Path, database_url: str) -> Iterator[MergeTown]:
    made = MergeTown.create(tmp_path, database_url)
    yield made
    made.town.close()


def standing(town: MergeTown) -> dict[str, dict[str, int]]:
    return {name: town.aliases(name) for name in NAMES}


def test_a_night_proposes_with_its_evidence_and_the_next_computes_nothing_again(town: MergeTown) -> None:
    champions = town.settle(*NAMES)
    night = town.night("n1")
    assert night is not None
    assert (night.state, night.report["num_made"], night.report["num_solved"]) == ("done", 3, 3)
    (proposed,) = night.proposals
    assert (proposed.state, proposed.method) == ("shadow", "joint")
    (merge,) = town.rows("SELECT * FROM grader.merges")
    pair = merge["items"]
    assert len(pair) == 2
    assert merge["num_extractors_saved"] == 1
    assert merge["num_bytes_saved"] > 0
    distances = town.rows("SELECT * FROM grader.distances ORDER BY distance")
    assert [distances[0]["first_item"], distances[0]["second_item"]] == pair
    assert merge["distance"] == distances[0]["distance"]
    assert merge["distance_rank"] == 1
    for member in town.rows("SELECT * FROM grader.merge_items"):
        assert member["scorer_before"] == champions[member["item_id"]]
        assert town.aliases(member["item_id"])["shadow"] == member["scorer_after"]
        assert member["qwk_change"] == pytest.approx(member["qwk_after"] - member["qwk_before"])
        assert set(member["figures"]) >= {"qwk", "micro_f1", "macro_f1", "exact_match", "checks"}
    (evidence,) = town.rows("SELECT evidence, alternatives FROM model.merge_proposal")
    assert set(evidence["evidence"]["dissimilarities"]) == {
        "gw",
        "cosine",
        "cka",
        "subspace",
        "gradient",
        "prompt",
    }
    assert {tuple(other["items"]) for other in evidence["alternatives"]} <= {
        (one["first_item"], one["second_item"]) for one in distances[1:]
    }
    (extractor,) = town.rows("SELECT * FROM model.extractor WHERE kind = 'merged'")
    assert len(extractor["parents"]) == 2
    assert [event["actor"] for event in town.rows("SELECT actor FROM model.merge_event ORDER BY 1")] == [
        "nightly",
        "policy",
    ]

    assert town.night("n1") is None
    again = town.night("n2")
    assert again is not None
    assert (again.report["num_kept"], again.report["num_made"]) == (3, 0)
    assert (again.report["num_reused"], again.report["num_solved"]) == (3, 0)
    assert again.proposals == ()


def test_a_merged_scorer_tells_its_agreement_for_each_trait(town: MergeTown) -> None:
    for seed, name in enumerate(("air", "ice"), start=1):
        town.serve(name, 3, 3, seed=seed)
        answers = town.hand_in(name, 120, seed=seed)
        for trait in ("trait0", "trait1"):
            town.read(answers[:100], trait=trait)
    night = town.night("n1", fusion=QUICK)
    assert night is not None
    members = town.rows("""
        SELECT m.qwk_after, m.num_answers, c.metrics FROM model.merge_member m
        JOIN model.scorer c ON c.scorer_id = m.scorer_after""")
    assert len(members) == 2
    for member in members:
        told = member["metrics"]["test"]
        assert [(one["trait"], one["num_answers"]) for one in told] == [
            ("trait0", member["num_answers"]),
            ("trait1", member["num_answers"]),
        ]
        assert sum(one["qwk"] for one in told) / 2 == pytest.approx(member["qwk_after"])


def test_answers_that_an_own_scorer_was_trained_on_calibrate_no_merge(
    town: MergeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    champions = town.settle("air", "ice")
    validation = [number for number, fold in folds(town, "ice").items() if fold == "validation"]
    known, kept = validation[::2], validation[1::2]
    town.teach(champions["ice"], {**dict.fromkeys(known, "train"), **dict.fromkeys(kept, "validation")})
    asked, prepare = {}, trial.prepare

    def noted(member: Member, reader: SharedReader) -> Pupil:
        asked[str(member.item.item_id)] = [one.response_id for one in member.validation]
        return prepare(member, reader)

    monkeypatch.setattr(trial, "prepare", noted)
    assert town.night("n1", fusion=QUICK) is not None
    assert known
    assert asked["ice"] == [f"submission-{number}" for number in kept]
    assert len(asked["air"]) == sum(fold == "validation" for fold in folds(town, "air").values())


def folds(town: MergeTown, item_id: str) -> Mapping[int, str]:
    with town.town.database.connect() as connection:
        item = spec_of(registry.load_items(connection)[item_id])
        return lessons_of(connection, item, None).folds


def test_approval_is_for_all_items_at_once_and_rollback_restores_exactly(town: MergeTown) -> None:
    town.settle(*NAMES)
    town.night("n1", fusion=QUICK)
    number = 1
    before = standing(town)
    dry = decisions.approve(town.town.database, town.settings, number, policy=None, word=ADA, dry_run=True)
    assert (dry.state, dry.dry_run) == ("promoted", True)
    assert any(one.before != one.after for one in dry.moved)
    assert standing(town) == before
    assert town.state_of(number) == "shadow"

    done = decisions.approve(town.town.database, town.settings, number, policy=None, word=ADA)
    assert done.state == "promoted"
    served = town.rows("""
        SELECT DISTINCT c.extractor_id FROM model.alias a JOIN model.scorer c USING (scorer_id)
        JOIN model.merge_member m ON m.item_id = a.item_id AND m.scorer_after = a.scorer_id
        WHERE a.alias = 'champion'""")
    assert len(served) == 1
    epochs = town.rows("""
        SELECT DISTINCT detail ->> 'epoch' AS epoch, actor FROM score.audit
        WHERE action = 'promote' AND detail ->> 'reason' LIKE 'merge proposal%'""")
    assert [one["actor"] for one in epochs] == ["ada"]
    states = town.rows("SELECT state, actor FROM model.merge_event ORDER BY merge_event_id")
    assert [(one["state"], one["actor"]) for one in states][-2:] == [("approved", "ada"), ("promoted", "ada")]

    undone = decisions.rollback(town.town.database, number, word=ADA)
    assert undone.state == "rolled_back"
    assert standing(town) == before
    with pytest.raises(InvalidInputError, match="is rolled_back"):
        decisions.rollback(town.town.database, number, word=ADA)
    # The shadows stand as before; a rejection takes them away, and the same pair is not tried again.
    decisions.reject(town.town.database, number, word=ADA)
    assert all("shadow" not in found for found in standing(town).values())
    (pair,) = [one["items"] for one in town.rows("SELECT items FROM model.merge_proposal")]
    again = town.night("n2", fusion=QUICK)
    assert again is not None
    assert list(pair) not in [list(one.items) for one in again.proposals]
    assert "was rejected" in again.report["left_out"][" + ".join(pair)]


def test_what_was_not_measured_is_not_promoted(town: MergeTown) -> None:
    town.settle("air", "ice")
    town.night("n1", fusion=QUICK)
    database = town.town.database
    policy = merging_policy(min_shadow_answers=5).merging
    with pytest.raises(InvalidInputError, match=r"scored 0 of 5 live answers.*--early"):
        decisions.approve(database, town.settings, 1, policy=policy, word=ADA)
    with pytest.raises(InvalidInputError, match="proposal 99: there is none"):
        decisions.reject(database, 99, word=ADA)

    other = town.town.add_scorer("ice", (3,), seed=50, promote=True)
    with pytest.raises(InvalidInputError, match=f"whose champion is {other} now"):
        decisions.approve(database, town.settings, 1, policy=None, word=ADA)
    assert town.aliases("air")["champion"] != town.aliases("air")["shadow"]
    night = town.night("n2", fusion=QUICK)
    assert night is not None
    assert night.report["kept"]["superseded"] == [1]
    assert town.state_of(1) == "superseded"
    # The item with the new champion has a new cloud; the pair is tried anew, against what serves now.
    assert (night.report["num_made"], night.report["num_kept"]) == (1, 1)
    assert [one.items for one in night.proposals] == [("air", "ice")]


def test_a_proposal_whose_shadow_was_taken_ends(town: MergeTown) -> None:
    town.settle("air", "ice")
    town.night("n1", fusion=QUICK)
    other = town.town.add_scorer("ice", (3,), seed=52, promote=False)
    with town.town.database.begin() as connection:
        aliases.set_shadow(connection, other, actor="ada", reason="a retraining passed")
    night = town.night("n2", fusion=QUICK)
    assert night is not None
    assert night.report["kept"]["superseded"] == [1]
    assert town.state_of(1) == "superseded"
    assert town.aliases("ice")["shadow"] == other


def test_a_rollback_never_undoes_a_later_promotion(town: MergeTown) -> None:
    town.settle("air", "ice")
    town.night("n1", fusion=QUICK)
    database = town.town.database
    decisions.approve(database, town.settings, 1, policy=None, word=ADA)
    before = {name: town.aliases(name) for name in ("air", "ice")}
    later = town.town.add_scorer("ice", (3,), seed=51, promote=True)
    with pytest.raises(InvalidInputError, match=f"item ice has been promoted since.*{later}"):
        decisions.rollback(database, 1, word=ADA)
    assert town.aliases("air") == before["air"]
    with database.begin() as connection:
        aliases.rollback(connection, ["ice"], actor="ada", reason="first")
    decisions.rollback(database, 1, word=ADA)
    assert town.aliases("air")["champion"] != before["air"]["champion"]


def test_another_shadow_is_not_pushed_aside(town: MergeTown) -> None:
    town.settle("air", "ice")
    gathering = town.town.add_scorer("ice", (3,), seed=60, promote=False)
    with town.town.database.begin() as connection:
        aliases.set_shadow(connection, gathering, actor="policy", reason="retrained")
    night = town.night("n1", fusion=QUICK)
    assert night is not None
    (proposed,) = night.proposals
    assert (proposed.state, town.state_of(1)) == ("proposed", "proposed")
    assert f"scorer {gathering} is its shadow already" in proposed.reason
    assert town.aliases("ice")["shadow"] == gathering
    assert "shadow" not in town.aliases("air")
    with town.town.database.begin() as connection:
        aliases.rollback(connection, ["ice"], action=aliases.SHADOW, actor="ada", reason="not needed")
    assert decisions.start_shadow(town.town.database, 1, word=ADA).state == "shadow"


def test_what_costs_too_much_is_rejected_by_the_policy_and_says_so(town: MergeTown) -> None:
    town.settle("air", "ice", num_read=0)
    town.read(levels_of_champions(town))
    night = town.night("n1", by=merging_policy(max_mean_qwk_loss=0.0, max_qwk_loss=0.0), fusion=QUICK)
    assert night is not None
    (proposed,) = night.proposals
    assert proposed.state == town.state_of(1) == "rejected"
    assert proposed.qwk_change is not None
    assert proposed.qwk_change < 0
    assert "QWK" in proposed.reason
    assert all("shadow" not in town.aliases(name) for name in ("air", "ice"))
    again = town.night("n2", fusion=QUICK)
    assert again is not None
    assert again.proposals == ()


def levels_of_champions(town: MergeTown) -> list[tuple[int, int]]:
    """Every answer with the level that its item's champion gives, as if people agreed with it."""
    from scoring.artifacts import ArtifactStore
    from scoring.backbone import Backbone
    from scoring.config import EngineConfig
    from scoring.engines.torch import TorchEngine
    from scoring.types import Requests, ScorerKey

    store = ArtifactStore(town.settings.artifact_url())
    engine = TorchEngine(Backbone.load(town.settings.backbone.name), store, EngineConfig())
    answers = town.rows("""
        SELECT s.submission_id, s.text, c.scorer_key FROM ingest.submission s
        JOIN model.alias a ON a.item_id = s.item_id AND a.alias = 'champion'
        JOIN model.scorer c USING (scorer_id)""")
    keys = [ScorerKey(one["scorer_key"]) for one in answers]
    for key in set(keys):
        engine.load(key)
    scores = engine.score(Requests(keys, [one["text"] for one in answers]))
    return [
        (answers[place]["submission_id"], int(level))
        for place, level in zip(scores.answer, scores.level, strict=True)
    ]


def test_a_policy_may_approve_by_itself_inside_its_limits(town: MergeTown) -> None:
    town.settle("air", "ice")
    selfish = merging_policy(approves_itself=True)
    town.night("n1", by=selfish, fusion=QUICK)
    with town.town.database.begin() as connection:
        connection.execute(text("UPDATE model.merge_proposal SET verdict = 'inconclusive'"))
    refused = town.night("n2", by=selfish, fusion=QUICK)
    assert refused is not None
    assert refused.report["kept"]["waiting"] == {"1": "its evidence says inconclusive"} or refused.report[
        "kept"
    ]["waiting"] == {1: "its evidence says inconclusive"}
    with town.town.database.begin() as connection:
        connection.execute(text("UPDATE model.merge_proposal SET verdict = 'pass'"))
    manual = town.night("n3", fusion=QUICK)
    assert manual is not None
    assert town.state_of(1) == "shadow"
    done = town.night("n4", by=selfish, fusion=QUICK)
    assert done is not None
    assert done.report["kept"]["promoted"] == [1]
    events = town.rows("SELECT state, actor FROM model.merge_event ORDER BY merge_event_id")
    assert [(one["state"], one["actor"]) for one in events][-2:] == [
        ("approved", "policy"),
        ("promoted", "policy"),
    ]


def test_approved_for_tonight_is_promoted_by_the_next_night(town: MergeTown) -> None:
    town.settle("air", "ice")
    town.night("n1", fusion=QUICK)
    done = decisions.approve(town.town.database, town.settings, 1, policy=None, word=ADA, at_night=True)
    assert (done.state, town.aliases("air")["champion"]) == ("approved", 1)
    night = town.night("n2", fusion=QUICK)
    assert night is not None
    assert (night.report["kept"]["promoted"], town.state_of(1)) == ([1], "promoted")


def test_a_live_group_takes_another_item_in_and_parts_when_it_drifts(town: MergeTown) -> None:
    champions = town.settle(*NAMES, num_read=0)
    # People agree with the items' own scorers on every answer: whatever is merged is worse.
    town.read(levels_of_champions(town))
    costly = {"max_qwk_loss": 1.0, "max_mean_qwk_loss": 1.0}
    town.night("n1", by=merging_policy(**costly), fusion=QUICK)
    decisions.approve(town.town.database, town.settings, 1, policy=None, word=ADA)
    merged = standing(town)
    trio = merging_policy(max_group_size=3, share_saved=0.7, **costly)
    night = town.night("n2", by=trio, fusion=QUICK)
    assert night is not None
    (joined,) = night.proposals
    assert (joined.kind, joined.items) == ("join", NAMES)
    # Each is compared with what is live now, and taught by its own model.
    for member in town.rows("SELECT * FROM model.merge_member WHERE merge_proposal_id = 2"):
        assert member["scorer_before"] == merged[member["item_id"]]["champion"]
    decisions.approve(town.town.database, town.settings, 2, policy=None, word=ADA)
    assert (
        len(
            {
                one["extractor_id"]
                for one in town.rows("""
        SELECT extractor_id FROM model.alias JOIN model.scorer USING (scorer_id)
        WHERE alias = 'champion'""")
            }
        )
        == 1
    )

    apart = town.night("n3", by=merging_policy(max_distance=1e-4, max_group_size=3), fusion=QUICK)
    assert apart is not None
    (split,) = apart.proposals
    assert (split.kind, split.items, split.method) == ("split", NAMES, "own")
    assert split.qwk_change is not None
    assert split.qwk_change > 0
    decisions.approve(town.town.database, town.settings, 3, policy=None, word=ADA)
    assert {name: found["champion"] for name, found in standing(town).items()} == champions


def test_an_erased_answer_takes_its_cloud_along(town: MergeTown) -> None:
    town.settle("air", "ice")
    town.night("n1", fusion=QUICK)
    (cloud,) = town.rows("SELECT digest FROM model.gw_cloud WHERE item_id = 'ice'")
    with town.town.database.begin() as connection:
        connection.execute(
            text("""
                DELETE FROM ingest.submission WHERE submission_id = (
                    SELECT min(submission_id) FROM model.gw_cloud_submission WHERE digest = :digest)
            """),
            cloud,
        )
    assert [one["item_id"] for one in town.rows("SELECT item_id FROM model.gw_cloud")] == ["air"]
    assert town.rows("SELECT * FROM model.gw_distance") == []
    night = town.night("n2", fusion=QUICK)
    assert night is not None
    assert (night.report["num_made"], night.report["num_kept"]) == (1, 1)


def test_an_answer_erased_while_it_is_sampled_leaves_no_features(
    town: MergeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.settle("air", "ice")
    add, erased = clouds.add_cloud, list[int]()

    def erased_first(
        connection: Connection, claimed: GwRunClaim, cloud: CloudRecord, *, times: int = 1
    ) -> bool:
        if cloud.item_id == "ice" and len(erased) < times:
            erased.append(cloud.submission_ids[0])
            erase(town, cloud.submission_ids[0])
        return add(connection, claimed, cloud)

    monkeypatch.setattr(clouds, "add_cloud", erased_first)
    night = town.night("n1", fusion=QUICK)
    assert night is not None
    assert (night.report["num_made"], len(erased)) == (2, 1)
    for cloud in town.rows("""
            SELECT c.num_answers, count(m.submission_id) AS num_known
            FROM model.gw_cloud c LEFT JOIN model.gw_cloud_submission m USING (digest) GROUP BY c.digest"""):
        assert cloud["num_known"] == cloud["num_answers"]

    town.town.add_scorer("ice", (3,), seed=51, promote=True)
    monkeypatch.setattr(clouds, "add_cloud", partial(erased_first, times=99))
    busy = town.night("n2", fusion=QUICK)
    assert busy is not None
    assert busy.report["left_out"]["ice"] == "its answers were erased while they were sampled"
    assert busy.report["num_made"] == 0


def erase(town: MergeTown, submission_id: int) -> None:
    with town.town.database.begin() as connection:
        connection.execute(
            text("DELETE FROM ingest.submission WHERE submission_id = :id"), {"id": submission_id}
        )


def test_many_new_answers_renew_a_cloud(town: MergeTown) -> None:
    town.settle("air", "ice")
    town.night("n1", fusion=QUICK)
    town.hand_in("ice", 6, seed=90)
    few = town.night("n2", fusion=QUICK)
    assert few is not None
    assert few.report["num_made"] == 0
    town.hand_in("ice", 10, seed=91)
    more = town.night("n3", fusion=QUICK)
    assert more is not None
    assert (more.report["num_made"], more.report["num_solved"]) == (1, 1)


def test_more_answers_asked_for_reach_an_item_that_nobody_answers_any_more(town: MergeTown) -> None:
    town.settle(*NAMES)
    town.night("n1", by=merging_policy(num_answers=50), fusion=QUICK)
    assert sizes(town) == {50}
    more = merging_policy(num_answers=70)
    second, third = (town.night(name, by=more, fusion=QUICK) for name in ("n2", "n3"))
    assert second is not None
    assert third is not None
    assert (second.report["num_made"], third.report["num_made"]) == (3, 0)
    assert sizes(town) == {50, 70}


def test_what_a_killed_night_sampled_small_is_not_taken_for_large(
    town: MergeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.settle("air", "ice")
    monkeypatch.setattr(neighbours, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        town.night("n1", by=merging_policy(num_answers=50), fusion=QUICK)
    monkeypatch.undo()
    more = merging_policy(num_answers=70)
    resumed, after, last = (town.night(name, by=more, fusion=QUICK) for name in ("n1", "n2", "n3"))
    assert resumed is not None
    assert (resumed.state, resumed.report["num_kept"]) == ("done", 2)
    assert after is not None
    assert after.report["num_made"] == 2
    assert last is not None
    assert last.report["num_made"] == 0


def killed(*_told: object) -> None:
    raise KeyboardInterrupt


def test_a_cloud_that_an_item_returns_to_stands_from_then_on(town: MergeTown) -> None:
    town.settle("air", "ice")
    town.night("n1", fusion=QUICK)
    town.town.add_scorer("ice", (3,), seed=51, promote=True)
    town.night("n2", fusion=QUICK)
    with town.town.database.begin() as connection:
        aliases.rollback(connection, ["ice"], actor="ada", reason="first")
    back, after = (town.night(name, fusion=QUICK) for name in ("n3", "n4"))
    assert back is not None
    assert (back.report["num_made"], back.report["num_solved"]) == (1, 0)
    assert after is not None
    assert (after.report["num_made"], after.report["num_kept"]) == (0, 2)


def sizes(town: MergeTown) -> set[int]:
    return {one["num_answers"] for one in town.rows("SELECT num_answers FROM model.gw_cloud")}


def test_an_item_with_three_answers_has_no_noise_floor_and_stops_no_night(town: MergeTown) -> None:
    town.settle("air", "ice")
    town.settle("sea", num_answers=3, num_read=0)
    night = town.night("n1", by=merging_policy(min_answers=2), fusion=QUICK)
    assert night is not None
    assert (night.state, night.report["num_solved"]) == ("done", 3)
    floors = {one["item_id"]: one["noise_floor"] for one in town.rows("SELECT * FROM model.gw_cloud")}
    assert floors["sea"] is None
    assert floors["air"] > 0


def test_what_was_measured_before_a_kill_is_not_measured_again(
    town: MergeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.settle(*NAMES)
    kept = neighbours._keep

    def killed(*told: object) -> None:
        kept(*told)
        raise KeyboardInterrupt

    monkeypatch.setattr(neighbours, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        town.night("n1", fusion=QUICK)
    monkeypatch.undo()
    found = town.rows("SELECT * FROM model.gw_distance")
    assert found
    night = town.night("n1", fusion=QUICK)
    assert night is not None
    assert (night.state, night.report["num_reused"]) == ("done", len(found))
    assert night.report["num_solved"] == 3 - len(found)


def test_very_many_pairs_are_judged_once(town: MergeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ladder's way through the ledger, with a few items taken for very many."""
    effort = partial(
        SearchEffort,
        max_exact_pairs=2,
        rungs=(Rung(20, 0.8, 0), Rung(40, 0.6, 0)),
        num_trials=3,
        num_local_trials=1,
        num_audited=1,
    )
    monkeypatch.setattr(neighbours, "SearchEffort", effort)
    monkeypatch.setattr(neighbours, "_NUM_PAIRS_PER_ITEM", 1)
    town.settle(*NAMES, "fog", "sun")
    first = town.night("n1", fusion=QUICK)
    assert first is not None
    assert first.report["num_pairs"] == 10
    assert first.report["num_sifted"] > 0
    kept = town.rows("SELECT * FROM model.gw_distance ORDER BY first_digest, second_digest")
    assert {one["is_solved"] for one in kept} == {True, False}
    second = town.night("n2", fusion=QUICK)
    assert second is not None
    assert second.state == "done"
    assert (second.report["num_sifted"], second.report["num_solved"]) == (0, 0)
    assert town.rows("SELECT * FROM model.gw_distance ORDER BY first_digest, second_digest") == kept
    town.hand_in("ice", 80, seed=92)
    third = town.night("n3", fusion=QUICK)
    assert third is not None
    assert third.report["num_made"] == 1
    assert 0 < third.report["num_solved"] <= 4


def test_a_pin_that_cannot_be_kept_stops_no_night(town: MergeTown) -> None:
    town.settle(*NAMES)
    decisions.pin(town.town.database, ["air", "ice"], "together", word=ADA)
    decisions.pin(town.town.database, ["ice", "sea"], "together", word=ADA)
    night = town.night("n1", by=merging_policy(max_group_size=2), fusion=QUICK)
    assert night is not None
    assert night.state == "done"
    assert "max_group_size" in night.report["left_out"]["pins"]


def test_a_run_under_way_keeps_others_out(town: MergeTown) -> None:
    town.settle("air", "ice")
    with town.town.database.begin() as connection:
        held = gw_runs.claim(connection, period="n0", trigger="manual", worker="other", lease_s=60.0)
    assert held is not None
    assert town.night("n1", fusion=QUICK) is None
    with town.town.database.begin() as connection:
        leases.release(connection, held.lease)
    night = town.night("n1", fusion=QUICK)
    assert night is not None
    assert night.period == "n0"  # what was begun is finished first
    with town.town.database.begin() as connection, pytest.raises(leases.LeaseLostError):
        gw_runs.finish(connection, held)


def test_pins_stand_until_they_are_taken_away(town: MergeTown) -> None:
    town.settle("air", "ice")
    database = town.town.database
    decisions.pin(database, ["ice", "air"], "apart", word=ADA)
    with pytest.raises(UnknownItemError, match="item fire"):
        decisions.pin(database, ["fire"], "alone", word=ADA)
    night = town.night("n1", fusion=QUICK)
    assert night is not None
    assert night.proposals == ()
    decisions.unpin(database, ["air", "ice"])
    with pytest.raises(InvalidInputError, match="no such pin"):
        decisions.unpin(database, ["air", "ice"])
    again = town.night("n2", fusion=QUICK)
    assert again is not None
    assert [one.items for one in again.proposals] == [("air", "ice")]


def test_the_verbs(town: MergeTown, scorefold: CommandLine) -> None:
    town.settle("air", "ice")
    scorefold.set(
        HOME__PATH=town.settings.home.path,
        BACKBONE__NAME=town.settings.backbone.name,
        ARTIFACTS__URL=town.settings.artifact_url(),
    )
    told = json.loads(scorefold("merges", "run", "--dry-run", "--json").out)
    assert (sorted(told["items"]), told["pending"], told["live_groups"]) == (["air", "ice"], [], [])
    assert town.rows("SELECT * FROM model.gw_run") == []
    assert scorefold("merges", "pin", "air", "--reason", "x").code == 1
    assert scorefold("merges", "pin", "air", "--alone", "--reason", "x").code == 0
    assert "alone" in scorefold("merges", "pins").out
    assert scorefold("merges", "unpin", "air").code == 0
    assert scorefold("merges", "show", "1").code == 1
    town.night("n1", fusion=QUICK)
    (listed,) = json.loads(scorefold("merges", "list", "--json").out)
    assert (listed["merge_proposal_id"], listed["items"]) == (1, ["air", "ice"])
    assert "air + ice" in scorefold("merges", "list").out
    shown = scorefold("merges", "show", "1").out
    for word in ("QWK", "noise floor", "least_squares", "every proposal starts as shadow"):
        assert word in shown
    early = scorefold("merges", "approve", "1", "--reason", "fine")
    assert (early.code, "of 200 live answers" in early.err) == (1, True)
    done = scorefold("merges", "approve", "1", "--reason", "fine", "--early", "--actor", "eve", "--json")
    assert json.loads(done.out)["state"] == "promoted"
    back = scorefold("merges", "rollback", "1", "--reason", "second thoughts")
    assert "is rolled_back" in back.out
    assert scorefold("merges", "reject", "1", "--reason", "no").code == 0
    assert json.loads(scorefold("merges", "list", "--json").out) == []
    (every,) = json.loads(scorefold("merges", "list", "--all", "--json").out)
    assert (every["state"], every["reason"]) == ("rejected", "no")
    assert scorefold("merges", "shadow", "1", "--reason", "again").code == 1
    with town.town.database.connect() as connection:
        assert registry.has_champion(connection, "air")
