"""Which night it is: a period is named by the day on which its night began, where the schools are.

Everything that is done once a night asks here, so that all of it means the same night.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from workers.settings import NightSettings


def current_period(night: NightSettings, now: datetime | None = None) -> str:
    """The period of the night that began last, as YYYY-MM-DD."""
    local = (now or datetime.now(UTC)).astimezone(ZoneInfo(night.time_zone))
    # By the wall clock: on the day when clocks change, a night is an hour shorter or longer.
    begun = local.replace(tzinfo=None) - timedelta(hours=night.begins_at.hour, minutes=night.begins_at.minute)
    return begun.date().isoformat()
