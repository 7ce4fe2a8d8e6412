"""A million scores: each documented question answered within 300 ms of the server's time on one core.

The server's own CPU time is judged, because on a busy machine time passes in other ways; the plan and the
time that passed are printed beside it.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db.session import make_engine
from tests import many_scores
from tests.conftest import _fresh_database
from tests.cpu_clock import backend_pid, cpu_s
from tests.integration.test_graders import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from workers.embedded.services import ServiceUrls

NUM_SCORES = 1_000_000
NUM_ROUNDS = 10
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
        question = text(QUESTIONS[number])
        plan = connection.execute(text(f"EXPLAIN (ANALYZE, BUFFERS) {QUESTIONS[number]}")).scalars().all()
        pid, began_s = backend_pid(connection), time.perf_counter()
        before_s = cpu_s(pid)
        for _ in range(NUM_ROUNDS):
            connection.execute(question).all()
        used_ms = 1000 * (cpu_s(pid) - before_s) / NUM_ROUNDS
        passed_ms = 1000 * (time.perf_counter() - began_s) / NUM_ROUNDS
    told = {"question": number, "cpu_ms": round(used_ms, 1), "passed_ms": round(passed_ms, 1)}
    print("\n".join(["", json.dumps(told), *plan]))
    assert used_ms < MAX_MS
