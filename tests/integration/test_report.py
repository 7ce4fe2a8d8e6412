"""The morning's page of a night as graders find it: true figures, one file, nothing from outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db import morning, reading
from db.session import make_engine
from scoring.evaluation.policy import read_policy
from tests import graded, merges_on_show
from workers.evaluating import Scope, evaluate_ledger
from workers.report.merging import merges_page
from workers.report.morning import morning_page, write_report
from workers.report.page import Mark
from workers.report.rendering import render
from workers.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from tests.command_line import CommandLine
    from workers.report.page import Page, Table

SECTIONS = ["batches", "agreement", "shares", "codes", "queue", "drift", "distances", "merges"]


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        graded.score_a_night(connection, num_answers=4000)
        connection.execute(text("UPDATE ingest.submission SET text = 'Gletscherkuss <b>'"))
    yield engine
    engine.dispose()


def table(page: Page, anchor: str, *, at: int = 0) -> Table:
    (section,) = [part.section for part in page.parts if part.section.anchor == anchor]
    return section.blocks[at]


def texts(found: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in found.rows]


def test_the_figures_are_those_of_the_ledger(database: Engine) -> None:
    page = morning_page(database, read_policy())
    assert [part.section.anchor for part in page.parts] == SECTIONS
    select = "SELECT item_id, num_pairs, qwk, exact FROM grader.agreement WHERE role = 'champion' ORDER BY 1"
    with database.connect() as connection:
        expected = connection.execute(text(select)).all()
    rows = texts(table(page, "agreement"))
    assert [(row[0], row[3]) for row in rows] == [(one.item_id, f"{one.num_pairs}") for one in expected]
    for row, one in zip(rows, expected, strict=True):
        value, low, high = map(float, re.findall(r"[\d.]+", row[4]))
        assert value == pytest.approx(one.qwk, abs=0.0005)
        assert low <= value <= high
        assert float(row[6].split()[0]) == pytest.approx(one.exact, abs=0.0005)
        assert row[7].split(":")[0] == ("fails" if one.qwk < read_policy().agreement.min_qwk else "passes")


def test_an_item_below_the_policy_stands_at_the_top(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE score.human_score SET level = 2 - level WHERE submission_id % 2 = 0"))
    page = morning_page(database, read_policy())
    (remark,) = [one for one in page.remarks if one.text.startswith("Item puddle")]
    assert remark.mark is Mark.BAD
    assert "qwk misses the threshold by" in remark.text
    assert page.remarks[0].mark is Mark.BAD


def test_zeros_that_nobody_got_are_shown_and_a_rise_is_said(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(
            text(
                "UPDATE score.machine_score SET scored_at = scored_at - interval '60 days'"
                " WHERE submission_id <= 2000"
            )
        )
        connection.execute(
            text("UPDATE score.machine_score SET level = 0 WHERE level = 1 AND submission_id > 2000")
        )
    page = morning_page(database, read_policy())
    rows = [row for row in texts(table(page, "shares")) if row[0] == "puddle"]
    assert [row[2:5] for row in rows] == [["0", rows[0][3], "66.7%"], ["1", "0", "0.0%"], rows[2][2:5]]
    said = {remark.anchor for remark in page.remarks if remark.mark is Mark.BAD}
    assert {"shares", "drift"} <= said


def test_appeals_stand_first_in_the_queue_and_at_the_top(database: Engine) -> None:
    with database.begin() as connection:
        reading.ask(connection, 7, reason="appeal", actor="ann")
    page = morning_page(database, read_policy())
    assert texts(table(page, "queue"))[0][:3] == ["appeal", "ramp", "1"]
    assert "1 appeal waits for a read." in [remark.text for remark in page.remarks]


def test_every_select_on_the_page_runs_as_it_stands(database: Engine) -> None:
    page = morning_page(database, read_policy())
    selects = [block.select for part in page.parts for block in part.section.blocks if block.select]
    assert len(selects) == 9
    with database.connect() as connection:
        for shown in selects:
            for select in shown.split(";"):
                assert connection.execute(text(select)).keys()
                assert set(re.findall(r"\b(?:FROM|JOIN) (\w+)\.", select)) == {"grader"}


class Reader(HTMLParser):
    """Collects what the checks below speak of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def test_the_file_loads_nothing_and_holds_no_answer_and_no_student(database: Engine, tmp_path: Path) -> None:
    path = write_report(database, Settings(home={"path": tmp_path}))
    html = path.read_text(encoding="utf-8")
    assert (path.parent / "latest.html").read_text(encoding="utf-8") == html
    assert "Gletscherkuss" not in html
    assert graded.STUDENT not in html
    reader = Reader()
    reader.feed(html)
    assert reader.of("script", "img", "link", "iframe", "object", "form") == []
    assert {str(one["href"])[0] for one in reader.of("a")} == {"#"}
    assert not re.search(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html


def test_names_from_outside_are_text_and_never_markup(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE ingest.batch SET file_name = '<script>alert(1)</script>&'"))
    html = render(morning_page(database, read_policy()))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in html
    assert "<script" not in html


def test_tables_headings_and_drawings_speak_to_those_who_do_not_see(database: Engine) -> None:
    reader = Reader()
    reader.feed(render(morning_page(database, read_policy())))
    assert reader.of("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert len(reader.of("caption")) == len(reader.of("table"))
    assert {one.get("scope") for one in reader.of("th")} == {"col", "row"}
    assert all("aria-hidden" in one or one.get("aria-label") for one in reader.of("svg"))
    ids = [str(one["id"]) for _, one in reader.tags if one.get("id")]
    assert len(ids) == len(set(ids))
    wanted = {str(one["href"])[1:] for one in reader.of("a")}
    wanted |= {str(one["aria-labelledby"]) for _, one in reader.tags if one.get("aria-labelledby")}
    assert wanted <= set(ids)


def test_an_empty_ledger_has_a_page_too(database_url: str) -> None:
    engine = make_engine(database_url)
    page = morning_page(engine, read_policy())
    assert [remark.text for remark in page.remarks] == ["No batch has come in yet."]
    assert "none yet" in render(page)
    engine.dispose()


def test_the_verb_names_the_file(scorefold: CommandLine, database: Engine, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    told = scorefold("report", "--out", out)
    assert (told.code, told.out.strip()) == (0, str(out))
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    refused = scorefold("report", "--out", tmp_path)
    assert refused.code == 1
    assert "cannot be written" in refused.err


def test_the_page_shows_no_more_than_the_newest_batches() -> None:
    assert f"LIMIT {morning.NUM_BATCHES}" in morning.BATCHES


@pytest.fixture
def merging(database: Engine) -> Engine:
    with database.begin() as connection:
        merges_on_show.place(connection, ["puddle", "ramp", *(f"item-{n}" for n in range(2, 12))])
    return database


def test_distances_and_proposals_stand_with_their_evidence(merging: Engine) -> None:
    page = morning_page(merging, read_policy())
    assert [part.section.anchor for part in page.parts] == SECTIONS
    (drawing, pairs) = page.parts[-2].section.blocks
    assert 'role="img"' in str(drawing.drawing)
    assert len(pairs.rows) == 20
    nearest = [float(row[2]) for row in texts(pairs)]
    assert nearest == sorted(nearest)
    assert texts(pairs)[0][5] == "within the noise"
    proposed, rejected = reversed(texts(table(page, "merges")))
    assert (proposed[1], proposed[3], proposed[4], proposed[7]) == (
        "puddle, ramp",
        "proposed",
        "pass",
        "2 of 66",
    )
    assert proposed[9] == "−0.010"
    assert rejected[3] == "rejected"
    evidence = texts(table(page, "merges", at=1))
    assert [row[1] for row in evidence] == ["puddle", "ramp"]
    assert evidence[0][5] == "−0.010 [−0.030, +0.010]"
    assert "1 proposed merge waits for a decision." in [remark.text for remark in page.remarks]


def test_the_page_of_merges_stands_alone(merging: Engine) -> None:
    page = merges_page(merging)
    html = render(page)
    assert [part.section.anchor for part in page.parts] == ["distances", "merges"]
    assert "<svg" in html
    assert "puddle, ramp" in html


def test_the_page_of_merges_by_its_verb(scorefold: CommandLine, merging: Engine, tmp_path: Path) -> None:
    told = scorefold("merges", "report")
    path = Path(told.out.strip())
    assert (told.code, path.parent) == (0, tmp_path / "home" / "reports")
    assert "puddle, ramp" in path.read_text(encoding="utf-8")


def test_the_page_and_the_verb_evaluate_say_the_same_and_leave_out_what_was_learned_from(
    database: Engine,
) -> None:
    with database.begin() as connection:
        run = connection.execute(
            text("""
                INSERT INTO model.training_run (item_id, trigger, state) VALUES ('puddle', 'manual', 'done')
                RETURNING training_run_id
            """)
        ).scalar_one()
        connection.execute(
            text("""
                UPDATE model.scorer SET training_run_id = :run WHERE scorer_id =
                    (SELECT scorer_id FROM model.alias WHERE item_id = 'puddle' AND alias = 'champion')
            """),
            {"run": run},
        )
        connection.execute(
            text("""
                INSERT INTO model.training_run_submission (training_run_id, submission_id, fold)
                SELECT :run, submission_id, CASE WHEN submission_id % 4 = 0 THEN 'train' ELSE 'test' END
                FROM ingest.submission WHERE item_id = 'puddle' AND submission_id <= 2000
            """),
            {"run": run},
        )
        connection.execute(
            text("""
                INSERT INTO score.human_score (submission_id, trait, purpose, rater, level)
                SELECT submission_id, trait, 'adjudication', 'lead', 0 FROM score.human_score
                WHERE submission_id % 20 = 0
            """)
        )
    policy = read_policy()
    rows = {row[0]: row for row in texts(table(morning_page(database, policy), "agreement"))}
    for one in evaluate_ledger(database, Scope(), policy):
        if one.alias != "champion":
            continue
        (trait,) = one.report.traits
        row, qwk = rows[one.item_id], trait.figures["qwk"]
        assert row[3] == f"{trait.num_answers}"
        assert row[4] == f"{qwk.value:.3f} [{qwk.low:.2f}, {qwk.high:.2f}]"
    with database.connect() as connection:
        num_read, num_learned = connection.execute(
            text("""
                SELECT count(DISTINCT h.submission_id),
                       count(DISTINCT h.submission_id) FILTER (WHERE u.fold = 'train')
                FROM score.human_score h JOIN ingest.submission s USING (submission_id)
                LEFT JOIN model.training_run_submission u USING (submission_id)
                WHERE s.item_id = 'puddle'
            """)
        ).one()
    assert num_learned > 0
    assert int(rows["puddle"][3]) == num_read - num_learned
