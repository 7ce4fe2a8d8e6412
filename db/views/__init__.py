"""The graders' schema: views that answer a question with one simple SELECT, and their documentation.

Views hold no data, so they are declared here as they stand and put in place again after every migration.
A view runs with its owner's rights: a role that may read only this schema sees no table. Numbers are always
those of this moment; none is kept aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg.errors import InvalidTableDefinition
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from db.views.agreement import AGREEMENT, AGREEMENT_BY_WEEK, CROSS_TABLES, PAIRS
from db.views.batches import BATCHES, REJECTS
from db.views.distribution import CONDITION_CODES, LEVEL_SHARES
from db.views.merges import DISTANCES, MERGE_CHANGES, MERGE_ITEMS, MERGES
from db.views.reading import HUMAN_SCORES, READ_QUEUE
from db.views.scorers import SCORERS, SHADOW_CHANGES
from db.views.scores import SCORE_ORIGINS, SCORES

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.views.view import View

#: In this order: a view may read those before it.
VIEWS = (
    BATCHES,
    REJECTS,
    SCORES,
    SCORE_ORIGINS,
    AGREEMENT,
    AGREEMENT_BY_WEEK,
    PAIRS,
    CROSS_TABLES,
    LEVEL_SHARES,
    CONDITION_CODES,
    READ_QUEUE,
    HUMAN_SCORES,
    SCORERS,
    SHADOW_CHANGES,
    MERGES,
    MERGE_ITEMS,
    MERGE_CHANGES,
    DISTANCES,
)


def refresh(connection: Connection) -> None:
    """Put every view in place as declared; a view whose columns changed is dropped and made again."""
    for view in VIEWS:
        _put(connection, view)
        for rule in view.rules:
            connection.execute(text(rule))
        connection.execute(text(f"COMMENT ON VIEW grader.{view.name} IS {_quoted(view.comment)}"))
        for column, comment in view.columns.items():
            connection.execute(text(f"COMMENT ON COLUMN grader.{view.name}.{column} IS {_quoted(comment)}"))


def _put(connection: Connection, view: View) -> None:
    statement = text(f"CREATE OR REPLACE VIEW grader.{view.name} AS {view.select}")
    try:
        with connection.begin_nested():
            connection.execute(statement)
    except ProgrammingError as error:
        # A column is gone or has another name or type: such a view is not replaced in place.
        if not isinstance(error.orig, InvalidTableDefinition):
            raise
        connection.execute(text(f"DROP VIEW grader.{view.name} CASCADE"))
        connection.execute(statement)


def _quoted(comment: str) -> str:
    # COMMENT takes no parameters; the words are constants of this room.
    return "'" + comment.replace("'", "''") + "'"
