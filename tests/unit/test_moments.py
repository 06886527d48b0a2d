"""Moments as people write them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dbupkeep.errors import UsageError
from dbupkeep.views.moments import ahead, back

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")  # nine hours ahead, no summer time: it is 21:00 there
    time.tzset()
    yield
    monkeypatch.delenv("TZ")
    os.environ.pop("TZ", None)
    time.tzset()


@pytest.mark.parametrize(
    ("text", "ahead_at", "back_at"),
    [
        ("22:30", "2026-03-10T13:30", "2026-03-09T13:30"),
        ("06:00", "2026-03-10T21:00", "2026-03-09T21:00"),
        ("21:00:01", "2026-03-10T12:00:01", "2026-03-09T12:00:01"),
        ("2h", "2026-03-10T14:00", "2026-03-10T10:00"),
        ("1h30m", "2026-03-10T13:30", "2026-03-10T10:30"),
        ("2026-03-11T06:00", "2026-03-10T21:00", "2026-03-10T21:00"),
        ("2026-03-11T06:00+01:00", "2026-03-11T05:00", "2026-03-11T05:00"),
        ("2026-03-11", "2026-03-10T15:00", "2026-03-10T15:00"),
    ],
)
def test_what_people_write(text: str, ahead_at: str, back_at: str) -> None:
    found = [moment(text, NOW).astimezone(UTC).replace(tzinfo=None) for moment in (ahead, back)]
    assert found == [datetime.fromisoformat(ahead_at), datetime.fromisoformat(back_at)]


@pytest.mark.parametrize("text", ["", "soon", "25:00", "12:61", "-2h", "2026-13-01", "9" * 30 + "d", "none"])
def test_what_is_no_moment(text: str) -> None:
    for moment in (ahead, back):
        with pytest.raises(UsageError, match="is no moment"):
            moment(text, NOW)
