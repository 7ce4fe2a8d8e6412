"""Verbs that wait for answers: with --json too, and then standard output holds one value."""

from __future__ import annotations

import json

import pytest

from db.ledger import LeasePolicy, claim, finish
from db.session import make_engine
from tests import rows
from workers import watch

ANSWERS = "response_id,item_id,text\nr1,ice,it melts\nr2,ice,it does\nr3,nowhere,it melts\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "night.csv"
    path.write_text(ANSWERS)
    return path


@pytest.fixture
def looks(database_url, monkeypatch):
    """An item that is served by a worker who scores when somebody has waited; how often one did."""
    engine, waited = make_engine(database_url), []
    with engine.begin() as connection:
        scorer = rows.serve(connection, "ice")["ice"]

    def score(seconds):
        waited.append(seconds)
        with engine.begin() as connection:
            held = claim(connection, [1, 2], worker="test", policy=LeasePolicy(), attempt=1)
            assert finish(connection, held.token, [1, 2], rows.sheet([1, 2], scorer)) == 2

    monkeypatch.setattr(watch.time, "sleep", score)
    yield waited
    engine.dispose()


def test_submit_waits_and_then_prints_one_value(scorefold, file, looks):
    done = scorefold("submit", file, "--wait", "--json")
    told = json.loads(done.out)
    assert (done.code, len(looks)) == (3, 1)
    assert (told["dry_run"], told["num_new"], told["num_rejected"], told["passed_over"]) == (False, 2, 1, {})
    assert (told["num_scored"], told["num_quarantined"], told["num_waiting"]) == (2, 0, 0)
    assert "2 are new" in done.err
    again = scorefold("submit", file, "--wait")
    assert again.out.endswith("2 scored, 0 quarantined\n")


def test_a_dry_run_waits_for_nothing_and_prints_its_value(scorefold, file, looks):
    done = scorefold("submit", file, "--dry-run", "--wait", "--json")
    assert (done.code, done.err, looks) == (3, "", [])
    assert json.loads(done.out) == json.loads(scorefold("submit", file, "--dry-run", "--json").out) | {
        "batch_id": json.loads(done.out)["batch_id"]
    }


@pytest.mark.parametrize("which", [(), ("--batch", "1")])
def test_status_waits_with_json_as_without(scorefold, file, looks, which):
    assert scorefold("submit", file).code == 3
    done = scorefold("status", "--watch", "--json", *which)
    assert (done.code, done.err, len(looks)) == (0, "", 1)
    told = json.loads(done.out)
    assert told["work"]["done"] == 2
    assert [batch["num_waiting"] for batch in told["batches"]] == [0]
    assert "2 done" in scorefold("status", "--watch", *which).out


@pytest.mark.parametrize("how", [(), ("--watch",), ("--json",), ("--watch", "--json")])
def test_a_batch_that_is_not_there_is_an_error(scorefold, how):
    done = scorefold("status", "--batch", "99999", *how)
    assert (done.code, done.out, done.err) == (1, "", "error: there is no batch 99999\n")
