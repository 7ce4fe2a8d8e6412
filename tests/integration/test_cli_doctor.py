"""What `scorefold doctor` finds, on a machine that could work and on one that could not."""

import json

import pytest

from tests.command_line import CommandLine
from tests.unit.tiny_encoders import write_encoder


@pytest.fixture
def scorefold(monkeypatch, capsys, tmp_path, database_url, broker_url):
    made = CommandLine(monkeypatch, capsys)
    made.set(
        HOME__PATH=tmp_path / "home",
        DATABASE__URL=database_url,
        BROKER__URL=broker_url,
        BACKBONE__NAME=write_encoder(tmp_path / "encoder"),
    )
    return made


def test_a_machine_that_could_work(scorefold):
    done = scorefold("doctor", "--json")
    told = json.loads(done.out)
    assert (done.code, told["faults"]) == (0, [])
    assert told["backbone"]["family"] == "bert"
    assert told["num_cores"] >= 1
    assert told["versions"]["torch"]
    kinds = {trial["kind"] for trial in told["engines"]}
    assert kinds == {"torch", "onnx"}
    for trial in told["engines"]:
        assert trial["answers_per_s"] > 0
        assert trial["reason"] is None
    # int8 is timed wherever it is exact, whether it pays here or not.
    in_int8 = {trial["kind"] for trial in told["engines"] if " int8 " in trial["name"]}
    assert in_int8 == ({"torch", "onnx"} if told["int8_works"] else set())
    assert told["precision"] == "auto"


def test_a_family_that_one_engine_cannot_run_is_told(scorefold, tmp_path):
    scorefold.set(BACKBONE__NAME=write_encoder(tmp_path / "other", family="distilbert"))
    done = scorefold("doctor", "--json")
    (onnx,) = [trial for trial in json.loads(done.out)["engines"] if trial["kind"] == "onnx"]
    assert onnx["answers_per_s"] is None
    assert "distilbert has no graph" in onnx["reason"]


def test_a_machine_that_could_not(scorefold):
    scorefold.set(
        BACKBONE__NAME="/nowhere/at/all",
        BROKER__URL="redis://127.0.0.1:1/0",
        ARTIFACTS__URL="nosuchstore://bucket",
    )
    done = scorefold("doctor")
    assert done.code == 1
    assert "artifact store: cannot open its URL" in done.out
    assert "there is no such folder" in done.out
    assert "Redis" in done.out
    assert "torch" in done.out
