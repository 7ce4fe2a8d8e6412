"""What the documents for each of the three users tell them to type, typed as it stands there."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db.session import make_engine
from tests import graded, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from tests.command_line import CommandLine

DOCS = Path(__file__).resolve().parents[2] / "docs"


def document(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def commands(name: str) -> list[list[str]]:
    """Every line after a prompt, without its remark."""
    lines = re.findall(r"^\$ scorefold (.*)$", document(name), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def block(name: str, language: str, containing: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", document(name), re.DOTALL)
    (one,) = [content for content in found if containing in content]
    return one


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the user types in."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_an_administrator_goes_from_the_export_to_scores_and_back(
    scorefold: CommandLine, database: Engine, desk: Path, tmp_path: Path
) -> None:
    with database.begin() as connection:
        rows.serve(connection, "puddle", "ramp")
    sources = block("administrators", "toml", "[canvas]")
    (desk / "sources.toml").write_text(sources, encoding="utf-8")
    items = block("administrators", "csv", "question,item_id")
    for name in ("canvas-items.csv", "moodle-items.csv"):
        (desk / name).write_text(items, encoding="utf-8")
    (desk / "human.csv").write_text(block("administrators", "csv", "student_id"), encoding="utf-8")
    lead = ["name", "id", "section", "section_id", "submitted", "attempt"]
    with (desk / "export.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            [*lead, "17: Where did the puddle go?", "1.0", "18: Why does ice melt in the sun?", "1.0"]
        )
        writer.writerow(
            ["Ada", "4711", "1", "1", "2026-03-01 08:30:00 UTC", "1", "into the air", "0", "heat", "0"]
        )
        writer.writerow(["Bo", "", "1", "1", "2026-03-01 08:30:00 UTC", "1", "whose?", "0", "", ""])
    inbox = tmp_path / "srv" / "exports"
    (inbox / "canvas").mkdir(parents=True)
    (inbox / "rejects").mkdir()
    codes = {}
    for line in commands("administrators"):
        typed = [part.replace("/srv/exports", str(inbox)) for part in line]
        if typed[0] == "watch":
            typed += ["--once"]
        done = scorefold(*typed)
        codes[" ".join(line[:2]), "--dry-run" in line] = done.code
        assert done.code in (0, 3), (line, done.err)
    assert codes == {
        ("submit export.csv", True): 3,
        ("submit export.csv", False): 3,
        ("watch /srv/exports/canvas", False): 0,
        ("humans import", False): 0,
        ("export scores", False): 0,
        ("forget 4711", True): 0,
        ("forget 4711", False): 0,
    }
    rejects = (desk / "rejects.csv").read_text(encoding="utf-8").splitlines()
    assert rejects[1:] == ["3,student_missing,the row names no student"]
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM pii.student")).scalar_one() == 0
    assert scorefold(*shlex.split("retain --sources sources.toml")).code == 0


def test_a_graders_commands_do_what_the_page_says(
    scorefold: CommandLine, database: Engine, desk: Path
) -> None:
    with database.begin() as connection:
        graded.score_a_night(connection)
    (desk / "scores.csv").write_text("response_id,score\nr001,2\nr003,0\n", encoding="utf-8")
    inline = re.findall(r"`scorefold ([^`]+)`", document("graders"))
    lines = [shlex.split(line) for line in inline if line != "evaluate"]
    assert [line[0] for line in lines] == ["humans", "reads", "reads", "report"]
    for line in lines:
        done = scorefold(*line)
        assert done.code == 0, (line, done.err)
    with database.connect() as connection:
        counted = connection.execute(
            text("""
                SELECT (SELECT count(*) FROM score.human_score WHERE rater = 'you'),
                       (SELECT count(*) FROM score.read_request WHERE reason = 'appeal')
            """)
        ).one()
    assert tuple(counted) == (2, 1)


def test_an_operators_commands_run(scorefold: CommandLine, database: Engine, desk: Path) -> None:
    with database.begin() as connection:
        graded.score_a_night(connection)
    lines = commands("operators")
    assert len(lines) == 10
    for line in lines:
        done = scorefold(*line)
        assert done.code == 0, (line, done.err)
    assert (desk / "page.html").is_file()


@pytest.mark.parametrize("name", ["administrators", "graders", "operators", "operations"])
def test_links_between_documents_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document(name)):
        page, _, heading = target.partition("#")
        linked = (DOCS / page).read_text(encoding="utf-8") if page else document(name)
        titles = re.findall(r"^#+ (.*)$", linked, re.MULTILINE)
        assert not heading or heading in {title.lower().replace(" ", "-") for title in titles}, target
