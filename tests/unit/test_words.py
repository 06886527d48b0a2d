"""Numbers and names in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbupkeep.views.words import duration, name, places, share, size


@pytest.mark.parametrize(
    ("count", "words"),
    [(None, "–"), (0, "0 B"), (1, "1 B"), (1024, "1.0 KiB"), (1.1 * 1024**3, "1.1 GiB"), (-2048, "-2.0 KiB")],
)
def test_size(count: float | None, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"), (0, "0 ms"), (0.42, "420 ms"), (1, "1 s"), (2.34, "2.3 s"), (40, "40 s"), (59.7, "1 min"),
        (118, "1 min 58 s"), (3600, "1 h"), (3661, "1 h 1 min"), (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_duration(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_share() -> None:
    assert (share(0.58), share(None)) == ("58 %", "–")


@given(st.text(), st.integers(1, 20))
def test_a_name_is_printable_and_fits(text: str, width: int) -> None:
    assert name(text, width=width).isprintable()
    assert len(name(text, width=width)) <= width
    assert name("a\n\x1b[31m") == "a\\n\\x1b[31m"


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ("sqlite:///srv/tenants/core.db", "core.db"),
        ("discovery:sqlite:///srv/tenants/", "survey of tenants"),
        ("discovery:postgresql://db.example/orders?sslmode=require", "survey of orders"),
        ("sqlite:///srv/a.db, sqlite:///srv/b%20c.db and 3 more", "a.db, b c.db and 3 more"),
        ("nightly", "nightly"),
        ("", ""),
    ],
)
def test_places_are_targets_without_their_way(targets: str, words: str) -> None:
    assert places(targets) == words
