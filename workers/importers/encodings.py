"""Bytes become lines of text: marks, UTF-16 without a mark, and encodings that a person has named.

An encoding is never guessed from letters: a wrong guess would change answers silently.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, BinaryIO

from scoring.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: The longer mark of UTF-32 begins with the mark of UTF-16: it stands first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 512
_CHUNK_BYTES = 1 << 16


def sniffed(head: bytes) -> str:
    """The encoding that a file's first bytes show; UTF-8 where they show none.

    UTF-16 without a mark is known by the zero bytes that stand in every other place of Latin text.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    sample = head[: _SAMPLE_BYTES - len(head) % 2]
    even, odd = sample[::2], sample[1::2]
    if len(odd) >= 4:
        if odd.count(0) > 0.6 * len(odd) and 0 not in even:
            return "utf-16-le"
        if even.count(0) > 0.6 * len(even) and 0 not in odd:
            return "utf-16-be"
    return "utf-8"


def known(name: str) -> str:
    """The codec's own name for an encoding.

    Raises:
        InvalidInputError: Python knows none of that name, or it is no encoding of text.
    """
    try:
        codec = codecs.lookup(name)
        b"xx".decode(codec.name, "replace")  # refuses base64 and the like
    except (LookupError, ValueError) as error:  # some codecs cannot replace, or decode nothing
        raise InvalidInputError(f"encoding {name}: unknown; for instance cp1252, utf-16, latin-1") from error
    return codec.name


def decoded_lines(
    stream: BinaryIO,
    path: Path,
    *,
    encoding: str,
    max_line_bytes: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[str]:
    """Yield lines, each with its line feed; other line ends are left to the reader of cells.

    Raises:
        InvalidInputError: bytes that are not of that encoding, or a line that is too long.
    """
    decode = codecs.getincrementaldecoder(encoding)().decode
    line, rest, ended = 0, "", False
    while not ended:
        chunk = stream.read(_CHUNK_BYTES)
        ended = not chunk
        try:
            parts = (rest + decode(chunk, ended)).split("\n")
        except UnicodeError as error:
            raise InvalidInputError(
                f"{path}: after line {line}: bytes that are not {encoding}; was the file cut off,"
                " or is it in another encoding?"
            ) from error
        rest = parts.pop()
        for content in [f"{part}\n" for part in parts] + ([rest] if ended and rest else []):
            line += 1
            _check_length(content, path, line, max_line_bytes)
            yield content.removeprefix("\ufeff") if line == 1 else content
        _check_length(rest, path, line + 1, max_line_bytes)
        if progress is not None:
            progress(stream.tell())


def _check_length(content: str, path: Path, line: int, max_line_bytes: int) -> None:
    if len(content) > max_line_bytes:
        raise InvalidInputError(f"{path}: line {line} is longer than {max_line_bytes:,} characters")
