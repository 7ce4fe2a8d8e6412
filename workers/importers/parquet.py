"""Parquet with our own columns: read by the handful, whatever the size of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scoring.errors import InvalidInputError
from workers.arrow import arrow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "parquet"
#: Every file of this format begins with these bytes.
MAGIC = b"PAR1"

_ROWS_AT_ONCE = 1000


def column_names(path: Path) -> list[str]:
    """Names of the columns, in their order.

    Raises:
        InvalidInputError: it is no whole Parquet file, or pyarrow is not installed.
    """
    return list(_opened(path).schema_arrow.names)


def read(
    path: Path, required: tuple[str, ...], *, progress: Callable[[int], None] | None = None
) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield (number of the row, fields); the first row is 1.

    Raises:
        InvalidInputError: it is no whole Parquet file, lacks a column or has one twice, or pyarrow is not
            installed.
    """
    file, num_bytes = _opened(path), path.stat().st_size
    names = list(file.schema_arrow.names)
    missing = [name for name in required if name not in names]
    if missing:
        found = ", ".join(names)[:200]
        raise InvalidInputError(f"{path}: missing column(s) {', '.join(missing)}; found {found}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(f"{path}: column(s) {', '.join(twice)[:200]} stand twice")
    row = 0
    for batch in _batches(file, path):
        for fields in batch.to_pylist():
            row += 1
            yield row, {name: _plain(value) for name, value in fields.items()}
        if progress is not None:
            progress(num_bytes * row // max(file.metadata.num_rows, 1))


def _opened(path: Path) -> Any:
    pyarrow, parquet = (arrow(name, wanted_for=path) for name in ("pyarrow", "pyarrow.parquet"))
    try:
        return parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidInputError(f"{path}: cannot be read as Parquet; was the file cut off?") from error


def _batches(file: Any, path: Path) -> Iterator[Any]:
    pyarrow = arrow("pyarrow", wanted_for=path)
    try:
        yield from file.iter_batches(batch_size=_ROWS_AT_ONCE)
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidInputError(f"{path}: cannot be read as Parquet; was the file damaged?") from error


def _plain(value: object) -> object:
    # A struct of scores names every trait in every row; one that is null was not given.
    if isinstance(value, dict):
        return {name: part for name, part in value.items() if part is not None}
    return value
