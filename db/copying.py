"""Rows into a table by COPY, streamed: memory does not grow with their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from sqlalchemy.exc import DataError, OperationalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection


def copy_rows(connection: Connection, statement: str, rows: Iterable[Sequence[object]]) -> None:
    """Send rows to `COPY ... FROM STDIN` inside the connection's transaction.

    The driver's own cursor does this, so its errors are made what every other statement raises.

    Raises:
        sqlalchemy.exc.OperationalError: the connection broke, or the server ended the statement.
        sqlalchemy.exc.DataError: a value is none of its column's type.
    """
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection is closed")
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.OperationalError as error:
        raise OperationalError(statement, None, error) from error
    except psycopg.DataError as error:
        raise DataError(statement, None, error) from error
