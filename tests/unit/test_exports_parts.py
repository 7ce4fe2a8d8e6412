"""The parts that readers of exports share: markup, dates, what is known about a source."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInputError
from workers.importers import markup, sources
from workers.importers.fields import FieldFault
from workers.importers.moments import exported_moment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("x<y and y>z & more", "x<y and y>z & more"),
        ("if a <b and c> d", "if a <b and c> d"),
        ("AT&T; R&D", "AT&T; R&D"),
        ("x<y>z and List<String>", "x<y>z and List<String>"),
        ("<p>one</p>\r\n<p>two<br/>three</p>", "one\ntwo\nthree"),
        ("<P CLASS=\"a b\">one <SPAN style='x'>word</SPAN></P>", "one word"),
        ("a&nbsp;b &lt;c&gt; &#8211; &amp;amp;", "a b <c> – &amp;"),
        ("<script>alert('x')</script>kept<!-- <p>not this</p> -->", "kept"),
        ("<ul><li>a</li><li>b</li></ul>", "a\nb"),
        ("H<sub>2</sub>O", "H2O"),
    ],
)
def test_tags_and_entities_go_and_everything_else_stays(cell, text):
    assert markup.to_text(cell) == text


@given(st.text(alphabet=st.characters(exclude_characters="<&")))
def test_a_cell_without_tags_and_entities_is_untouched(cell):
    assert markup.to_text(cell) == cell


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2026-03-01T08:30:00Z", (8, 30)),
        ("2026-03-01 08:30:00 UTC", (8, 30)),
        ("2026-03-01 08:30:00 CET", (7, 30)),
        ("2026-03-01 08:30:00 -0600", (14, 30)),
        ("2026-03-01 08:30", (7, 30)),
        ("Sunday, 1 March 2026, 8:30 PM", (19, 30)),
        ("1 March 2026  12:05 AM", None),
        ("1. März 2026  08:30", (7, 30)),
        ("1 mars 2026, 08:30", (7, 30)),
        ("domingo, 1 de marzo de 2026, 08:30", (7, 30)),
        ("1 Mar 2026 08:30:59", (7, 30)),
    ],
)
def test_dates_in_the_downloaders_language_and_zone(cell, moment):
    found = exported_moment(cell, BERLIN, None, name="Started")
    if moment is None:
        assert found == datetime(2026, 2, 28, 23, 5, tzinfo=UTC)
    else:
        assert found is not None
        assert found.replace(second=0) == datetime(2026, 3, 1, *moment, tzinfo=UTC)


@pytest.mark.parametrize(
    "cell", ["2/3/2026 15:24", "2026-03-01 08:30 EST", "31 Februar 2026, 08:30", "1 ju 2026 8:00"]
)
def test_what_could_be_two_dates_is_none(cell):
    with pytest.raises(FieldFault, match="date_unreadable"):
        exported_moment(cell, BERLIN, None, name="Started")


def test_summer_and_winter_hour_of_one_clock_face_are_told_by_their_name():
    summer = exported_moment("2026-10-25 02:30:00 CEST", BERLIN, None, name="x")
    winter = exported_moment("2026-10-25 02:30:00 CET", BERLIN, None, name="x")
    assert summer == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert winter == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize("cell", ["", " ", "-"])
def test_no_date_is_none(cell):
    assert exported_moment(cell, BERLIN, None, name="Started") is None


def sources_file(folder: Path, content: str) -> Path:
    path = folder / "sources.toml"
    path.write_text(content, encoding="utf-8")
    return path


def test_a_source_is_read_with_its_items(tmp_path):
    (tmp_path / "items.csv").write_text(
        'question,item_id\n"<p>Why\nice?</p>",ice\n17,snow\n', encoding="utf-8-sig"
    )
    path = sources_file(
        tmp_path,
        '[lms]\ntime_zone = "Europe/Berlin"\nattempts = "last"\nitems = "items.csv"\nencoding = "CP1252"\n',
    )
    found = sources.load_source(path, "lms")
    assert (found.zone, found.attempts, found.encoding) == (BERLIN, "last", "cp1252")
    assert found.item_of(["99", "why  ICE?"]) == "ice"
    assert found.item_of(["17"]) == "snow"
    assert found.item_of(["18"]) is None
    assert sources.load_source(None, "lms").item_of(["18", "x"]) == "18"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[other]", r"no table \[lms\]; found other"),
        ('[lms]\ntime_zone = "Mars/Olympus"', "time_zone Mars/Olympus: unknown"),
        ('[lms]\ntime_zone = "../../etc/passwd"', "time_zone .*: unknown"),
        ('[lms]\nattempts = "best"', r"\[lms\] attempts: Input should be 'all', 'first' or 'last'"),
        ('[lms]\ntimezone = "UTC"', r"\[lms\] timezone: Extra inputs"),
        ('[lms]\nencoding = "base64"', "encoding base64: unknown"),
        ('[lms]\nencoding = "idna"', "encoding idna: unknown"),
        ('[lms]\nencoding = "undefined"', "encoding undefined: unknown"),
        ('[lms]\nencoding = "a\\u0000b"', "encoding a\0b: unknown"),
        (
            "[lms]\nkeep_days = 99999999999999",
            r"\[lms\] keep_days: Input should be less than or equal to 1000000",
        ),
        ("[lms]\nkeep_days = 0", r"\[lms\] keep_days: Input should be greater than or equal to 1"),
        ('[lms]\nitems = "absent.csv"', "absent.csv: cannot be read"),
        ('[lms]\nitems = "twice.csv"', "question 'ICE' is given two items"),
        ('[lms]\nitems = "bare.csv"', "must name the columns question,item_id"),
        ("[lms", "cannot be read as TOML"),
    ],
)
def test_what_has_no_meaning_is_refused_by_its_name(tmp_path, content, told):
    (tmp_path / "twice.csv").write_text("question,item_id\nice,a\nICE,b\n")
    (tmp_path / "bare.csv").write_text("ice,a\n")
    with pytest.raises(InvalidInputError, match=told):
        sources.load_source(sources_file(tmp_path, content), "lms")
