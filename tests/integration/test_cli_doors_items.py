"""Items and human scores through the command line: what is refused, and that nothing came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer
from sqlalchemy import text

from db.session import make_engine
from tests import rows
from workers.cli.main import add_verbs, app
from workers.cli.processes import parse_shards

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import click
    from sqlalchemy import Engine

MARKER = "Gletscherkuss"


@pytest.fixture(autouse=True)
def database(database_url: str) -> Iterator[Engine]:
    """Item `ice` has one trait of three levels and a champion, `essay` has two; r1 to r3 and e1 are in."""
    engine = make_engine(database_url)
    with engine.begin() as connection:
        rows.serve(connection, "ice")
        rows.registry.save_items(connection, [rows.item("essay", 2, 4)])
        incoming = [rows.incoming(number, f"r{number}", MARKER, item_id="ice") for number in (1, 2, 3)]
        incoming.append(rows.incoming(4, "e1", MARKER, item_id="essay"))
        rows.intake.accept_file(connection, rows.header(source="file"), incoming)
    yield engine
    engine.dispose()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "given"


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def item(item_id: str, *labels: str) -> dict[str, object]:
    return {"id": item_id, "traits": [{"name": "t0", "levels": list(labels)}]}


def found(database: Engine, query: str) -> list[object]:
    with database.connect() as connection:
        return list(connection.execute(text(query)).scalars())


ITEM_FAULTS = {
    "not JSON": ("{", "line 1: not JSON"),
    "not a list": (item("hail", "a", "b"), "is not a JSON list of items"),
    "one level only": ([item("snow", "a", "b"), item("hail", "a")], "item 2 (hail): traits.0.levels: "),
    "an item twice": ([item("hail", "a", "b")] * 2, "item hail stands there twice"),
    "other levels for a scorer": ([item("snow", "a", "b"), item("ice", "a", "b")], "item ice "),
    "an id with NUL": ([item("ha\x00il", "a", "b")], "item 1: id: "),
    "a prompt with NUL": ([{**item("hail", "a", "b"), "prompt": "\x00"}], "item 1 (hail): prompt: "),
}


@pytest.mark.parametrize(("content", "told"), ITEM_FAULTS.values(), ids=ITEM_FAULTS)
def test_a_broken_item_file_changes_nothing(scorefold, database, file, content, told):
    done = scorefold("items", "load", write(file, content))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: {file}: {told}")
    assert done.err.count("\n") == 1
    assert found(database, "SELECT item_id FROM model.item ORDER BY 1") == ["essay", "ice"]


def test_items_are_loaded_once_changed_and_listed(scorefold, database, file):
    write(file, [item("snow", "no", "yes"), {**item("hail", "no", "yes"), "prompt": "Why [not]?"}])
    assert "2 would be new, 0 changed" in scorefold("items", "load", file, "--dry-run").out
    assert len(found(database, "SELECT item_id FROM model.item")) == 2
    assert "2 are new, 0 changed" in scorefold("items", "load", file).out
    assert "0 are new, 0 changed" in scorefold("items", "load", file).out
    write(file, [{**item("snow", "no", "perhaps", "yes"), "prompt": "Why?"}])
    assert "0 are new, 1 changed" in scorefold("items", "load", file).out
    assert found(database, "SELECT num_levels FROM model.trait WHERE item_id = 'snow'") == [3]
    listed = {one["item"]["item_id"]: one for one in json.loads(scorefold("items", "list", "--json").out)}
    assert listed["ice"]["champion"] is not None
    assert listed["hail"]["item"]["prompt"] == "Why [not]?"
    assert "snow" in scorefold("items", "list").out


def test_what_draft_writes_load_reads(scorefold, tmp_path, file):
    answers = write(tmp_path / "a.csv", f"item_id,text,score\nhail,{MARKER},2\nhail,{MARKER},0\n")
    printed = scorefold("items", "draft", answers, "--language", "de")
    assert [len(one["traits"][0]["levels"]) for one in json.loads(printed.out)] == [3]
    assert scorefold("items", "draft", answers, "--out", file).code == 0
    assert "1 are new" in scorefold("items", "load", file).out
    nowhere = scorefold("items", "draft", answers, "--out", tmp_path / "absent" / "x.json")
    assert (nowhere.code, nowhere.out) == (1, "")
    assert nowhere.err.startswith(f"error: {tmp_path / 'absent' / 'x.json'}: cannot be written: ")


SCORES = """response_id,trait,score
r1,,2
r2,t0,0
r9,,1
r3,,3
r2,t0,1
r3,t7,1
e1,,1
e1,t1,3
r3,t0,x
"""
REFUSED = {
    4: "unknown_submission",
    5: "level_out_of_range",
    6: "contradicts",
    7: "unknown_trait",
    8: "trait_missing",
    10: "score_invalid",
}


def test_wrong_human_scores_are_told_by_line_and_the_others_taken(scorefold, database, file):
    done = scorefold("humans", "import", write(file, SCORES), "--rater", "anna")
    assert done.code == 3
    assert "9 scores read: 3 are new, 0 known, 6 refused" in done.out
    told = [line.split(": ", 2) for line in done.err.splitlines()]
    assert {
        int(line.removeprefix("line ")): rest.rpartition("(")[2][:-1] for _, line, rest in told
    } == REFUSED
    assert MARKER not in done.err
    taken = "SELECT response_id || h.trait || h.level FROM score.human_score h JOIN ingest.submission s"
    assert sorted(found(database, f"{taken} USING (submission_id)")) == ["e1t13", "r1t02", "r2t00"]


def test_human_scores_are_taken_once_and_never_overwritten(scorefold, database, file):
    write(file, "response_id,score\nr1,2\nr2,0\n")
    assert "2 would be new" in scorefold("humans", "import", file, "--dry-run").out
    assert found(database, "SELECT level FROM score.human_score") == []
    assert "2 are new" in scorefold("humans", "import", file).out
    again = scorefold("humans", "import", file)
    assert (again.code, "0 are new, 2 known" in again.out) == (0, True)
    done = scorefold("humans", "import", write(file, "response_id,score\nr1,1\n"))
    assert done.code == 3
    assert done.err == f"{file}: line 2: response r1 attempt 1: human has given level 2 before (conflict)\n"
    assert scorefold("humans", "import", file, "--purpose", "appeal").code == 0
    assert sorted(found(database, "SELECT level FROM score.human_score")) == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "the file is empty"),
        ("response_id,score\n", "the file has a header and no rows"),
        (f"r1,{MARKER}\n", "line 1: missing column(s) response_id"),
        ('response_id,score\nr1,"2\n', "line 2: unexpected end of data"),
    ],
)
def test_a_broken_file_of_human_scores_is_one_line(scorefold, database, file, content, told):
    done = scorefold("humans", "import", write(file, content))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: {file}: {told}")
    assert done.err.count("\n") == 1
    assert MARKER not in done.err
    assert found(database, "SELECT level FROM score.human_score") == []


def test_names_of_traits_that_postgres_cannot_hold_are_refused(scorefold, database, file):
    line = '{"response_id": "r1", "scores": {"%s": 1}}\n'
    done = scorefold("humans", "import", write(file, line % "a\\u0000" + line % "\\ud800" + line % "t0"))
    assert done.code == 3
    assert done.err.count("(trait_invalid)") == 2
    assert found(database, "SELECT level FROM score.human_score") == [1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("humans", "import", "FILE", "--purpose", "guess"),
        ("submit",),
        ("submit", "FILE", "--nonsense"),
        ("scores", "--limit", "0"),
        ("scores", "--batch", str(2**63)),
        ("status", "--batch", "-1"),
        ("scores", "--limit", str(2**63)),
        ("models", "show", str(2**63)),
        ("models", "promote", "1", str(2**63), "--reason", "x"),
        ("models", "export", str(2**63), "folder"),
        ("quarantine", "list", "--limit", str(2**63)),
        ("quarantine", "show", str(2**63)),
        ("quarantine", "retry", "1", str(2**63)),
        ("quarantine", "purge", str(2**63), "--reason", "x"),
        ("merges", "show", str(2**63)),
        ("evaluate", "--scorer", str(2**63)),
        ("evaluate", "--days", "999999"),
        ("nonsense",),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(scorefold, file, arguments):
    done = scorefold(*(str(write(file, "x")) if word == "FILE" else word for word in arguments))
    assert (done.code, done.out) == (2, "")
    assert done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("shards", ["one", "0,", "8", "-1", "0,1,99"])
def test_shards_that_are_none_are_refused(shards):
    with pytest.raises(typer.BadParameter, match=f"--shards {shards}: "):
        parse_shards(shards, num_shards=8)


def test_shards_are_read_in_any_order_and_once_each():
    assert parse_shards("2,0,2", num_shards=8) == [0, 2]
    assert parse_shards(None, num_shards=8) is None


def test_scores_of_a_batch_that_is_not_there(scorefold):
    done = scorefold("scores", "--summary", "--batch", "999")
    assert (done.code, done.err) == (1, "error: there is no batch 999\n")
    assert json.loads(scorefold("scores", "--json", "--batch", "999").out) == []


def verbs(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from verbs(inner, (*path, name))


def test_every_verb_explains_itself_and_each_of_its_options(scorefold):
    add_verbs()
    known = dict(verbs(typer.main.get_command(app)))
    assert {("submit",), ("items", "load"), ("humans", "import"), ("health",)} <= known.keys()
    for path, command in known.items():
        assert command.help, path
        shown = [one for one in command.params if one.name != "help" and not getattr(one, "hidden", False)]
        silent = [one.name for one in shown if not getattr(one, "help", None)]
        assert silent in ([], ["install_completion", "show_completion"]), path
        told = scorefold(*path, "--help")
        assert (told.code, told.err) == (0, "")
        first_words = command.help.split()[:4]
        assert " ".join(first_words) in " ".join(told.out.split())
