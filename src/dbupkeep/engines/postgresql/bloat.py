"""How small an index would be if it were built anew. Pure: from its own past, from its pages, or from statistics.

An answer is a range. Where it is wider than the promise (15 points to either side) there is no answer: a guess would
have the same indexes rebuilt for nothing again and again. Leaf density alone is not enough: it sees neither empty and
deleted pages nor the duplicates that a new build keeps once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from dbupkeep.plans import Source

PAGE = 8192
_LEAF = 8152  # of a page without its header and the tree's own part
_ITEM_POINTER = 4
_TUPLE_HEADER = 8
_WITH_NULLS = 16
_ROW_POINTER = 6
_LONGEST_POSTING = 812
_INNER_FILL = 0.7
_SHORT = 126  # bytes up to which a value of variable length is kept without alignment

TOLERANCE = 0.15
"""How far a predicted share may be off, to either side; an estimate less certain than that is none."""

TRUSTED = 128 * 1024
"""Bytes below which a past size says nothing: it is mostly page boundaries."""


class Column(Struct, frozen=True, kw_only=True):
    """A column of an index, as the statistics have it."""

    length: int  # fixed bytes, or negative
    align: str  # c, s, i, d
    key: bool
    width: float | None  # of values that are not null, on average
    nulls: float
    distinct: float | None  # above zero a count, below zero minus a share of the rows
    common: tuple[float, ...]  # shares of the most common values
    by_image: bool  # equal values have equal bytes: they can be kept once


class Pages(Struct, frozen=True, kw_only=True):
    """What reading all pages of a tree found."""

    bytes: int
    leaves: int
    empty: int
    deleted: int
    density: float  # 0 to 1


class Index(Struct, frozen=True, kw_only=True):
    """What is known of a B-tree and of the rows that it indexes."""

    bytes: int
    rows: float  # live ones, of those that it indexes
    dead: float  # rows that are dead and still have entries, at most
    fill: float  # its fillfactor, 0 to 1
    unique: bool
    deduplicates: bool
    stale: bool = False  # more rows changed since the last ANALYZE than statistics can stand
    columns: tuple[Column, ...]


class Predicted(Struct, frozen=True, kw_only=True):
    """What a rebuild would make of it: `least` and `most` are bytes; both None where nobody can say."""

    least: float | None
    most: float | None
    source: Source
    how: str  # a phrase: where the number is from, or why there is none

    def gain(self, size: int) -> float | None:
        """The share of the index that a rebuild gives back; None when it is not certain enough."""
        if self.least is None or self.most is None or size <= 0:
            return None
        low, high = (min(1.0, max(0.0, 1 - part / size)) for part in (self.most, self.least))
        return (low + high) / 2 if high - low <= 2 * TOLERANCE else None


def unknown(why: str) -> Predicted:
    """Nobody can say."""
    return Predicted(least=None, most=None, source=Source.UNKNOWN, how=why)


def by_history(rows: float, *, bytes_then: int, rows_then: float) -> Predicted | None:
    """From its size right after our own last rebuild; None where that says nothing."""
    if bytes_then < TRUSTED or rows_then <= 0 or rows <= 0:
        return None
    after = bytes_then * rows / rows_then
    return Predicted(least=after, most=after, source=Source.HISTORY, how="by its size after our last rebuild")


def by_statistics(index: Index) -> Predicted:
    """From the widths and the numbers of distinct values of its columns."""
    missing = _missing(index)
    if missing:
        return unknown(missing)
    width, slack = _width(index)
    sizes = [
        _tree(_leaf_bytes(index, width + error, distinct), index.fill, width + error)
        for error in (-slack, slack)
        for distinct in _distinct_range(index)
    ]
    return Predicted(least=min(sizes), most=max(sizes), source=Source.ESTIMATED, how="by statistics")


def by_pages(index: Index, pages: Pages) -> Predicted:
    """From what its leaves really hold; duplicates that are kept many times are told by statistics."""
    used = pages.leaves * pages.density * _LEAF
    if not used:
        return Predicted(least=PAGE, most=2 * PAGE, source=Source.MEASURED, how="by its pages: nothing is in them")
    width, _ = _width(index)
    live = index.rows / (index.rows + index.dead) if index.rows + index.dead > 0 else 1.0
    sizes = [_tree(used * part, index.fill, width) for part in {1.0, live}]
    if not _may_deduplicate(index):
        return Predicted(least=min(sizes), most=max(sizes), source=Source.MEASURED, how="by its pages")
    if _missing(index):
        return unknown(f"equal values may be kept once, and {_missing(index)}")
    anew = [_tree(_leaf_bytes(index, width, distinct), index.fill, width) for distinct in _distinct_range(index)]
    best = [min(size, new) for size in sizes for new in anew]
    return Predicted(least=min(best), most=max(best), source=Source.MEASURED, how="by its pages and statistics")


def _missing(index: Index) -> str:
    """Why statistics are of no use; empty when they are."""
    if index.rows < 0:
        return "the table was never analyzed"
    if index.stale:
        return "the statistics are old: ANALYZE the table, and the next plan knows"
    for column in index.columns:
        if column.length == _CSTRING:
            return "the width of a column of type name is not known"
        if column.length < 0 and column.width is None and index.rows > 0:
            return "a column has no statistics, or this role may not see them"
    if _may_deduplicate(index) and any(c.key and c.distinct is None for c in index.columns) and index.rows > 0:
        return "a column has no statistics, or this role may not see them"
    return ""


_CSTRING = -2


def _may_deduplicate(index: Index) -> bool:
    return index.deduplicates and not index.unique and all(column.key and column.by_image for column in index.columns)


def _width(index: Index) -> tuple[float, float]:
    """Bytes of an entry on average, and how far alignment may put that off to either side."""
    data, varies = 0.0, False
    for column in index.columns:
        step = {"c": 1, "s": 2, "i": 4, "d": 8}.get(column.align, 8)
        there = 1 - column.nulls
        if column.length > 0:
            data = _aligned(data, step) + column.length * there
        else:
            width = column.width if column.width is not None else 32.0
            data = (_aligned(data, step) if width > _SHORT else data) + width * there
            varies = True
    anyone_null = 1 - math.prod(1 - column.nulls for column in index.columns)
    header = _TUPLE_HEADER + (_WITH_NULLS - _TUPLE_HEADER) * anyone_null
    if not varies and anyone_null in (0.0, 1.0):
        return _aligned(header + data, 8), 0.0
    return header + data + 3.5, 2.0


def _aligned(size: float, step: int) -> float:
    return math.ceil(size / step) * step


def _distinct_range(index: Index) -> tuple[float, ...]:
    """How many different keys there may be, fewest and most."""
    rows = max(1.0, index.rows)
    keys = [column for column in index.columns if column.key]
    if not _may_deduplicate(index):
        return (rows,)
    counts = [min(rows, _distinct(column, rows)) for column in keys]
    if len(keys) == 1:
        return (counts[0],)
    return (max(counts), min(rows, math.prod(counts)))


def _distinct(column: Column, rows: float) -> float:
    found = column.distinct or 0.0
    return max(1.0, found if found >= 0 else -found * rows)


def _leaf_bytes(index: Index, width: float, distinct: float) -> float:
    """Bytes that the entries of a new build take in its leaves."""
    entry = width + _ITEM_POINTER
    if not _may_deduplicate(index) or distinct >= index.rows:
        return index.rows * entry
    keys = [column for column in index.columns if column.key]
    groups: list[tuple[float, float]] = []  # how many keys, and how many rows each has
    left_rows, left_keys = index.rows, distinct
    if len(keys) == 1:
        shares = [*keys[0].common, *([keys[0].nulls] if keys[0].nulls else [])]
        groups = [(1, share * index.rows) for share in shares]
        left_rows = max(0.0, index.rows - sum(rows for _, rows in groups))
        left_keys = max(1.0, distinct - len(keys[0].common)) if left_rows >= 1 else 0.0
    total = sum(count * _posting(rows, width) for count, rows in groups)
    return total + _spread(left_rows, left_keys, width)


def _spread(rows: float, keys: float, width: float) -> float:
    """Rows that fall on keys at random: some keys have one row, others several."""
    if rows < 1 or keys < 1:
        return 0.0
    mean = max(1.0, rows / keys)
    if mean > 8:  # noqa: PLR2004 - from there on the spread does not matter
        return keys * _posting(mean, width)
    rate = _rate_of(mean)
    never = 1 - math.exp(-rate)
    total, probability = 0.0, math.exp(-rate)
    for count in range(1, 40):
        probability *= rate / count
        total += probability / never * _posting(count, width)
    return keys * total


def _rate_of(mean: float) -> float:
    """The rate of a Poisson distribution whose values above zero have that mean."""
    low, high = 1e-6, mean
    for _ in range(40):
        middle = (low + high) / 2
        if middle / (1 - math.exp(-middle)) < mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _posting(rows: float, width: float) -> float:
    """Bytes that so many rows of one key take."""
    if rows <= 1:
        return width + _ITEM_POINTER
    capacity = max(1.0, (_LONGEST_POSTING - width) // _ROW_POINTER)
    padding = _aligned(rows * _ROW_POINTER, 8) - rows * _ROW_POINTER if rows < capacity else 0.0
    return max(1.0, rows / capacity) * (width + _ITEM_POINTER) + rows * _ROW_POINTER + padding


def _tree(leaf_bytes: float, fill: float, width: float) -> float:
    """Bytes of a new tree with that in its leaves: each has a high key, and inner pages point to it."""
    room = max(1000.0, _LEAF - PAGE * (1 - fill) - width)
    leaves = max(1.0, leaf_bytes / room)
    inner = leaves * (width + _ITEM_POINTER + 8) / (_LEAF * _INNER_FILL)
    return PAGE * (1 + math.ceil(leaves) + (math.ceil(inner * 1.02) if leaves > 1 else 0))


def columns_of(rows: Sequence[dict[str, object]]) -> tuple[Column, ...]:
    """Columns from rows of the catalogue."""
    return tuple(
        Column(
            length=_CSTRING if row["cstring"] else int(str(row["length"])),
            align=str(row["align"]),
            key=int(str(row["place"])) <= int(str(row["keys"])),
            width=None if row["width"] is None else float(str(row["width"])),
            nulls=float(str(row["nulls"] or 0)),
            distinct=None if row["distinct_values"] is None else float(str(row["distinct_values"])),
            common=tuple(row["common"] or ()),  # type: ignore[arg-type] # an array of floats
            by_image=bool(row["by_image"]),
        )
        for row in rows
    )
