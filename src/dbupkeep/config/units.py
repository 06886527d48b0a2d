"""How values are written in a configuration: durations, sizes, shares, cron expressions.

Each reader takes what TOML gave and raises `ValueError` with a sentence that says what is wanted.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta

from dbupkeep import cron
from dbupkeep.definitions import Setting

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?\s*(ms|s|min|m|h|d|w)\s*)+$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]i?)?[bB]$"
SHARE_PATTERN = r"^[0-9]+(\.[0-9]+)?\s*%$"

LONGEST = timedelta(days=3650)
BIGGEST = 2**63 - 1
"""What every ledger can store as a number."""

_WRITTEN = 64  # characters; a longer text is no number that a person wrote

_SECONDS = {"ms": 0.001, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*", re.ASCII)

_CRON_FIELDS = (
    ("minute", 0, 59, ""),
    ("hour", 0, 23, ""),
    ("day of the month", 1, 31, ""),
    ("month", 1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    ("day of the week", 0, 7, "sun mon tue wed thu fri sat"),
)
_CRON_ITEM = re.compile(r"(?:\*|([0-9a-z]+)(?:-([0-9a-z]+))?)(?:/([0-9]+))?", re.ASCII)
_CRON_LAST = {"day of the month": re.compile(r"l"), "day of the week": re.compile(r"[0-7](?:l|#[1-5])")}


def read_duration(value: object) -> timedelta:
    """`"10d"`, `"1h30m"`, `"500ms"`, or a number of seconds; never below 0 and at most ten years."""
    wanted = 'must be a duration such as "10d", "1h30m" or "500ms", or a number of seconds'
    seconds = _number(value)
    if seconds is None and isinstance(value, str):
        seconds = _seconds(value)
    if seconds is None:
        raise ValueError(wanted)
    if not 0 <= seconds <= LONGEST.total_seconds():
        raise ValueError(f"must be between 0 and {LONGEST.days} days")
    return timedelta(seconds=seconds)


def read_share(value: object) -> float:
    """`"120%"` or `1.2`, as a number that is not below 0."""
    share = _number(value)
    if share is None and isinstance(value, str):
        share = _share(value)
    if share is None or share < 0:
        raise ValueError('must be a number such as 1.2, or a percentage such as "120%"')
    return share


def read_setting(value: object) -> Setting:
    """One threshold: a percentage becomes a fraction, a size bytes, a duration seconds; any other text stays itself."""
    if isinstance(value, str):
        for reader in (_share, _size, _seconds):
            number = reader(value)
            if number is not None:
                return number
        return value
    if isinstance(value, bool) or _number(value) is not None:
        return value  # type: ignore[return-value] # a bool, an int or a float by now
    raise ValueError("must be true, false, a number, or a text")


def read_cron(value: str) -> str:
    """A cron expression of five fields, as it was written."""
    fields = value.lower().split()
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError(f'must be a cron expression of five fields, such as "0 2 * * MON-FRI"; it has {len(fields)}')
    for text, (name, low, high, words) in zip(fields, _CRON_FIELDS, strict=True):
        if not all(_is_cron_item(item, name, low, high, words.split()) for item in text.split(",")):
            raise ValueError(f'the {name} of the cron expression, "{text[:_WRITTEN]}", is not from {low} to {high}')
    if said := cron.fault(value):
        raise ValueError(f"the cron expression {said}")
    return value


def _is_cron_item(item: str, name: str, low: int, high: int, words: list[str]) -> bool:
    last = _CRON_LAST.get(name)
    if last is not None and last.fullmatch(item):
        return True
    found = _CRON_ITEM.fullmatch(item) if len(item) <= _WRITTEN else None
    if found is None or (found[3] is not None and int(found[3]) == 0):
        return False
    ends = [_cron_number(end, low, words) for end in found.groups()[:2] if end is not None]
    return all(end is not None and low <= end <= high for end in ends) and ends == sorted(ends, key=lambda n: n or 0)


def _cron_number(text: str, low: int, words: list[str]) -> int | None:
    if text in words:
        return words.index(text) + low
    return int(text) if text.isdecimal() else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # Compared before it is converted: a whole number may be too big for a float.
    return value if -BIGGEST <= value <= BIGGEST and not math.isnan(value) else None


def _seconds(text: str) -> float | None:
    if not 0 < len(text) <= _WRITTEN:
        return None
    total, at = 0.0, 0
    while at < len(text):
        found = _AMOUNT.match(text, at)
        if found is None or found[2] not in _SECONDS:
            return None
        total += float(found[1]) * _SECONDS[found[2]]
        at = found.end()
    return total


def _size(text: str) -> int | None:
    found = _AMOUNT.fullmatch(text) if len(text) <= _WRITTEN else None
    if found is None or found[2].lower() not in _BYTES:
        return None
    number = float(found[1]) * _BYTES[found[2].lower()]
    return round(number) if number <= BIGGEST else None


def _share(text: str) -> float | None:
    if len(text) > _WRITTEN or re.fullmatch(SHARE_PATTERN, text) is None:
        return None
    return float(text.rstrip(" %")) / 100
