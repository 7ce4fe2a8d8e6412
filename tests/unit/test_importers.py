"""Files as people send them: a broken file is one clear line, a broken row is a row of rejects."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from db.intake import IncomingRow, RejectedRow
from scoring.errors import InvalidInputError
from workers.importers import answers, files

if TYPE_CHECKING:
    from pathlib import Path

#: Stands in answers; no error may repeat it.
MARKER = "Gletscherkuss"
MAX_LINE_BYTES = 100_000
HEADER = "response_id,item_id,text"


def read(path: Path, *, max_text_chars: int = 1000, **settings) -> list[IncomingRow | RejectedRow]:
    records = files.read_records(
        files.inspect(path),
        required=answers.SUBMISSION_FIELDS,
        max_line_bytes=settings.pop("max_line_bytes", MAX_LINE_BYTES),
        **settings,
    )
    return list(answers.submissions(records, max_text_chars=max_text_chars))


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "night.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def json_row(**fields: object) -> str:
    return json.dumps({"response_id": "r1", "item_id": "ice", "text": MARKER, **fields})


WHOLE_FILE_FAULTS = {
    "empty": (b"", r": the file is empty"),
    "only BOM": (b"\xef\xbb\xbf", r": the file is empty"),
    "only blanks": (b"\xef\xbb\xbf" + b" \r\n\t\n" * 3000, r": the file is empty"),
    "binary": (b"\x7fELF\x00\x00\x00" + MARKER.encode(), r": looks like a binary file; save it as CSV"),
    "cp1252": (
        f"{HEADER}\nr1,ice,{MARKER}\nr2,ice,{MARKER} schmölze\n".encode("cp1252"),
        r": line 3: byte 0xf6 at position 26 is not UTF-8; save the file as UTF-8",
    ),
    "cp1252 in JSON": (
        json_row().encode() + b"\n" + '{"response_id": "ö"}'.encode("cp1252"),
        r": line 2: byte 0xf6 at position 18 is not UTF-8; save the file as UTF-8",
    ),
    "xlsx": (b"PK\x03\x04\x14\x00\x06\x00" + MARKER.encode(), r": is a spreadsheet.*export it as CSV"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r": is a spreadsheet.*export it as CSV"),
    "JSON array": (f'\n[{{"text": "{MARKER}"}}]', r": is one JSON array; write one JSON object a line"),
    "missing column": (
        f"response_id,text\nr1,{MARKER}\n",
        r": line 1: missing column\(s\) item_id; found response_id, text",
    ),
    "no header": (f"r1,ice,{MARKER}\nr2,ice,x\n", r": line 1: missing column\(s\).*first line must name"),
    "duplicate column": (f"{HEADER},text\nr1,ice,a,b\n", r": line 1: column\(s\) text stand twice"),
    "unclosed quote": (
        f'{HEADER}\nr1,ice,a\nr2,ice,"{MARKER}\nr3,ice,c\n',
        r": line 3: unexpected end of data; check the quotes of the record that starts there",
    ),
    "words after a quote": (
        f'{HEADER}\nr1,ice,"{MARKER}" x\n',
        r": line 2: .*check the quotes of the record",
    ),
    "unclosed quote in the header": (f'{HEADER},"more\nr1,ice,a,b\n', r": line 1: .*check the quotes"),
    "carriage returns only": (f"{HEADER}\rr1,ice,{MARKER}\r", r": line 1: .*save the file with LF or CRLF"),
    "a carriage return in a row": (f"{HEADER}\nr1,ice,a\rb\n", r": line 2: .*save the file with LF or CRLF"),
    "long line": (
        f"{HEADER}\nr1,ice,{'x' * MAX_LINE_BYTES}\n",
        r": line 2 is longer than 100,000 bytes; is this a CSV or JSON lines file\?",
    ),
    "long line of JSON": (json_row(text="x" * MAX_LINE_BYTES), r": line 1 is longer than 100,000 bytes"),
}


@pytest.mark.parametrize(("content", "told"), WHOLE_FILE_FAULTS.values(), ids=WHOLE_FILE_FAULTS)
def test_a_broken_file_is_refused_in_one_line(tmp_path, content, told):
    path = written(tmp_path, content)
    with pytest.raises(InvalidInputError) as refused:
        read(path)
    message = str(refused.value)
    assert re.fullmatch(re.escape(str(path)) + told + ".*", message)
    assert "\n" not in message
    assert MARKER not in message
    assert len(message) < len(str(path)) + 300


def test_what_is_no_file_is_refused_by_its_name(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    told = {
        "": "is a directory, not a file",
        "absent.csv": "no such file",
        "loop": "cannot be read",
        "n" * 300: "cannot be read",
        "pipe": "write a file first",
    }
    for name, reason in told.items():
        path = tmp_path / name
        with pytest.raises(InvalidInputError, match=f"^{re.escape(str(path))}: .*{reason}"):
            files.inspect(path)


ROW_FAULTS = {
    "no JSON": ("{broken", "not_json"),
    "a number": ("{} 7", "not_json"),
    "a list": (f'["{MARKER}"]', "not_json"),
    "a string": (f'"{MARKER}"', "not_json"),
    "deep": ("[" * 100_000 + "]" * 100_000, "not_json"),
    "deep inside": ('{"text": ' + '{"a":' * 20_000 + "1" + "}" * 20_001, "not_json"),
    "a number of 10,000 digits": ('{"attempt": 1' + "0" * 10_000 + "}", "not_json"),
    "a field twice": ('{"response_id": "r1", "item_id": "ice", "text": "a", "text": "b"}', "repeated_field"),
    "missing field": (f'{{"response_id": "r1", "text": "{MARKER}"}}', "missing_field"),
    "id null": (json_row(response_id=None), "missing_field"),
    "text null": (json_row(text=None), "missing_field"),
    "empty id": (json_row(response_id=""), "response_id_missing"),
    "blank id": (json_row(item_id=" \t "), "item_id_missing"),
    "id a list": (json_row(response_id=[1]), "response_id_invalid"),
    "id true": (json_row(response_id=True), "response_id_invalid"),
    "id a fraction": (json_row(response_id=1.5), "response_id_invalid"),
    "id too long": (json_row(response_id="r" * 201), "response_id_invalid"),
    "id too long a number": (json_row(response_id=10**250), "response_id_invalid"),
    "id with NUL": (json_row(response_id="r\x001"), "response_id_invalid"),
    "id with a line break": (json_row(item_id="ice\nX"), "item_id_invalid"),
    "id with an escape": (json_row(item_id="ice\x1b[31m"), "item_id_invalid"),
    "id with a lone surrogate": (json_row(response_id="r\ud800"), "response_id_invalid"),
    "student with NUL": (json_row(student_id="s\x00"), "student_id_invalid"),
    "attempt a word": (json_row(attempt="first"), "attempt_invalid"),
    "attempt 0": (json_row(attempt=0), "attempt_invalid"),
    "attempt -1": (json_row(attempt=-1), "attempt_invalid"),
    "attempt 2^31": (json_row(attempt=2**31), "attempt_invalid"),
    "attempt 10^4000": (json_row(attempt=10**4000), "attempt_invalid"),
    "attempt 10^4400 in quotes": (json_row(attempt="1" + "0" * 4400), "attempt_invalid"),
    "attempt 1e400": (json_row().replace("{", '{"attempt": 1e400, ', 1), "attempt_invalid"),
    "attempt NaN": (json_row(attempt=float("nan")), "attempt_invalid"),
    "attempt true": (json_row(attempt=True), "attempt_invalid"),
    "attempt '1.0'": (json_row(attempt="1.0"), "attempt_invalid"),
    "attempt 1.5": (json_row(attempt=1.5), "attempt_invalid"),
    "attempt '1_0'": (json_row(attempt="1_0"), "attempt_invalid"),
    "attempt a list": (json_row(attempt=[]), "attempt_invalid"),
    "text a number": (json_row(text=7), "text_invalid"),
    "text an object": (json_row(text={"body": MARKER}), "text_invalid"),
    "text too long": (json_row(text=MARKER * 100), "text_too_long"),
    "year 10000": (json_row(submitted_at="10000-01-01T00:00:00Z"), "submitted_at_invalid"),
    "offset 99h": (json_row(submitted_at="2026-03-01T08:30:00+99:00"), "submitted_at_invalid"),
    "before year 1": (json_row(submitted_at="0001-01-01T00:00:00+14:00"), "submitted_at_invalid"),
    "date a word": (json_row(submitted_at="yesterday"), "submitted_at_invalid"),
    "date true": (json_row(submitted_at=True), "submitted_at_invalid"),
    "date a list": (json_row(submitted_at=[2026]), "submitted_at_invalid"),
}


@pytest.mark.parametrize(("row", "reason"), ROW_FAULTS.values(), ids=ROW_FAULTS)
def test_a_broken_row_is_rejected_with_its_line_and_the_others_are_read(tmp_path, row, reason):
    rows = read(
        written(tmp_path, f"{json_row(response_id='a')}\n{row}\n{json_row(response_id='b')}\n"),
        max_line_bytes=300_000,
    )
    first, broken, last = rows
    assert (first.response_id, last.response_id, last.line) == ("a", "b", 3)
    assert isinstance(broken, RejectedRow)
    assert (broken.line, broken.reason) == (2, reason)
    assert MARKER not in broken.detail
    assert "\n" not in broken.detail
    assert len(broken.detail) < 300


CSV_ROW_FAULTS = {
    "a column less": ("r1,ice", "wrong_columns"),
    "a column more": ("r1,ice,a,1,extra", "wrong_columns"),
    "a comma in the text": (f"r1,ice,{MARKER}, I think,1", "wrong_columns"),
    "empty id": (",ice,a,1", "response_id_missing"),
    "NUL in id": ("r\x00,ice,a,1", "response_id_invalid"),
    "attempt 1.0": ("r1,ice,a,1.0", "attempt_invalid"),
    "attempt 0": ("r1,ice,a,0", "attempt_invalid"),
    "text too long": (f"r1,ice,{MARKER * 100},1", "text_too_long"),
}


@pytest.mark.parametrize(("row", "reason"), CSV_ROW_FAULTS.values(), ids=CSV_ROW_FAULTS)
def test_a_broken_row_of_csv_is_rejected_too(tmp_path, row, reason):
    content = f"{HEADER},attempt\na,ice,{'x' * 50},1\n{row}\nb,ice,y,2\n"
    first, broken, last = read(written(tmp_path, content))
    assert (first.response_id, last.response_id, last.attempt) == ("a", "b", 2)
    assert (broken.line, broken.reason) == (3, reason)
    assert MARKER not in broken.detail


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_as_spreadsheets_write_it(tmp_path, delimiter, line_end, mark):
    lines = [
        f'"response_id"{delimiter} item_id {delimiter}text',
        f'r1{delimiter}ice{delimiter}"one, ""two""; three"',
        "",
        f'r2{delimiter}ice{delimiter}"first line{line_end}second{delimiter}line"',
        f"r3{delimiter}ice{delimiter}",
    ]
    rows = read(written(tmp_path, mark + line_end.join(lines)))
    assert [(row.line, row.response_id, row.text) for row in rows] == [
        (2, "r1", 'one, "two"; three'),
        (4, "r2", f"first line{line_end}second{delimiter}line"),
        (6, "r3", ""),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_bars_within_names_and_cells_separate_nothing(tmp_path, delimiter):
    header = delimiter.join(["response_id", "item_id", "text", "a|b|c|d|e|f"])
    (row,) = read(written(tmp_path, f"{header}\n" + delimiter.join(["r|1", "ice", "x||y|z", "|"])))
    assert (row.response_id, row.text) == ("r|1", "x||y|z")


def test_commas_within_a_name_separate_nothing_where_bars_do(tmp_path):
    (row,) = read(written(tmp_path, 'response_id|item_id|text|"a, b, c, d, e"\nr1|ice|x, y|z\n'))
    assert (row.response_id, row.text) == ("r1", "x, y")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("content", [f"{HEADER}\nr1,ice,zäh 氷\n", json_row(text="zäh 氷")])
def test_files_in_two_bytes_a_letter_are_read_with_or_without_a_mark(tmp_path, encoding, content):
    (row,) = read(written(tmp_path, content.encode(encoding)))
    assert (row.response_id, row.item_id, row.text) == ("r1", "ice", "zäh 氷")


def test_a_file_cut_off_within_a_letter_is_refused(tmp_path):
    path = written(tmp_path, f"{HEADER}\nr1,ice,{MARKER}".encode("utf-16")[:-1])
    with pytest.raises(
        InvalidInputError, match="line 1: bytes that are not utf-16; was the file cut off"
    ) as told:
        read(path)
    assert MARKER not in str(told.value)


def test_columns_without_a_name_are_passed_over(tmp_path):
    rows = read(written(tmp_path, f"{HEADER},,\nr1,ice,a,,\n"))
    assert [row.text for row in rows] == ["a"]


def test_json_lines_with_bom_crlf_blank_lines_and_no_last_line_end(tmp_path):
    content = "\ufeff\r\n" + json_row(response_id=7, attempt=2.0) + "\r\n  \r\n" + json_row()
    rows = read(written(tmp_path, content))
    assert [(row.line, row.response_id, row.attempt) for row in rows] == [(2, "7", 2), (4, "r1", 1)]


def test_a_file_may_begin_with_many_blank_lines(tmp_path):
    assert [row.line for row in read(written(tmp_path, "\n" * 6000 + json_row()))] == [6001]


def test_what_postgres_cannot_hold_is_taken_out_of_the_text_only(tmp_path):
    (row,) = read(
        written(tmp_path, '{"response_id": "r", "item_id": "i", "text": "a\\u0000b\\ud800c\\ud83d\\ude00"}')
    )
    assert row.text == "ab?c\U0001f600"


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-03-01T08:30:00Z", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        ("2026-03-01T08:30:00+02:00", datetime(2026, 3, 1, 6, 30, tzinfo=UTC)),
        ("2026-03-01 08:30", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("", None),
        (None, None),
    ],
)
def test_moments_count_as_utc_where_they_name_no_zone(tmp_path, given, moment):
    (row,) = read(written(tmp_path, json_row(submitted_at=given)))
    assert row.submitted_at == moment


def test_only_keeps_the_rows_that_were_asked_for(tmp_path):
    path = written(tmp_path, f"{HEADER},fold\nr1,ice,a,test\nr2,ice,b,train\nr3,snow,c,test\n")
    assert [row.response_id for row in read(path, only={"fold": "test"})] == ["r1", "r3"]
    assert [row.response_id for row in read(path, only={"fold": "test", "item_id": "ice"})] == ["r1"]
    assert read(path, only={"nowhere": "x"}) == []


def test_progress_ends_at_the_files_size(tmp_path):
    path = written(tmp_path, "\ufeff" + "\n".join(json_row(response_id=n) for n in range(1300)))
    told: list[int] = []
    read(path, progress=told.append)
    assert told == sorted(told)
    assert len(told) == 3
    assert told[-1] == files.inspect(path).num_bytes == path.stat().st_size


def test_equal_files_have_equal_identity(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER)
    (tmp_path / "b.csv").write_text(HEADER)
    (tmp_path / "c.csv").write_text(HEADER + "\n")
    hashes = [files.inspect(tmp_path / name).sha256 for name in ("a.csv", "b.csv", "c.csv")]
    assert hashes[0] == hashes[1] != hashes[2]


PIECES = (
    *(
        HEADER.encode() + b"\n",
        b'{"response_id": "r", "item_id": "i", "text": ',
        "ö".encode(),
        b"\xef\xbb\xbf",
    ),
    *(b'"', b",", b";", b"\r", b"\n", b"\x00", b"\xff", b"}", b"[", b"1e400", b"\\ud800", b" "),
)
ODD_BYTES = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


@settings(deadline=None)
@given(st.binary(max_size=200) | ODD_BYTES | ODD_BYTES.map(lambda rest: HEADER.encode() + b"\n" + rest))
@example(HEADER.encode() + b"\rr1,ice,a\r")
@example(b'"')
@example(HEADER.encode() + b"\nr1,ice,")
def test_whatever_the_bytes_a_file_is_refused_or_its_rows_are(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "odd"
    path.write_bytes(content)
    try:
        rows = read(path, max_text_chars=20)
    except InvalidInputError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        return
    for row in rows:
        assert 1 <= row.line <= content.count(b"\n") + 1
        if isinstance(row, IncomingRow):
            assert row.response_id
            assert row.item_id
            assert "\x00" not in row.text
            assert row.text.encode().decode() == row.text  # no lone surrogates; a blank answer is one too


@pytest.mark.parametrize("file_format", ["csv", "jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path, file_format):
    path = tmp_path / "large"
    with path.open("w", encoding="utf-8") as stream:
        if file_format == "csv":
            stream.write(HEADER + "\n")
        for number in range(5000):
            text = f"{number} " + "ice melts " * 400
            row = f"r{number},ice,{text}" if file_format == "csv" else json_row(response_id=number, text=text)
            stream.write(row + "\n")
    assert path.stat().st_size > 20_000_000
    tracemalloc.start()
    try:
        records = files.read_records(
            files.inspect(path), required=answers.SUBMISSION_FIELDS, max_line_bytes=MAX_LINE_BYTES
        )
        num_rows = sum(isinstance(row, files.Record) for row in records)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_rows == 5000
    assert peak_bytes < 4_000_000
