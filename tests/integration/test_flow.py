"""The whole flow with real processes: file in, scores out, promotions followed, nothing lost or doubled."""

from __future__ import annotations

import json
import signal

from sqlalchemy import text

from tests.deployment import ITEMS, Deployment


def test_a_file_is_scored_once_and_a_promotion_is_followed(town: Deployment) -> None:
    worker = town.start_worker()
    answers = town.write_answers("night.jsonl", 400)
    report = json.loads(town.run("submit", str(answers), "--json").stdout)
    assert (report["num_new"], report["num_rejected"]) == (400, 0)
    town.wait_until_settled()
    assert town.count("SELECT count(*) FROM ingest.work WHERE state = 'done'") == 400
    assert town.faults() == []
    again = json.loads(town.run("submit", str(answers), "--json").stdout)
    assert (again["num_new"], again["num_accepted"]) == (0, 400)

    successor = town.add_scorer("three", ITEMS["three"], seed=99, promote=True)
    town.run("submit", str(town.write_answers("next.jsonl", 200, first=401)), "--wait")
    assert town.faults() == []
    used = town.count(
        "SELECT count(*) FROM score.machine_score m JOIN ingest.submission s USING (submission_id)"
        f" WHERE s.item_id = 'three' AND m.scorer_id = {successor}"
    )
    assert used == 50

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert town.count("SELECT count(*) FROM ingest.lease") == 0


def test_status_and_scores_say_what_the_tables_say(town: Deployment) -> None:
    town.start_worker()
    town.run("submit", str(town.write_answers("night.jsonl", 40)), "--wait")
    status = json.loads(town.run("status", "--json").stdout)
    assert status["work"] == {"ready": 0, "leased": 0, "done": 40, "quarantined": 0}
    (batch,) = status["batches"]
    assert (batch["num_accepted"], batch["num_scored"], batch["num_waiting"]) == (40, 40, 0)
    found = json.loads(town.run("scores", "--json", "--limit", "1000").stdout)
    assert len(found) == 10 * (1 + 1 + 1 + 3)
    assert all(0 <= row["level"] < ITEMS[row["item_id"]][0] for row in found)

    humans = town.folder / "humans.csv"
    lines = [
        f"{row['response_id']},{row['trait']},{row['level']}" for row in found if row["item_id"] == "two"
    ]
    humans.write_text("response_id,trait,score\n" + "\n".join(lines) + "\nr9999,x,1\n")
    imported = town.run("humans", "import", str(humans), "--json", check=False)
    assert imported.returncode == 3
    assert json.loads(imported.stdout)["num_new"] == 10
    summary = json.loads(town.run("scores", "--summary", "--json").stdout)
    (two,) = [row for row in summary if row["item_id"] == "two"]
    assert (two["num_pairs"], two["exact"]) == (10, 1.0)


def test_condition_codes_are_given_without_the_model(town: Deployment) -> None:
    town.start_worker()
    path = town.folder / "codes.jsonl"
    texts = ["", "   ", "idk", "the ice melts because heat warms it"]
    path.write_text(
        "\n".join(
            json.dumps({"response_id": f"c{n}", "item_id": "many", "text": answer})
            for n, answer in enumerate(texts)
        )
    )
    town.run("submit", str(path), "--wait")
    with town.database.connect() as connection:
        found = connection.execute(
            text("""
                SELECT s.response_id, array_agg(m.condition_code) AS codes, bool_and(m.needs_review) AS review
                FROM score.machine_score m JOIN ingest.submission s USING (submission_id)
                GROUP BY 1 ORDER BY 1
            """)
        ).all()
    codes = {row.response_id: row.codes for row in found}
    assert codes["c0"] == codes["c1"] == ["blank"] * 3
    assert codes["c2"] == ["refused"] * 3
    assert codes["c3"] == [None] * 3
    assert all(row.review for row in found if row.response_id != "c3")


def test_a_champion_that_cannot_be_loaded_leaves_the_one_before_serving(town: Deployment) -> None:
    town.start_worker()
    town.run("submit", str(town.write_answers("a.jsonl", 40)), "--wait")
    broken = town.add_scorer("four", ITEMS["four"], seed=77, promote=False)
    with town.database.connect() as connection:
        key = connection.execute(
            text("SELECT scorer_key FROM model.scorer WHERE scorer_id = :id"), {"id": broken}
        ).scalar_one()
    (head,) = (town.folder / "artifacts").rglob(f"{key}/head.safetensors")
    content = bytearray(head.read_bytes())
    content[-1] ^= 1
    head.chmod(0o600)
    head.write_bytes(bytes(content))
    with town.database.begin() as connection:
        from db import registry

        registry.promote(connection, [broken], actor="test", reason="a broken one")
    town.run("submit", str(town.write_answers("b.jsonl", 40, first=100)), "--wait")
    assert town.faults() == []
    assert town.count(f"SELECT count(*) FROM score.machine_score WHERE scorer_id = {broken}") == 0
    assert "scorer_refused" in (town.folder / "worker.log").read_text()
