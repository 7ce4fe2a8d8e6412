"""A file as it came: that it can be read at all, its identity, and its records one by one.

Faults of the file as a whole are errors; faults of a record become a `RejectedRow` and the rest goes on.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from db.intake import RejectedRow
from scoring.errors import InvalidInputError, LocalFaultError
from workers.importers import delimited, encodings, formats, jsonlines, parquet, tables

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

_CHUNK_BYTES = 1 << 20
_UTF8_BOM = b"\xef\xbb\xbf"
#: A header holds the text of every question of a test.
_MAX_HEADER_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file: its first line, and its fields by name."""

    line: int
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A readable, non-empty file and what identifies it."""

    path: Path
    file_format: str
    sha256: str
    num_bytes: int
    encoding: str = "utf-8"


def inspect(path: Path, *, encoding: str | None = None) -> SourceFile:
    """Make sure that a file can be read, and tell its format from its content.

    Args:
        path: the file.
        encoding: what somebody who knows has named; without it UTF-8, or UTF-16 where the bytes show it.

    Raises:
        InvalidInputError: there is none, it is no plain file, or it is empty.
        LocalFaultError: it may not be read.
    """
    digest, num_bytes, head, first = hashlib.sha256(), 0, b"", b""
    with _opened(path) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            first = first or chunk[:4096]
            head = head or chunk.removeprefix(_UTF8_BOM).lstrip()[:4096]
            digest.update(chunk)
            num_bytes += len(chunk)
    if not head:
        raise InvalidInputError(f"{path}: the file is empty")
    if first.startswith(parquet.MAGIC):
        return SourceFile(path, parquet.NAME, digest.hexdigest(), num_bytes)
    encoding = encoding or encodings.sniffed(first)
    if encoding != "utf-8":
        head = first[: len(first) // 4 * 4].decode(encoding, "replace").lstrip("\ufeff \t\r\n").encode()
    found = SourceFile(path, _format(path, head), digest.hexdigest(), num_bytes, encoding)
    return replace(found, file_format=_export_format(found) or found.file_format)


def column_names(source: SourceFile, *, max_line_bytes: int) -> frozenset[str]:
    """What the header of a delimited file, the schema of Parquet, or the first object of JSON lines names.

    Raises:
        InvalidInputError: the file cannot be read that far.
    """
    if source.file_format == parquet.NAME:
        return frozenset(parquet.column_names(source.path))
    if source.file_format == "jsonl":
        first = next(read_records(source, required=(), max_line_bytes=max_line_bytes), None)
        return frozenset(first.fields) if isinstance(first, Record) else frozenset()
    with read_table(source, max_line_bytes=max_line_bytes) as table:
        return frozenset(table.header)


@contextmanager
def read_table(
    source: SourceFile, *, max_line_bytes: int, progress: Callable[[int], None] | None = None
) -> Iterator[tables.Table]:
    """A delimited file as cells by position, for the length of a `with` block.

    Raises:
        InvalidInputError: the header cannot be read; while rows are read: bytes of another encoding, a line
            that is too long, quotes that never close.
    """
    with _opened(source.path) as stream:
        lines = _lines(stream, source, max_line_bytes=max_line_bytes, progress=progress)
        yield tables.open_table(lines, source.path)


def read_records(
    source: SourceFile,
    *,
    required: tuple[str, ...],
    max_line_bytes: int,
    only: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Record | RejectedRow]:
    """Yield a file's records; bounded memory, whatever its size.

    Args:
        source: an inspected file.
        required: names that every record must have.
        max_line_bytes: a longer line is refused rather than read.
        only: keep records whose field has this value; the others are passed over uncounted.
        progress: told how many bytes have been read.

    Raises:
        InvalidInputError: the file is not UTF-8, or it lacks a required column.
    """
    wanted = dict(only or {})
    for line, fields, fault in _fields(source, required, max_line_bytes=max_line_bytes, progress=progress):
        if fault is not None:
            yield RejectedRow(line, *fault)
        elif all(str(fields.get(name, "")) == value for name, value in wanted.items()):
            yield Record(line, fields)


def _fields(
    source: SourceFile,
    required: tuple[str, ...],
    *,
    max_line_bytes: int,
    progress: Callable[[int], None] | None,
) -> Iterator[tuple[int, dict[str, object], tuple[str, str] | None]]:
    if source.file_format == parquet.NAME:
        for row, fields in parquet.read(source.path, required, progress=progress):
            yield row, fields, None
        return
    with _opened(source.path) as stream:
        text = _lines(stream, source, max_line_bytes=max_line_bytes, progress=progress)
        reader = jsonlines.read if source.file_format == "jsonl" else delimited.read
        yield from reader(text, source.path, required)


def _lines(
    stream: io.BufferedReader,
    source: SourceFile,
    *,
    max_line_bytes: int,
    progress: Callable[[int], None] | None,
) -> Iterable[str]:
    if source.encoding == "utf-8":
        return _Utf8Lines(stream, source.path, max_line_bytes=max_line_bytes, progress=progress)
    return encodings.decoded_lines(
        stream,
        source.path,
        encoding=source.encoding,
        max_line_bytes=max_line_bytes,
        progress=progress,
    )


def _export_format(source: SourceFile) -> str | None:
    """The learning platform's format, where the header is one of theirs."""
    if source.file_format != "csv":
        return None
    try:
        with read_table(source, max_line_bytes=_MAX_HEADER_BYTES) as table:
            kind = formats.recognised(table.header)
    except InvalidInputError:
        return None  # whoever reads the rows says what is wrong
    return None if kind is None else kind.NAME


class _Utf8Lines:
    """Lines of a binary stream as text; a byte that is no UTF-8 is an error that names its line."""

    def __init__(
        self,
        stream: BinaryIO,
        path: Path,
        *,
        max_line_bytes: int,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._stream = stream
        self._path = path
        self._max_line_bytes = max_line_bytes
        self._progress = progress
        self._num_bytes = 0
        self._line = 0

    def __iter__(self) -> Iterator[str]:
        while raw := self._stream.readline(self._max_line_bytes + 1):
            self._line += 1
            if len(raw) > self._max_line_bytes:
                raise InvalidInputError(
                    f"{self._path}: line {self._line} is longer than {self._max_line_bytes:,} bytes;"
                    " is this a CSV or JSON lines file?"
                )
            self._num_bytes += len(raw)
            if self._line == 1:
                raw = raw.removeprefix(_UTF8_BOM)
            if self._progress is not None and self._line % 512 == 0:
                self._progress(self._num_bytes)
            yield self._decoded(raw)
        if self._progress is not None:
            self._progress(self._num_bytes)

    def _decoded(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"{self._path}: line {self._line}: byte 0x{raw[error.start]:02x} at position"
                f" {error.start + 1} is not UTF-8; save the file as UTF-8, or set the encoding of its source"
            ) from error


def _opened(path: Path) -> io.BufferedReader:
    try:
        if path.is_dir():
            raise InvalidInputError(f"{path}: is a directory, not a file")
        if path.exists() and not path.is_file():
            raise InvalidInputError(f"{path}: is a pipe or a device; it is read twice, so write a file first")
        return path.open("rb")
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path}: no such file") from error
    except OSError as error:
        raise LocalFaultError(f"{path}: cannot be read: {error.strerror}") from error


def _format(path: Path, head: bytes) -> str:
    if head.startswith(b"{"):
        return "jsonl"
    if head.startswith(b"["):
        raise InvalidInputError(f"{path}: is one JSON array; write one JSON object a line instead")
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise InvalidInputError(f"{path}: is a spreadsheet or zip file; export it as CSV in UTF-8")
    if b"\x00" in head[:64]:
        raise InvalidInputError(f"{path}: looks like a binary file; save it as CSV or JSON lines in UTF-8")
    return "csv"
