"""VACUUM of one big file, in both families of journal modes and with what goes with it, against the sqlite3 command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from benchmarks import databases
from benchmarks.big_file import ABOUT, LIMIT, run_of, variants
from benchmarks.harness import Comparison, Variant, compare
from benchmarks.place import Place, bare, shell


def run(place: Place) -> Iterator[Comparison]:
    """Yield a comparison for the rollback journal, one for WAL, and one of all three default operations."""
    prepared = place.folder / "prepared.db"
    databases.make_big(prepared, 1_000_000_000 if place.full else 100_000_000)
    rounds = place.rounds or 5
    for mode, name in (("wal", "WAL"), ("delete", "rollback journal")):
        connection = apsw.Connection(str(prepared))
        connection.pragma("journal_mode", mode)
        connection.close()
        about = ABOUT.format(size=prepared.stat().st_size, free=databases.free_share(prepared), mode=name)
        yield compare(f"VACUUM, {name}", vacuum(place, prepared), rounds=rounds, note=about + METHODS)
    yield compare("All three", everything(place, prepared), rounds=rounds, note=about + ALL)


METHODS = (
    " dbupkeep writes a new file, checks it with `quick_check` and puts it in the place of the old one, since nobody else has that"
    " open; in place it does what the command does."
)


ALL = (
    " dbupkeep skips REINDEX, since VACUUM writes every index anew; the peer is the same work, and what a script that"
    " does all three would take is given beside it."
)


def vacuum(place: Place, prepared: Path) -> Sequence[Variant]:
    """The file shrinks."""
    size = prepared.stat().st_size
    in_place = ("--set", "vacuum.new_file=false")
    return variants(
        place,
        prepared,
        {
            "sqlite3 VACUUM": lambda file: shell(file, "VACUUM"),
            "dbupkeep run --operations vacuum": lambda file: run_of(file, "vacuum"),
            "the same, in place": lambda file: [*run_of(file, "vacuum"), *in_place],
            "bare apsw VACUUM": lambda file: bare(file, "VACUUM"),
        },
        check=lambda file: databases.check_vacuumed(file, size),
    )


def everything(place: Place, prepared: Path) -> Sequence[Variant]:
    """It is small, and has statistics."""
    size = prepared.stat().st_size

    def check(file: Path) -> None:
        databases.check_vacuumed(file, size)
        databases.check_analyzed(file)

    return variants(
        place,
        prepared,
        {
            "sqlite3 VACUUM; ANALYZE": lambda file: shell(file, "VACUUM", LIMIT, "ANALYZE"),
            "dbupkeep run": lambda file: run_of(file, "vacuum,analyze,reindex", force=False),
            "sqlite3 VACUUM; REINDEX; ANALYZE": lambda file: shell(file, "VACUUM", "REINDEX", LIMIT, "ANALYZE"),
            "bare apsw VACUUM; ANALYZE": lambda file: bare(file, "VACUUM", LIMIT, "ANALYZE"),
        },
        check=check,
    )
