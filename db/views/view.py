"""One view of the graders' schema: its SELECT, what it is for, what each column means, what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """One view of schema `grader`, as it is declared."""

    name: str
    comment: str
    select: str
    columns: dict[str, str]
    #: Statements that make it writable; each may be run again.
    rules: tuple[str, ...] = ()
