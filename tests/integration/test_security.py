"""What must not leak does not: answers in messages and logs, secrets in logs, output and process lists."""

from __future__ import annotations

import ast
import base64
import json
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from tests.chaos.senders import task_message
from tests.deployment import Deployment
from workers.app import make_app
from workers.settings import BrokerSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
#: A word that no log or message may hold.
TELLTALE = "quixotically"


@pytest.fixture
def town(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Deployment]:
    made = Deployment.create(
        tmp_path, database_url=database_url, broker_url=broker_url, SCOREFOLD_TELEMETRY__LOG_LEVEL="debug"
    )
    yield made
    made.close()


def everything_in(client: redis.Redis) -> bytes:
    """All values that Redis holds, lists and hashes alike."""
    found = []
    for key in client.scan_iter():
        kind = client.type(key)
        if kind == b"list":
            found += client.lrange(key, 0, -1)
        elif kind == b"hash":
            found += client.hgetall(key).values()
        elif kind == b"string":
            found.append(client.get(key))
    # Bodies of messages stand in base64, where a plain search would find nothing.
    found += [base64.b64decode(json.loads(one)["body"]) for one in found if one.startswith(b'{"body"')]
    return b"\n".join(found)


def answers(town: Deployment) -> Path:
    path = town.folder / "answers.jsonl"
    records = [
        {
            "response_id": f"r{n}",
            "item_id": "two",
            "text": f"the ice melts {TELLTALE} {n}",
            "student_id": f"{TELLTALE}-{n}",
        }
        for n in range(30)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.timeout(600)
def test_neither_messages_nor_logs_hold_an_answer(town: Deployment, broker_url: str) -> None:
    client = redis.Redis.from_url(broker_url)
    town.run("submit", str(answers(town)))
    messages = everything_in(client)
    assert b'"ids": [' in messages, "nothing was sent: nothing was tried"
    assert TELLTALE.encode() not in messages

    # Three events and one that is none, by the task door; one with a wrong field, by the stream.
    event = {"version": 1, "source": "lms", "response_id": "t1", "item_id": "two", "text": TELLTALE}
    client.lpush(
        "scorefold.submit",
        task_message([event, event | {"text": [TELLTALE]}, {"x": TELLTALE}], random.Random(7)),
    )
    client.lpush("scorefold.shard.0", json.dumps({"headers": {"task": TELLTALE, "id": "1"}}))
    client.xadd("scorefold.submissions", {"event": json.dumps(event | {"attempt": TELLTALE})})
    worker = town.start_worker()
    town.wait_until("SELECT count(*) FROM ingest.work WHERE state = 'done'", at_least=31, timeout_s=240)
    town.wait_until("SELECT count(*) FROM ingest.quarantine", at_least=4, timeout_s=60)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    log = (town.folder / "worker.log").read_text()
    assert "events_refused" in log
    assert "message_refused" in log
    assert TELLTALE not in log
    assert TELLTALE.encode() not in everything_in(client)
    assert client.xlen("scorefold.submissions") == 0


@pytest.mark.timeout(600)
def test_a_secret_is_in_no_output_and_no_command_line(town: Deployment) -> None:
    secret = "hunter2-hunter2"
    town.environment["SCOREFOLD_BROKER__URL"] = f"redis://user:{secret}@127.0.0.1:1/0"
    told = town.run("settings", "--json").stdout + town.run("settings").stdout
    health = town.run("health", check=False)
    assert health.returncode == 1
    assert "Redis does not answer" in health.stdout
    worker = town.start_worker()
    town.wait_until_log("Cannot connect", timeout_s=240)
    command = Path(f"/proc/{worker.pid}/cmdline").read_bytes()
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    submitted = town.run("submit", str(answers(town)), check=False)
    town.environment["SCOREFOLD_DATABASE__URL"] = f"postgresql://user:{secret}@127.0.0.1:1/none"
    refused = town.run("status", check=False)
    assert refused.returncode == 75
    texts = [
        told,
        health.stdout,
        health.stderr,
        submitted.stdout,
        submitted.stderr,
        refused.stdout,
        refused.stderr,
    ]
    texts += [(town.folder / "worker.log").read_text(), command.decode()]
    assert [place for place, found in enumerate(texts) if secret in found] == []


def test_no_code_path_reads_a_pickle() -> None:
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = []
    for package in ("scoring", "db", "workers", "migrations"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names.append(node.module)
                called = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
                if called and (node.value.id, node.attr) in {("torch", "load"), ("yaml", "load")}:
                    names.append("pickle")
                if banned & {name.split(".")[0] for name in names}:
                    found.append(f"{path}:{node.lineno}")
    assert found == []


def test_celery_takes_json_only_and_beat_keeps_no_pickle() -> None:
    conf = make_app(Settings(broker=BrokerSettings(url="redis://localhost/0"))).conf
    assert (conf.accept_content, conf.task_serializer) == (["json"], "json")
    assert conf.beat_scheduler == "celery.beat:Scheduler"
    assert conf.result_backend is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rediss://h:1/0", "required"),
        ("rediss://h:1/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem", 2),
        ("rediss://h:1/0?ssl_cert_reqs=none", 0),
    ],
)
def test_certificates_are_required_unless_somebody_says_otherwise(url: str, expected: object) -> None:
    connection = make_app(Settings(broker=BrokerSettings(url=url))).connection_for_read()
    assert connection.ssl["ssl_cert_reqs"] == expected
