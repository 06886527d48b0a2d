"""Numbers as people read them, for reasons and errors."""

from __future__ import annotations

from dbupkeep.quantities import duration, listed, share, size

__all__ = ["count", "duration", "listed", "share", "size"]


def count(number: int, noun: str) -> str:
    """A number of things: `1 table`, `2,000 tables`, `3 indexes`."""
    ending = "" if number == 1 else "es" if noun.endswith("x") else "s"
    return f"{number:,} {noun}{ending}"
