"""What verbs print: values as they are, never as markup; JSON that every program reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from uuid import UUID

import pytest

from workers.cli import printing


class Colour(Enum):
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    when: datetime


@pytest.fixture(autouse=True)
def _own_console():
    # A console holds on to the stream it was made with, and each test has another one.
    printing._console.cache_clear()
    yield
    printing._console.cache_clear()


def test_json_is_one_line_that_can_be_read_back(capsys):
    value = {
        "row": Row("Eis", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        "path": Path("a") / "b",
        "uuid": UUID(int=7),
        "enum": Colour.BLUE,
        "tuple": (1, 2),
        "set": {3},
        "text": "schmölze\n\x1b",
        "none": None,
    }
    printing.print_json(value)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "row": {"name": "Eis", "when": "2026-03-01T08:30:00+00:00"},
        "path": "a/b",
        "uuid": "00000000-0000-0000-0000-000000000007",
        "enum": "blue",
        "tuple": [1, 2],
        "set": [3],
        "text": "schmölze\n\x1b",
        "none": None,
    }


def test_json_has_no_form_for_what_nobody_thought_of(capsys):
    with pytest.raises(TypeError, match="bytes has no JSON form"):
        printing.print_json(b"raw")
    assert capsys.readouterr().out == ""


def test_a_table_shows_every_value(capsys):
    rows = [("ice", 3, 0.5, True, None), ("a-much-longer-id", 12345, 0.25, False, "x")]
    printing.print_table(("item", "n", "share", "on", "code"), rows, title="night")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["night"],
        ["item", "n", "share", "on", "code"],
        ["ice", "3", "0.500", "yes", "-"],
        ["a-much-longer-id", "12345", "0.250", "no", "x"],
    ]
    assert lines[2].index("3 ") == lines[3].index("5 ")


@pytest.mark.parametrize("name", ["[red]ice[/red]", "[/]", "[link=http://x]", ":smile:", "a\\[b]"])
def test_names_are_never_taken_for_markup(capsys, name):
    printing.print_table((name, "n"), [(name, 1)])
    printing.say(name)
    printing.remark(name)
    told = capsys.readouterr()
    assert told.out.count(name) == 3
    assert told.err == name + "\n"


def test_long_lines_are_not_broken(capsys):
    printing.say("x" * 500)
    printing.remark("y" * 500, style="yellow")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("x" * 500 + "\n", "y" * 500 + "\n")


def test_the_lines_of_a_table_are_whole_where_there_is_no_terminal(capsys):
    printing.print_table(("setting", "meaning"), [("S" * 60, "m" * 200)])
    assert f"{'S' * 60}  {'m' * 200}\n" in capsys.readouterr().out


def test_a_progress_bar_is_silent_where_there_is_no_terminal(capsys):
    with printing.progress_bar(unit="answers") as bar:
        bar.update(bar.add_task("scoring", total=2), completed=1)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")
