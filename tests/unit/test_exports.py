"""Exports of learning platforms, one awkward file a format, written after the documented shapes."""

# ruff: noqa: RUF005 (long rows of cells are cut in two)

from __future__ import annotations

import csv
import io
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from db.intake import IncomingRow, RejectedRow
from scoring.errors import InvalidInputError
from workers.importers import exports, files
from workers.importers.sources import Source

if TYPE_CHECKING:
    from pathlib import Path


def sheet(rows: list[list[str]], *, delimiter: str = ",", line_end: str = "\r\n") -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator=line_end).writerows(rows)
    return stream.getvalue()


def write(folder: Path, content: str, *, encoding: str = "utf-8") -> Path:
    path = folder / "export.csv"
    path.write_bytes(content.encode(encoding))
    return path


def read(path: Path, source: Source | None = None, *, expect: str) -> list[IncomingRow | RejectedRow]:
    source = source or Source()
    file = files.inspect(path, encoding=source.encoding)
    assert file.file_format == expect
    return list(exports.submissions(file, source, max_line_bytes=100_000, max_text_chars=500))


def accepted(rows: list[IncomingRow | RejectedRow]) -> list[tuple[object, ...]]:
    found = [row for row in rows if isinstance(row, IncomingRow)]
    assert all(row.within_student for row in found)
    assert all(row.student_id not in row.response_id for row in found)
    return [(row.line, row.student_id, row.response_id, row.attempt, row.text) for row in found]


def rejects(rows: list[IncomingRow | RejectedRow]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, RejectedRow)]


CLASSIC_LEAD = ["name", "id", "sis_id", "section", "section_id", "section_sis_id", "submitted", "attempt"]
CLASSIC = [
    [*CLASSIC_LEAD, "17: Why, says A;\nB?", "1.0", "21: Why?", "1.0", "n correct", "n incorrect", "score"],
    ["Ä", "901", "s1", "1, 2", "1, 2", "", "2026-03-01 08:30:00 UTC", "1"]
    + ['ice\nmelts, it\'s "wet"', "0", "", "", "0", "0", "0"],
    [
        "B",
        "902",
        "s2",
        "1",
        "1",
        "",
        "2026-03-01 02:30:00 -0600",
        "1",
        "",
        "0",
        "x<y & z",
        "0.0",
        "0",
        "0",
        "0",
    ],
    ["B", "902", "s2", "1", "1", "", "2026-03-02 02:30:00 UTC", "2", "=1+1", "", "", "0", "0", "0", "0"],
    ["", "", "", "1", "1", "", "2026-03-02 02:30:00 UTC", "1", "lost", "0", "", "0", "0", "0", "0"],
    ["C", "903", "s3", "1", "1", "", "2026-03-02 02:30:00 UTC", "1", "cut"],
]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_canvas_classic_is_read_by_position(tmp_path, delimiter, encoding):
    path = write(tmp_path, sheet(CLASSIC, delimiter=delimiter), encoding=encoding)
    rows = read(path, expect="canvas_classic")
    assert accepted(rows) == [
        (3, "901", "17", 1, 'ice\nmelts, it\'s "wet"'),
        (5, "902", "17", 1, ""),
        (5, "902", "21", 1, "x<y & z"),
        (6, "902", "17", 2, "=1+1"),
        (6, "902", "21", 2, ""),
    ]
    assert rejects(rows) == [(7, "student_missing"), (8, "wrong_columns")]
    moments = [row.submitted_at for row in rows if isinstance(row, IncomingRow)]
    assert moments[:2] == [datetime(2026, 3, 1, 8, 30, tzinfo=UTC)] * 2


@pytest.mark.parametrize(
    ("attempts", "kept"), [("all", [1, 1, 1, 2, 2]), ("first", [1, 1, 1]), ("last", [1, 2, 2])]
)
def test_which_attempts_count_is_a_setting_of_the_source(tmp_path, attempts, kept):
    rows = read(write(tmp_path, sheet(CLASSIC)), Source(attempts=attempts), expect="canvas_classic")
    assert [row.attempt for row in rows if isinstance(row, IncomingRow)] == kept


def test_questions_become_items_and_the_others_are_passed_over_and_counted(tmp_path):
    passed = Counter[str]()
    source = Source(items={"why, says a; b?": "ice"})
    file = files.inspect(write(tmp_path, sheet(CLASSIC)))
    rows = list(
        exports.submissions(
            file,
            source,
            max_line_bytes=10_000,
            max_text_chars=500,
            on_passed_over=lambda name: passed.update([name]),
        )
    )
    assert {row.item_id for row in rows if isinstance(row, IncomingRow)} == {"ice"}
    assert passed == {"21": 2}


def test_a_translated_classic_report_without_sis_and_attempt_is_read(tmp_path):
    lead = ["nombre", "identificación", "grupo", "matriz", "sección", "id. de sección", "enviado"]
    content = [
        [*lead, "5: ¿Por qué?", "2"],
        ["Ana", "77", "", "", "1", "1", "2026-03-01 08:30:00 UTC", "porque sí", "0"],
    ]
    assert accepted(read(write(tmp_path, sheet(content)), expect="canvas_classic")) == [
        (2, "77", "5", 1, "porque sí")
    ]


def test_an_anonymous_survey_is_refused_with_a_remedy(tmp_path):
    content = [["section", "section_id", "submitted", "5: Why?", "1.0"], ["1", "1", "", "x", "0"]]
    path = write(tmp_path, sheet(content))
    with pytest.raises(InvalidInputError, match=r"export\.csv: .*anonymous survey cannot be scored"):
        read(path, expect="canvas_classic")


NEW_QUESTION = ["ItemID", "ItemType", "<p>Why does\n<b>ice</b> melt?</p>", "EarnedPoints", "Status"]
NEW = [
    ["Name", "ID", "SectionIDs", "SectionNames", "Submitted", "ElapsedTime", "Attempt"]
    + NEW_QUESTION
    + ["ItemID", "ItemType", "Pick one", "EarnedPoints", "Status"]
    + ["NumberOfCorrect", "OverallScore"],
    ["A", "901", "1", "x", "2026-03-01T08:30:00Z", "60", "1"]
    + ["4001", "essay", "<p>ice&nbsp;melts<br>at 0&deg;C</p><p>if a &lt; b</p>", "0", "graded"]
    + ["4002", "choice", "yes", "1", "graded", "0", "0"],
    ["B", "902", "1", "x", "2026-03-01T08:30:00Z", "60", "", "", "", "", "", "", "4002", "choice", "no"]
    + ["0", "graded", "0", "0"],
    ["C", "903", "1", "x", "yesterday", "60", "1", "4001", "essay", "", "0", "graded", "", "", "", "", ""]
    + ["0", "0"],
    ["D", "904", "1", "x", "", "60", "1", "4001", "essay", "", "0", "graded", "", "", "", "", "", "0", "0"],
]


def test_canvas_new_quizzes_are_known_by_their_groups_of_columns(tmp_path):
    rows = read(write(tmp_path, sheet(NEW)), expect="canvas_new")
    assert accepted(rows) == [
        (3, "901", "4001", 1, "ice melts\nat 0°C\nif a < b"),
        (6, "904", "4001", 1, ""),
    ]
    assert rejects(rows) == [(5, "date_unreadable")]
    by_text = Source(items={"why does ice melt?": "ice"})
    assert [
        row.item_id
        for row in read(tmp_path / "export.csv", by_text, expect="canvas_new")
        if isinstance(row, IncomingRow)
    ] == ["ice"] * 2


MOODLE_EN = [
    ["Last name", "First name", "Email address", "Status", "Started", "Completed", "Duration", "Grade/10.00"]
    + ["Question 1", "Response 1", "Right answer 1", "Question 2", "Response 2", "Right answer 2"],
    ["Ng", "A", "a@x.org", "Finished", "1 March 2026  8:30 AM", "1 March 2026  8:45 AM", "15 mins", "-"]
    + ["Why ice?", "it melts\nin the sun\nAttached files: notes.txt (12 KB)", "-", "Why snow?", "-", "-"],
    ["Ng", "B", "b@x.org", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-"],
    [
        "Ng",
        "C",
        "c@x.org",
        "In progress",
        "1 March 2026  9:00 PM",
        "-",
        "-",
        "-",
        "Why snow?",
        "x",
        "-",
        "",
        "",
        "",
    ],
    ["Ng", "D", "d@x.org", "", "1 March 2026  9:00 PM", "1 March 2026  9:05 PM", "5 mins", ""]
    + ["Why ice?", "first try", "-", "Why snow?", "-", "-"],
    ["Ng", "D", "", "Finished", "1 March 2026  9:00 PM", "1 March 2026  9:05 PM", "5 mins", "1.00"]
    + ["Why ice?", "second try", "-", "Why snow?", "-", "-"],
    ["Ng", "E", "", "Finished", "1 March 2026  9:00 PM", "1 March 2026  9:05 PM", "5 mins", "1.00"]
    + ["Why ice?", "whose?", "-", "Why snow?", "-", "-"],
    [
        "Ng",
        "F",
        "f@x.org",
        "Finished",
        "Sonntag",
        "1 March 2026  9:05 PM",
        "5 mins",
        "1.00",
        "",
        "x",
        "",
        "",
        "",
        "",
    ],
]


def test_moodle_dashes_tries_and_random_questions(tmp_path):
    source = Source(zone=ZoneInfo("America/Chicago"), items={"why ice?": "ice", "why snow?": "snow"})
    rows = read(write(tmp_path, sheet(MOODLE_EN), encoding="utf-8-sig"), source, expect="moodle")
    assert accepted(rows) == [
        (2, "a@x.org", "1@2026-03-01T14:30Z", 1, "it melts\nin the sun"),
        (2, "a@x.org", "2@2026-03-01T14:30Z", 1, ""),
        (7, "d@x.org", "1@2026-03-02T03:00Z", 1, "first try"),
        (8, "d@x.org", "1@2026-03-02T03:00Z", 2, "second try"),
        (8, "d@x.org", "2@2026-03-02T03:00Z", 2, ""),
    ]
    assert rejects(rows) == [(9, "student_missing"), (10, "date_unreadable")]
    assert [row.item_id for row in rows if isinstance(row, IncomingRow)] == [
        "ice",
        "snow",
        "ice",
        "ice",
        "snow",
    ]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("es schmilzt\nAngehängte Dateien: notiz.pdf (1.2 MB)", "es schmilzt"),
        ("ça fond\nFichiers joints : a.pdf (12 Ko), b.pdf (1,5 Mo)", "ça fond"),
        ("Attached files: notes.txt (512 bytes)", ""),
        ("it rolls so far\nResult: (42 cm)", "it rolls so far\nResult: (42 cm)"),
        ("one line: it melts (12 KB)\nand then more", "one line: it melts (12 KB)\nand then more"),
    ],
)
def test_names_of_attached_files_are_no_part_of_an_answer(tmp_path, cell, text):
    row = [*MOODLE_EN[1]]
    row[9] = cell
    rows = read(write(tmp_path, sheet([MOODLE_EN[0], row])), expect="moodle")
    assert accepted(rows)[0][4] == text


def test_a_dash_in_the_last_try_takes_back_no_answer_of_an_earlier_one(tmp_path):
    first, last = list(MOODLE_EN[4]), list(MOODLE_EN[5])
    last[9] = "-"
    rows = read(write(tmp_path, sheet([MOODLE_EN[0], first, last])), expect="moodle")
    assert [row[3:] for row in accepted(rows)] == [(1, "first try"), (2, "")]
    assert [row[2][0] for row in accepted(rows)] == ["1", "2"]


def test_moodle_in_german_by_slot_with_the_older_names_of_columns(tmp_path):
    content = [
        [
            "Nachname",
            "Vorname",
            "ID-Nummer",
            "E-Mail-Adresse",
            "Status",
            "Begonnen am",
            "Beendet",
            "Verbrauchte Zeit",
        ]
        + ["Bewertung/10,00", "Antwort 1", "Antwort 2"],
        ["Ö", "A", "4711", "a@x.org", "Beendet", "1. März 2026  08:30", "1. März 2026  08:45", "15 Minuten"]
        + ["0,00", "weil es schmilzt; ja", "–"],
    ]
    source = Source(zone=ZoneInfo("Europe/Berlin"), items={"1": "eis", "2": "schnee"}, encoding="cp1252")
    rows = read(write(tmp_path, sheet(content, delimiter=";"), encoding="cp1252"), source, expect="moodle")
    assert accepted(rows) == [
        (2, "4711", "1@2026-03-01T07:30Z", 1, "weil es schmilzt; ja"),
        (2, "4711", "2@2026-03-01T07:30Z", 1, "–"),
    ]
    with pytest.raises(InvalidInputError, match=r"line 2: byte 0xd6 at position 1 is not UTF-8"):
        read(tmp_path / "export.csv", expect="moodle")


def test_moodle_without_an_id_of_students_is_refused_unless_a_column_is_named(tmp_path):
    header = ["Last name", "First name", "Department", "Institution", *MOODLE_EN[0][3:8], "Response 1"]
    row = ["Ng", "A", "D1", "I1", *MOODLE_EN[1][3:8], "x"]
    path = write(tmp_path, sheet([header, row]))
    with pytest.raises(InvalidInputError, match="name a column in student_column"):
        read(path, expect="moodle")
    rows = read(path, Source(student_column="department"), expect="moodle")
    assert [row.student_id for row in rows if isinstance(row, IncomingRow)] == ["D1"]


D2L = [
    ["Org Defined ID", "Username", "FirstName", "LastName", "Attempt #", "Attempt Start", "Attempt End"]
    + ["Section #", "Q #", "Q Type", "Q Title", "Q Text", "Bonus?", "Difficulty", "Answer", "Answer Match"]
    + ["Score", "Out Of"]
]
D2L += [
    [
        "",
        "ang",
        "A",
        "Ng",
        "1",
        "2/3/2026 15:24",
        "2/3/2026 15:28",
        "",
        "1",
        "WR",
        "Ice",
        "<p>Why?</p>",
        "",
        "1",
    ]
    + ["<p>it melts</p>\x00", "", "", "2"],
    ["", "ang", "A", "Ng", "1", "2/3/2026 15:24", "2/3/2026 15:28", "", "2", "MC", "Pick", "x", "", "1"]
    + ["yes", "Checked", "1", "1"],
    [
        "7",
        "bng",
        "B",
        "Ng",
        "2",
        "2/3/2026 15:24",
        "",
        "",
        "1",
        "WR",
        "Ice",
        "<p>Why?</p>",
        "",
        "1",
        "",
        "",
        "",
        "2",
    ],
    [
        "7",
        "bng",
        "B",
        "Ng",
        "two",
        "2/3/2026 15:24",
        "",
        "",
        "1",
        "WR",
        "Ice",
        "<p>Why?</p>",
        "",
        "1",
        "",
        "",
        "",
        "2",
    ],
]


def test_d2l_is_long_and_goes_by_titles(tmp_path):
    source = Source(zone=ZoneInfo("America/Toronto"), items={"ice": "ice"}, date_format="%m/%d/%Y %H:%M")
    rows = read(write(tmp_path, sheet(D2L)), source, expect="d2l")
    first, blank, broken = rows
    assert isinstance(first, IncomingRow)
    assert (first.student_id, first.text, first.attempt) == ("ang", "it melts", 1)
    assert first.response_id.endswith("@2026-02-03T20:24Z")
    assert isinstance(blank, IncomingRow)
    assert (blank.student_id, blank.text, blank.attempt) == ("7", "", 2)
    assert blank.response_id == first.response_id
    assert isinstance(broken, RejectedRow)
    assert (broken.line, broken.reason) == (5, "attempt_invalid")


@pytest.mark.parametrize(
    "attempt", ["0" * 11 + "1" + "9" * 11, "2147483648", "0", "000", "9" * 5000, "²", "1.0"]
)
def test_an_attempt_that_no_ledger_holds_costs_its_row_and_no_other(tmp_path, attempt):
    source = Source(zone=ZoneInfo("America/Toronto"), date_format="%m/%d/%Y %H:%M")
    broken = [*D2L[3][:4], attempt, *D2L[3][5:]]
    rows = read(write(tmp_path, sheet([D2L[0], broken, D2L[1]])), source, expect="d2l")
    assert rejects(rows) == [(2, "attempt_invalid")]
    assert [row.attempt for row in rows if isinstance(row, IncomingRow)] == [1]


@pytest.mark.parametrize(("attempt", "number"), [("", 1), ("007", 7), (" 2147483647 ", 2**31 - 1)])
def test_an_attempt_is_a_number_of_any_width(tmp_path, attempt, number):
    source = Source(zone=ZoneInfo("America/Toronto"), date_format="%m/%d/%Y %H:%M")
    (row,) = read(write(tmp_path, sheet([D2L[0], [*D2L[1][:4], attempt, *D2L[1][5:]]])), source, expect="d2l")
    assert isinstance(row, IncomingRow)
    assert row.attempt == number


def test_two_numbers_with_slashes_are_no_date_until_somebody_says_which_is_the_day(tmp_path):
    rows = read(write(tmp_path, sheet(D2L)), expect="d2l")
    assert {reason for _, reason in rejects(rows)} == {"date_unreadable"}
    assert accepted(rows) == []


def test_blackboard_in_utf_16_with_tabs_and_questions_in_another_order(tmp_path):
    group = [
        "Question ID {}",
        "Question {}",
        "Answer {}",
        "Possible Points {}",
        "Auto Score {}",
        "Manual Score {}",
    ]
    header = ["Username", "Last Name", "First Name"] + [name.format(n) for n in (1, 2) for name in group]
    ice = ["_11_1", "Why ice?", "<p>melts</p>", "1", "", ""]
    snow = ["_12_1", "Why snow?", "", "1", "", ""]
    content = [
        header,
        ["ang", "N", "A", *ice, *snow],
        ["bng", "N", "B", *snow, *ice],
        ["cng", "N", "C", *ice],
    ]
    path = write(tmp_path, sheet(content, delimiter="\t"), encoding="utf-16")
    assert accepted(read(path, expect="blackboard")) == [
        (2, "ang", "_11_1", 1, "melts"),
        (2, "ang", "_12_1", 1, ""),
        (3, "bng", "_12_1", 1, ""),
        (3, "bng", "_11_1", 1, "melts"),
        (4, "cng", "_11_1", 1, "melts"),
    ]


def test_our_own_columns_are_never_taken_for_an_export(tmp_path):
    path = write(tmp_path, "response_id,item_id,text,5: x,1.0\nr1,ice,a,b,c\n")
    assert files.inspect(path).file_format == "csv"
