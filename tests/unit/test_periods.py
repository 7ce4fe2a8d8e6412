"""A night has one name from its beginning to the next one's, by the schools' clock."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.periods import current_period
from workers.settings import NightSettings, SettingsError, load_settings


@pytest.mark.parametrize(
    ("begins_at", "zone", "now", "period"),
    [
        ("00:00", "UTC", "2026-11-22T00:00", "2026-11-22"),
        ("00:00", "UTC", "2026-11-22T23:59", "2026-11-22"),
        ("02:30", "UTC", "2026-11-22T02:29", "2026-11-21"),
        ("02:30", "UTC", "2026-11-22T02:30", "2026-11-22"),
        # From noon on a night bears its morning's name.
        ("11:59", "UTC", "2026-11-22T11:59", "2026-11-22"),
        ("12:00", "UTC", "2026-11-22T12:00", "2026-11-23"),
        ("22:00", "America/Chicago", "2026-11-23T03:59", "2026-11-22"),
        ("22:00", "America/Chicago", "2026-11-23T04:00", "2026-11-23"),
        # Clocks go back at 3 in Berlin: half past two comes twice, the night begins once.
        ("02:00", "Europe/Berlin", "2026-10-24T23:59", "2026-10-24"),
        ("02:00", "Europe/Berlin", "2026-10-25T00:30", "2026-10-25"),
        ("02:00", "Europe/Berlin", "2026-10-25T01:30", "2026-10-25"),
        ("02:30", "Europe/Berlin", "2026-10-25T00:29", "2026-10-24"),
        ("02:30", "Europe/Berlin", "2026-10-25T00:30", "2026-10-25"),
        ("02:30", "Europe/Berlin", "2026-10-25T01:10", "2026-10-25"),
        # Clocks go forward from 2 to 3: a night that should begin within the gap begins after it.
        ("02:30", "Europe/Berlin", "2026-03-29T01:29", "2026-03-28"),
        ("02:30", "Europe/Berlin", "2026-03-29T01:30", "2026-03-29"),
    ],
)
def test_a_night_is_named_by_the_day_of_its_morning(begins_at: str, zone: str, now: str, period: str) -> None:
    night = NightSettings(begins_at=time.fromisoformat(begins_at), time_zone=zone)
    assert current_period(night, datetime.fromisoformat(now).replace(tzinfo=UTC)) == period


@pytest.mark.parametrize(("before", "after"), [("00:00", "22:00"), ("22:00", "00:00"), ("03:00", "01:00")])
def test_another_beginning_neither_skips_a_night_nor_makes_two(before: str, after: str) -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    nights = [NightSettings(begins_at=time.fromisoformat(at)) for at in (before, after)]
    assert current_period(nights[0], noon) == current_period(nights[1], noon) == "2026-11-22"


@given(
    st.datetimes(datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2027-01-01")),
    st.timedeltas(timedelta(0), timedelta(hours=30)),
    st.times(),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Chicago", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_a_name_never_comes_back(begin: datetime, later: timedelta, begins_at: time, zone: str) -> None:
    night = NightSettings(begins_at=begins_at, time_zone=zone)
    moment = begin.replace(tzinfo=UTC)
    assert current_period(night, moment) <= current_period(night, moment + later)


def test_the_environment_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREFOLD_NIGHT__BEGINS_AT", "03:15")
    monkeypatch.setenv("SCOREFOLD_NIGHT__TIME_ZONE", "Europe/Berlin")
    assert load_settings().night == NightSettings(begins_at=time(3, 15), time_zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("name", "value"),
    [("TIME_ZONE", "Berlin"), ("TIME_ZONE", "../etc"), ("BEGINS_AT", "25:00"), ("BEGINS_AT", "22:00+02:00")],
)
def test_what_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SCOREFOLD_NIGHT__{name}", value)
    with pytest.raises(SettingsError, match=f"SCOREFOLD_NIGHT__{name}"):
        load_settings()
