"""Options that several verbs share: numbers that the ledger gives, and no larger than it can hold."""

from __future__ import annotations

from typing import Annotated

import typer

#: The largest number of a bigint, and so of any row.
MAX_NUMBER = 2**63 - 1

OneBatch = Annotated[int | None, typer.Option(min=1, max=MAX_NUMBER, help="one batch only")]
RowLimit = Annotated[int, typer.Option(min=1, max=MAX_NUMBER, help="rows at most")]
