"""Files that are whole or not there at all: written aside, then put in place in one step."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from scoring.errors import LocalFaultError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[TextIO]:
    """A new file that takes the place of `path` at the end of the block, if the block ends well.

    Raises:
        LocalFaultError: the file cannot be written.
    """
    try:
        with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
            yield stream
    except OSError as error:
        raise LocalFaultError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """The name of an empty file beside `path`, which takes its place if the block ends well.

    What is no plain file, such as /dev/null, is written to where it is.

    Raises:
        OSError: it cannot be made, or not put in place.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    # A name may be as long as names can be. By touch, so that others may read what they could before.
    aside = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}")
    aside.touch(exist_ok=False)
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
