"""A million scores: each documented question answered within 300 ms, by what EXPLAIN ANALYZE says itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db.session import make_engine
from tests import many_scores
from tests.conftest import _fresh_database
from tests.integration.test_graders import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from workers.embedded.services import ServiceUrls

NUM_SCORES = 1_000_000
MAX_MS = 300.0


@pytest.fixture(scope="module")
def million(services: ServiceUrls, _template: str) -> Iterator[Engine]:
    """A million scores over 25 items and 100 nights."""
    with _fresh_database(services.database, "scorefold_bench_graders", template=_template) as url:
        engine = make_engine(url, statement_timeout_s=None)
        with engine.begin() as connection:
            many_scores.write(connection, num_scores=NUM_SCORES)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        yield engine
        engine.dispose()


@pytest.mark.parametrize("number", QUESTIONS)
@pytest.mark.timeout(1800)
def test_graders_question(million: Engine, number: int) -> None:
    with million.connect() as connection:
        times, plan = [], ""
        for _ in range(3):
            lines = (
                connection.execute(text(f"EXPLAIN (ANALYZE, BUFFERS) {QUESTIONS[number]}")).scalars().all()
            )
            plan = "\n".join(lines)
            times.append(float(lines[-1].split()[-2]))
    print(f"\nquestion {number}: best of three {min(times):.1f} ms\n{plan}")
    assert min(times) < MAX_MS
