"""All kinds of exports that are known, told apart by their header alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.importers import blackboard, canvas_classic, canvas_new, d2l, moodle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.importers.exported import ExportFormat

#: Each refuses what the others take; the most particular stands first all the same.
FORMATS: tuple[ExportFormat, ...] = (canvas_new, canvas_classic, blackboard, d2l, moodle)


def recognised(header: Sequence[str]) -> ExportFormat | None:
    """The kind of export that has this header; None for our own columns and for the unknown."""
    if {"response_id", "item_id", "text"} <= set(header):
        return None
    return next((kind for kind in FORMATS if kind.recognises(header)), None)


def named(name: str) -> ExportFormat | None:
    """The kind of export of this name."""
    return next((kind for kind in FORMATS if name == kind.NAME), None)
