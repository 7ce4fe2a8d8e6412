"""Which night it is: a period is named by the day of its morning, where the schools are.

Everything that is done once a night asks here, so that all of it means the same night.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from workers.settings import NightSettings

_NOON = time(12)


def current_period(night: NightSettings, now: datetime | None = None) -> str:
    """The period of the night that began last, as YYYY-MM-DD.

    A night that begins in the evening bears the next day's name, so that to move its beginning from one side
    of midnight to the other neither skips a night nor makes two of one.
    """
    now = (now or datetime.now(UTC)).astimezone(UTC)
    today = now.astimezone(ZoneInfo(night.time_zone)).date()
    begun = today if now >= _beginning(today, night) else today - timedelta(days=1)
    return (begun + timedelta(days=night.begins_at >= _NOON)).isoformat()


def _beginning(day: date, night: NightSettings) -> datetime:
    # In UTC: where clocks go back, an hour comes twice, and a night begins at the first.
    return datetime.combine(day, night.begins_at, tzinfo=ZoneInfo(night.time_zone)).astimezone(UTC)
