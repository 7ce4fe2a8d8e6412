"""Scores and condition codes become rows; database errors become ours; an absent Postgres is waited for."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from psycopg.errors import InsufficientPrivilege, InvalidSchemaName, UndefinedColumn, UndefinedTable
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from db.ledger import ScoreColumns
from scoring.errors import DatabaseUnavailableError, FatalError
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence, Set

    from db.registry import Serving
    from scoring.types import ConditionCode, ItemSpec, Scores

log = get_logger("writer")

Result = TypeVar("Result")


class SchemaMismatchError(FatalError):
    """The database has not the tables that this code needs."""

    exit_code = 78


class MissingRightsError(FatalError):
    """This login may not do what it was asked to."""

    exit_code = 78


@contextmanager
def database_errors() -> Iterator[None]:
    """Translate what an operator can mend; let programming errors through.

    Raises:
        DatabaseUnavailableError: the connection broke or could not be made.
        SchemaMismatchError: a table or column is not there.
        MissingRightsError: the login may not.
    """
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise DatabaseUnavailableError(_why_not(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailableError("the connection to Postgres broke") from error
        if isinstance(error.orig, UndefinedTable | UndefinedColumn | InvalidSchemaName):
            raise SchemaMismatchError(
                f"the schema does not fit this code ({_first_line(error)}): run `scorefold migrate`"
            ) from error
        if isinstance(error.orig, InsufficientPrivilege):
            raise MissingRightsError(
                f"this database login may not do that ({_first_line(error)}); which role may, and what the"
                " tables' owner does, stands in docs/security.md"
            ) from error
        raise


def _why_not(error: DBAPIError) -> str:
    told = _first_line(error)
    # Only a server that has answered speaks of what is fatal: a wrong name or password, or no place left.
    _, fatal, refusal = told.partition("FATAL:")
    if fatal:
        return f"Postgres refuses the connection ({refusal.strip()}): look at SCOREFOLD_DATABASE__URL"
    return f"Postgres does not answer: {told}"


def _first_line(error: DBAPIError) -> str:
    # The server's own words; values of parameters come in the lines after it, if at all.
    return next(iter(str(error.orig).splitlines()), "") or type(error.orig).__name__


def patiently(
    step: Callable[[], Result], *, give_up_after_s: float, stop: Callable[[], bool] = lambda: False
) -> Result:
    """Repeat a database step until Postgres answers, with growing pauses.

    Raises:
        DatabaseUnavailableError: the time is over, or a stop was asked for.
    """
    deadline = time.monotonic() + give_up_after_s
    pause_s = 0.1
    while True:
        try:
            with database_errors():
                return step()
        except DatabaseUnavailableError:
            if stop() or time.monotonic() + pause_s > deadline:
                raise
            log.warning("database_wait", pause_s=round(pause_s, 2))
            time.sleep(pause_s * random.uniform(0.7, 1.3))  # noqa: S311 (spreads retries, guards nothing)
            pause_s = min(2 * pause_s, 3.0)


class ScoreSheet:
    """Collects the rows of one claim, column by column."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self.columns = ScoreColumns([], [], [], [], [], [], [], [], [], [])

    def add_scores(
        self,
        submission_ids: Sequence[int],
        served_by: Sequence[Serving],
        scores: Scores,
        engines: Sequence[str],
        *,
        without: Set[int] = frozenset(),
    ) -> None:
        """Add model scores, but none of the submissions in `without`.

        All but `scores` are by request, `engines` naming precisions [num_answers].
        """
        if without:
            rows = [submission_ids[owner] not in without for owner in scores.answer.tolist()]
            scores = scores.take(np.flatnonzero(rows))
        columns = self.columns
        owners = scores.answer.tolist()
        columns.submission_id.extend(submission_ids[owner] for owner in owners)
        columns.trait.extend(scores.trait)
        columns.scorer_id.extend(served_by[owner].scorer_id for owner in owners)
        columns.role.extend(served_by[owner].role for owner in owners)
        columns.level.extend(scores.level.tolist())
        columns.probabilities.extend(scores.probabilities)
        columns.confidence.extend(min(1.0, max(0.0, value)) for value in scores.confidence.tolist())
        columns.condition_code.extend([None] * len(scores))
        columns.needs_review.extend(scores.needs_review.tolist())
        columns.engine.extend(engines[owner] for owner in owners)

    def add_condition(
        self, submission_id: int, served_by: Serving, item: ItemSpec, code: ConditionCode
    ) -> None:
        """Add a condition code for every trait of an item; a person looks at it."""
        columns = self.columns
        for trait in item.traits:
            columns.submission_id.append(submission_id)
            columns.trait.append(trait.name)
            columns.scorer_id.append(served_by.scorer_id)
            columns.role.append(served_by.role)
            columns.level.append(None)
            columns.probabilities.append(None)
            columns.confidence.append(None)
            columns.condition_code.append(code.value)
            columns.needs_review.append(True)
            columns.engine.append(self._engine)
