"""`scorefold evaluate` on a real ledger and on files: which reads count, and what rsmeval is given."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text

from db import aliases, registry
from db.ledger import LeasePolicy, claim, finish
from db.session import make_engine
from scoring.errors import InvalidInputError
from scoring.evaluation.gates import Verdict
from scoring.evaluation.policy import read_policy
from scoring.metrics import quadratic_weighted_kappa
from tests.rows import accept, scorer, serve, sheet
from workers.evaluating import Scope, evaluate_file, evaluate_ledger, plain
from workers.importers.scored import Columns
from workers.rsmtool import write_rsmeval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy import Engine as Database

POLICY = read_policy()
MAX_LINE_BYTES = 10_000


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


def machine_says(connection: Connection, ids: Sequence[int], scorer_id: int, levels: Sequence[int]) -> None:
    held = claim(connection, ids, worker="test", policy=LeasePolicy(), attempt=1)
    if not len(held):
        # Scored before: another scorer's rows join them, as a shadow's do.
        connection.execute(
            text("""
                INSERT INTO score.machine_score (submission_id, trait, scorer_id, role, level, engine)
                SELECT id, 't0', :scorer, 'shadow', level, 'test'
                FROM unnest(CAST(:ids AS bigint[]), CAST(:levels AS int[])) AS x (id, level)
            """),
            {"ids": list(ids), "levels": [int(level) for level in levels], "scorer": scorer_id},
        )
        return
    columns = sheet(ids, scorer_id)
    columns.level[:] = [int(level) for level in levels]
    assert finish(connection, held.token, list(ids), columns) == len(ids)


def people_say(
    connection: Connection,
    ids: Sequence[int],
    levels: Sequence[int],
    *,
    purpose: str = "first",
    rater: str = "ada",
) -> None:
    connection.execute(
        text("""
            INSERT INTO score.human_score (submission_id, trait, purpose, rater, level)
            VALUES (:id, 't0', :purpose, :rater, :level)
        """),
        [
            {"id": id_, "purpose": purpose, "rater": rater, "level": int(level)}
            for id_, level in zip(ids, levels, strict=True)
        ],
    )


def noisy(levels: Sequence[int], *, wrong: float, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int(rng.integers(3)) if rng.random() < wrong else level for level in levels]


def test_champion_and_shadow_are_compared_with_the_reads_that_count(database: Database) -> None:
    with database.begin() as connection:
        champion = serve(connection, "item-a")["item-a"]
        shadow = registry.register_scorer(connection, scorer(version="2"))
        aliases.set_shadow(connection, shadow, actor="ada", reason="try")
        ids = accept(connection, 240)
        human = [number % 3 for number in range(240)]
        by_champion, by_shadow = noisy(human, wrong=0.6, seed=1), noisy(human, wrong=0.1, seed=2)
        machine_says(connection, ids, champion, by_champion)
        machine_says(connection, ids, shadow, by_shadow)
        # The first read of answer 0 is wrong; an appeal mended it. A training read never counts.
        people_say(connection, ids[:220], [2, *human[1:220]])
        people_say(connection, ids[:1], human[:1], purpose="appeal", rater="board")
        people_say(connection, ids[220:], human[220:], purpose="training")
        second = noisy(human[:210], wrong=0.1, seed=3)
        people_say(connection, ids[:210], second, purpose="second", rater="bob")
    one, other = evaluate_ledger(database, Scope(), POLICY)
    assert (one.scorer_id, one.alias, other.scorer_id, other.alias) == (
        champion,
        "champion",
        shadow,
        "shadow",
    )
    (trait,) = one.report.traits
    # A second read outranks a first one, an appeal outranks both.
    counting = [human[0], *second[1:210], *human[210:220]]
    assert trait.num_answers == 220
    assert trait.figures["qwk"].value == pytest.approx(quadratic_weighted_kappa(by_champion[:220], counting))
    assert trait.human_qwk is not None
    assert trait.human_qwk.num_answers == 210
    assert trait.human_qwk.value == pytest.approx(quadratic_weighted_kappa([2, *human[1:210]], second))
    assert one.judgement.verdict is Verdict.FAIL
    assert other.judgement.verdict is Verdict.PASS
    only_first = evaluate_ledger(database, Scope(scorer_ids=(shadow,), purposes=("first",)), POLICY)[0]
    assert only_first.report.traits[0].figures["qwk"].value == pytest.approx(
        quadratic_weighted_kappa(by_shadow[:220], [2, *human[1:220]])
    )
    with database.connect() as connection:
        view = connection.execute(
            text("SELECT qwk FROM grader.agreement WHERE scorer_id = :id"), {"id": shadow}
        ).scalar_one()
    assert only_first.report.traits[0].figures["qwk"].value == pytest.approx(view)


def test_a_level_that_the_rubric_does_not_have_is_none(database: Database) -> None:
    """A plain INSERT may bring one; it neither ends the evaluation nor counts as another level."""
    with database.begin() as connection:
        champion = serve(connection, "item-a")["item-a"]
        ids = accept(connection, 6)
        machine_says(connection, ids, champion, [0, 1, 2, 2, 1, 0])
        people_say(connection, ids, [0, 1, 2, 9, -1, 0])
        people_say(connection, ids, [0, 1, 2, 2, 1, 7], purpose="second", rater="bob")
    (one,) = evaluate_ledger(database, Scope(purposes=("first",)), POLICY)
    (trait,) = one.report.traits
    assert (trait.num_answers, trait.figures["accuracy"].value) == (4, 1.0)
    assert trait.human_qwk is None or trait.human_qwk.num_answers == 3


def test_what_a_scorer_learned_from_is_not_evidence(database: Database) -> None:
    with database.begin() as connection:
        champion = serve(connection, "item-a")["item-a"]
        run = registry.start_training(connection, "item-a", trigger="manual", config={}, data={})
        connection.execute(
            text("UPDATE model.scorer SET training_run_id = :run WHERE scorer_id = :id"),
            {"run": run, "id": champion},
        )
        ids = accept(connection, 30)
        machine_says(connection, ids, champion, [1] * 30)
        people_say(connection, ids, [1] * 30)
        connection.execute(
            text("INSERT INTO model.training_run_submission VALUES (:run, :id, :fold)"),
            [
                {"run": run, "id": id_, "fold": fold}
                for id_, fold in zip(ids[:12], ["train"] * 6 + ["validation"] * 4 + ["test"] * 2, strict=True)
            ],
        )
    (found,) = evaluate_ledger(database, Scope(), POLICY)
    assert found.report.traits[0].num_answers == 20
    assert found.judgement.verdict is Verdict.INCONCLUSIVE


def test_unknown_items_and_scorers_are_named(database: Database) -> None:
    with database.begin() as connection:
        serve(connection, "item-a")
    for scope in (Scope(item_ids=("item-z",)), Scope(scorer_ids=(777,))):
        with pytest.raises(InvalidInputError, match=r"no scorer to evaluate for (item-z|777)"):
            evaluate_ledger(database, scope, POLICY)


def write_scored(path: Path, *, num_answers: int = 260, extra: str = "") -> Path:
    human = [number % 3 for number in range(num_answers)]
    machine = noisy(human, wrong=0.1, seed=1)
    second = noisy(human, wrong=0.1, seed=2)
    with path.open("w", encoding="utf-8") as stream:
        stream.write("response_id,item_id,machine,human,second,region\n")
        for number, row in enumerate(zip(machine, human, second, strict=True)):
            levels = f"{row[0]},{row[1]},{row[2] if number < 220 else ''}"
            stream.write(f"{'=' if number == 0 else ''}r{number},ice,{levels},{'ns'[number % 2]}\n")
        stream.write(extra)
    return path


def test_a_scored_file_is_evaluated_and_its_faults_are_named(tmp_path: Path) -> None:
    path = write_scored(tmp_path / "scored.csv", extra="r1,ice,1,1,,n\nr900,ice,x,1,,n\nr901,ice,1,100,,s\n")
    (found,), rejected = evaluate_file(
        path, Columns(groups=("region",)), POLICY, max_line_bytes=MAX_LINE_BYTES
    )
    assert [row.reason for row in rejected] == ["repeated", "machine_invalid", "human_invalid"]
    (trait,) = found.report.traits
    assert (found.item_id, found.scorer_id, trait.num_answers) == ("ice", None, 260)
    assert [group.group for group in trait.groups] == ["n", "s"]
    assert found.judgement.verdict is Verdict.PASS
    assert json.loads(json.dumps(plain(found), allow_nan=False))["judgement"]["verdict"] == "pass"


def test_rsmeval_is_given_scores_with_zeros_and_a_configuration(tmp_path: Path) -> None:
    path = write_scored(tmp_path / "scored.csv")
    (found,), _ = evaluate_file(path, Columns(groups=("region",)), POLICY, max_line_bytes=MAX_LINE_BYTES)
    out = tmp_path / "for-rsmeval.csv"
    config = json.loads(write_rsmeval(out, found).read_text(encoding="utf-8"))
    assert config["exclude_zero_scores"] is False
    assert (config["trim_min"], config["trim_max"], config["subgroups"]) == (0, 2, ["region"])
    assert " " not in config["experiment_id"]
    with (tmp_path / config["predictions_file"]).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    named = ("id_column", "system_score_column", "human_score_column", "second_human_score_column")
    assert {config[name] for name in named} | {"region"} == set(rows[0])
    assert len(rows) == 260
    assert sum(row["sc1"] == "0" for row in rows) == 87
    assert sum(row["sc2"] == "" for row in rows) == 40
    assert rows[0]["spkitemid"] == "'=r0", "a spreadsheet would take it for a formula"
    qwk = quadratic_weighted_kappa([int(r["system"]) for r in rows], [int(r["sc1"]) for r in rows])
    assert qwk == pytest.approx(found.report.traits[0].figures["qwk"].value)


def test_rsmeval_takes_one_trait(tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    path.write_text("response_id,trait,machine,human\na,x,1,1\na,y,0,1\nb,x,0,0\n", encoding="utf-8")
    (found,), _ = evaluate_file(path, Columns(), POLICY, max_line_bytes=MAX_LINE_BYTES)
    with pytest.raises(InvalidInputError, match=r"one trait: name it with --trait; it has x, y"):
        write_rsmeval(tmp_path / "out.csv", found)
    with pytest.raises(InvalidInputError, match="there is no trait 'z'"):
        write_rsmeval(tmp_path / "out.csv", found, trait="z")
    with pytest.raises(InvalidInputError, match="name the CSV"):
        write_rsmeval(tmp_path / "out.json", found, trait="y")
    config = json.loads(write_rsmeval(tmp_path / "out.csv", found, trait="y").read_text(encoding="utf-8"))
    assert "second_human_score_column" not in config
    assert len((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("response_id,machine\na,1\n", "missing column"),
        ("response_id,machine,human\na,1,\n", "line 2: human is empty"),
        ("response_id,machine,human\n", "no row with a machine's and a human level"),
    ],
)
def test_a_file_without_levels_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=message):
        evaluate_file(path, Columns(), POLICY, max_line_bytes=MAX_LINE_BYTES)
