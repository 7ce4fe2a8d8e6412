"""pyarrow, where it is installed: it is large, and only Parquet files need it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from scoring.errors import InvalidInputError


def arrow(module: str, *, wanted_for: object) -> Any:
    """A module of pyarrow.

    Raises:
        InvalidInputError: pyarrow is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InvalidInputError(
            f"{wanted_for}: Parquet needs the extra [parquet]: pip install 'scorefold[parquet]'"
        ) from error
