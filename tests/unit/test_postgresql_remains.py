from __future__ import annotations

from typing import Any

import pytest

from dbupkeep.engines.postgresql import bloat, blockers, heap
from dbupkeep.engines.postgresql.progress import of_reindex, of_rewrite
from dbupkeep.engines.postgresql.remains import Intent, intents, is_copy_of, is_marked, label_of, ours
from dbupkeep.plans import Source

INTENT = Intent(index=10, relation=1, name="public.t_k", invalid=(20,), bytes=8192)


def row(oid: int, name: str) -> dict[str, Any]:
    return {"oid": oid, "name": name, "schema": "public", "relation": 1, "comment": None}


# --- what is ours ---


@pytest.mark.parametrize(
    ("name", "base", "copy"),
    [
        ("t_k_ccnew", "t_k", True),
        ("t_k_ccold12", "t_k", True),
        ("t_k_ccnew", "t", False),
        ("other_ccnew", "t_k", False),
        ("t_k_ccnewer", "t_k", False),
        ("t_k", "t_k", False),
        ("x" * 57 + "_ccnew", "x" * 63, True),
        ("x" * 56 + "_ccnew1", "x" * 63, True),
        ("é" * 28 + "_ccnew", "é" * 31, True),
        ("x" * 20 + "_ccnew", "x" * 63, False),
        ("new\nline_ccnew", "new\nline", True),
    ],
)
def test_names_of_copies(name: str, base: str, copy: bool) -> None:
    assert is_copy_of(name, base) is copy
    assert bool(label_of(name)) or not copy


def test_what_was_there_before_is_never_ours() -> None:
    assert ours([row(20, "t_k_ccnew")], INTENT) == []
    assert ours([row(20, "t_k_ccnew")], INTENT, seen=20) == []


def test_the_only_new_copy_is_ours_and_of_several_only_the_one_that_was_seen() -> None:
    first, second = row(30, "t_k_ccnew1"), row(31, "t_k_ccnew2")
    assert ours([first], INTENT) == [first]
    assert ours([first, second], INTENT) == []
    assert ours([first, second], INTENT, seen=31) == [second]


def test_a_new_index_of_another_name_is_not_ours() -> None:
    assert ours([row(30, "another"), row(31, "t_a_ccnew")], INTENT) == []


def test_the_old_index_is_ours_once_another_has_its_name() -> None:
    old = row(10, "t_k_ccold")
    assert ours([old], INTENT) == [old]
    assert ours([row(10, "t_k")], INTENT) == [], "it is still the index"


def test_notes_of_another_index_or_of_nothing_are_passed_over() -> None:
    assert intents([INTENT.text(), "", "{}", '{"rebuild": 3}', INTENT.text().replace("t_k", "t_a")], "public.t_k") == [
        INTENT
    ]


def test_only_our_own_mark_counts() -> None:
    assert is_marked({"comment": "dbupkeep: an unfinished copy"})
    assert not is_marked({"comment": "made by dbupkeep"})
    assert not is_marked({"comment": None})


# --- who is in the way ---


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT * FROM t WHERE name = 'O''Hara'", "SELECT * FROM t WHERE name = '...'"),
        ("ALTER ROLE app PASSWORD 'hunter2'", "ALTER ROLE app"),
        ("SELECT $tag$hunter2$tag$", "SELECT '...'"),
        ("SELECT 'hunter2", "SELECT '...'"),
        ("SELECT\n  1", "SELECT 1"),
        ("SELECT " + "x" * 200, "SELECT " + "x" * 73 + "..."),
    ],
)
def test_no_values_of_others_are_shown(query: str, shown: str) -> None:
    assert blockers.redacted(query) == shown


def test_locks_are_waited_for_by_their_tables_and_snapshots_by_all() -> None:
    snapshot = {"snapshot": True, "relations": None}
    locks = {"snapshot": False, "relations": [7]}
    assert blockers.in_the_way([snapshot, locks], [8]) == [snapshot]
    assert blockers.in_the_way([snapshot, locks], [8, 7]) == [snapshot, locks]


# --- what a rebuild would make of it ---


def column(**values: Any) -> bloat.Column:
    known = {
        "length": 4, "align": "i", "key": True, "width": 4, "nulls": 0.0, "distinct": -1.0, "common": (), "by_image": True,
    }  # fmt: skip
    return bloat.Column(**{**known, **values})


def index(**values: Any) -> bloat.Index:
    known = {
        "bytes": 10 << 20, "rows": 100_000, "dead": 0, "fill": 0.9, "unique": False, "deduplicates": True,
        "columns": (column(),),
    }  # fmt: skip
    return bloat.Index(**{**known, **values})


def test_an_estimate_that_is_too_wide_is_none() -> None:
    guess = bloat.Predicted(least=1000, most=5000, source=Source.ESTIMATED, how="")
    assert guess.gain(10_000) is None
    assert guess.gain(100_000) == pytest.approx(0.97)
    assert bloat.unknown("").gain(10_000) is None


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"rows": -1}, "never analyzed"),
        ({"stale": True}, "old"),
        ({"columns": (column(length=-1, width=None),)}, "no statistics"),
        ({"columns": (column(length=-2),)}, "name"),
        ({"columns": (column(distinct=None),)}, "no statistics"),
    ],
)
def test_without_statistics_it_is_unknown_and_says_why(values: dict[str, Any], why: str) -> None:
    guess = bloat.by_statistics(index(**values))
    assert guess.gain(10 << 20) is None
    assert why in guess.how


def test_columns_that_may_go_together_are_unknown() -> None:
    pair = (column(distinct=200.0), column(distinct=200.0))
    assert bloat.by_statistics(index(bytes=2_500_000, columns=pair)).gain(2_500_000) is None
    assert bloat.by_statistics(index(bytes=2_500_000, columns=pair, unique=True)).gain(2_500_000) is not None


def test_pages_tell_of_emptiness_that_density_does_not() -> None:
    """90 % dense, and yet a rebuild gives most of it back: the rest of the pages is empty or deleted."""
    pages = bloat.Pages(bytes=10 << 20, leaves=250, empty=0, deleted=1000, density=0.9)
    gain = bloat.by_pages(index(unique=True), pages).gain(10 << 20)
    assert gain is not None
    assert gain > 0.7


def test_a_size_of_the_past_is_scaled_by_rows_and_small_ones_say_nothing() -> None:
    guess = bloat.by_history(2000, bytes_then=1 << 20, rows_then=1000)
    assert guess is not None
    assert guess.least == guess.most == 2 << 20
    assert bloat.by_history(2000, bytes_then=1000, rows_then=1000) is None
    assert bloat.by_history(2000, bytes_then=1 << 20, rows_then=0) is None


def test_a_table_is_estimated_like_an_index() -> None:
    columns = [
        {"length": 4, "align": "i", "width": 4, "nulls": 0},
        {"length": -1, "align": "i", "width": 101, "nulls": 0},
    ]
    known = {
        "rows": 10_000, "live": 10_000, "dead": 0, "modified": 0, "inserted": 0, "options": None, "main_bytes": 4 << 20,
    }  # fmt: skip
    gain, how = heap.estimate(known, columns)
    assert gain == pytest.approx(1 - 8192 * 173 / (4 << 20), abs=0.01)
    assert how == "by statistics"
    assert heap.estimate({**known, "modified": 5000}, columns)[0] is None
    assert heap.estimate({**known, "rows": -1}, columns)[0] is None


# --- progress ---


def test_a_rebuild_never_goes_back_from_phase_to_phase() -> None:
    phases = [
        "waiting for writers before build", "building index: scanning table", "building index: loading tuples in tree",
        "waiting for writers before validation", "index validation: scanning index", "index validation: scanning table",
        "waiting for old snapshots", "waiting for readers before marking dead", "waiting for readers before dropping",
    ]  # fmt: skip
    seen = []
    for phase in phases:
        for done in (0, 50, 100):
            progress = of_reindex({
                "phase": phase, "blocks_total": 100, "blocks_done": done, "tuples_total": 100, "tuples_done": done,
                "lockers_total": 3, "lockers_done": 1,
            })  # fmt: skip
            assert progress.source is Source.ESTIMATED
            seen.append(progress.fraction or 0.0)
    assert seen == sorted(seen)
    assert seen[-1] < 1


def test_a_phase_that_nobody_counts_has_no_fraction() -> None:
    assert of_reindex({"phase": "initializing"}).fraction is None
    assert (
        of_rewrite({"phase": "swapping relation files", "heap_blks_total": 10, "heap_blks_scanned": 10}).fraction
        is None
    )
    assert of_rewrite({"phase": "seq scanning heap", "heap_blks_total": 10, "heap_blks_scanned": 5}).fraction == 0.475
