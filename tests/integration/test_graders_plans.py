"""The documented questions stay fast: their plans go by indexes and never through a whole table of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from db.session import make_engine
from tests import many_scores, merges_on_show
from tests.conftest import _fresh_database
from tests.integration.test_graders import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from workers.embedded.services import ServiceUrls

#: Tables that grow with every night.
LARGE = {"submission", "work", "machine_score", "human_score"}
#: Indexes of few rows: read as a whole they are what was asked for.
HOLDS_LITTLE = {"ix_machine_score_shadow", "ix_machine_score_codes", "ix_human_score_codes"}


@pytest.fixture(scope="module")
def year(services: ServiceUrls, _template: str) -> Iterator[Engine]:
    """A year of nights, small enough to be made in seconds."""
    with _fresh_database(services.database, "scorefold_test_plans", template=_template) as url:
        engine = make_engine(url)
        with engine.begin() as connection:
            many_scores.write(connection, num_scores=30_000)
            merges_on_show.place(connection, [f"merge-{number}" for number in range(4)])
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # Index-only scans need the visibility map, which autovacuum keeps in a real deployment.
            connection.execute(text("VACUUM ANALYZE score.machine_score"))
        yield engine
        engine.dispose()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def whole_scans(engine: Engine, statement: str) -> list[str]:
    """Large tables that a plan reads from end to end although it was told not to if it can be helped.

    On few rows reading all of them is the best plan; forbidden, it is left only where no index would serve.
    """
    with engine.connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        explained = connection.execute(text(f"EXPLAIN (FORMAT JSON) {statement}")).scalar_one()
    return [
        node["Relation Name"]
        for node in nodes(explained[0]["Plan"])
        if node.get("Relation Name") in LARGE
        and "Index Cond" not in node
        and "Recheck Cond" not in node
        and node.get("Index Name") not in HOLDS_LITTLE
    ]


@pytest.mark.parametrize("number", QUESTIONS)
def test_a_question_reads_no_large_table_as_a_whole(year: Engine, number: int) -> None:
    assert whole_scans(year, QUESTIONS[number]) == []


def test_the_guard_sees_a_whole_scan(year: Engine) -> None:
    assert whole_scans(year, "SELECT avg(confidence) FROM score.machine_score") == ["machine_score"]


@pytest.mark.parametrize("number", QUESTIONS)
def test_a_question_finds_something_among_many(year: Engine, number: int) -> None:
    with year.connect() as connection:
        assert connection.execute(text(QUESTIONS[number].replace("'r001'", "'r1'"))).first() is not None
