"""Durations, sizes, shares and cron expressions, as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbupkeep.config.units import read_cron, read_duration, read_setting, read_share


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10d", 864_000),
        ("5s", 5),
        ("500ms", 0.5),
        ("1h30m", 5400),
        ("2 min", 120),
        ("1w", 604_800),
        (90, 90),
        (1.5, 1.5),
    ],
)
def test_duration(text: object, seconds: float) -> None:
    assert read_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "10", "d", "-5s", "5 parsecs", "1d,", "٣s", "9" * 5000 + "d", "20000d", -1, True, None, float("nan"), 10**400],
)
def test_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_duration(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("25%", 0.25),
        ("0.5 %", 0.005),
        ("1MiB", 1024**2),
        ("64 kB", 64_000),
        ("512b", 512),
        ("1.5gib", 3 * 512 * 1024**2),
        ("10d", 864_000.0),
        ("concurrent", "concurrent"),
        ("5M", "5M"),  # megabytes or minutes: not for us to guess
        (True, True),
        (7, 7),
        (0.3, 0.3),
    ],
)
def test_setting(text: object, value: object) -> None:
    read = read_setting(text)
    assert read == value
    assert type(read) is type(value)


@given(st.text(max_size=80) | st.floats() | st.integers())
def test_any_value_is_read_or_refused_in_words(value: object) -> None:
    for reader in (read_duration, read_share, read_setting):
        try:
            reader(value)
        except ValueError as error:
            assert "must be" in str(error)  # noqa: PT017 - either is right


@pytest.mark.parametrize(
    "text", ["* * * * *", "0 1 * * MON-FRI", "*/15 0-6,22 1 jan,JUL 0", "0 3 l * 7", "0 3 * * 5#1", "5 4 1-31/2 * 5L"]
)
def test_cron(text: str) -> None:
    assert read_cron(text) == text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("0 1 * *", "five fields"),
        ("60 1 * * *", "the minute"),
        ("0 24 * * *", "the hour"),
        ("0 0 0 * *", "the day of the month"),
        ("0 0 * 13 *", "the month"),
        ("0 0 * * mon-fry", "the day of the week"),
        ("0 5-3 * * *", "the hour"),
        ("*/0 * * * *", "the minute"),
        ("1,,2 * * * *", "the minute"),
        ("", "five fields"),
        ("0 0 * * " + "9" * 5000, "the day of the week"),
    ],
)
def test_no_cron(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_cron(text)
