"""VACUUM of one big file, in both families of journal modes, against the sqlite3 command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from benchmarks import databases
from benchmarks.big_file import ABOUT, run_of, variants
from benchmarks.harness import Comparison, Variant, compare
from benchmarks.place import Place, bare, shell


def run(place: Place) -> Iterator[Comparison]:
    """Yield a comparison for the rollback journal and one for WAL."""
    prepared = place.folder / "prepared.db"
    databases.make_big(prepared, 1_000_000_000 if place.full else 100_000_000)
    for mode, name in (("delete", "rollback journal"), ("wal", "WAL")):
        connection = apsw.Connection(str(prepared))
        connection.pragma("journal_mode", mode)
        connection.close()
        note = ABOUT.format(size=prepared.stat().st_size, free=databases.free_share(prepared), mode=name)
        yield compare(
            f"VACUUM of one big file, {name}", vacuum(place, prepared), rounds=place.rounds or 7, note=note + METHODS
        )


METHODS = (
    " dbupkeep writes a new file, checks it with `quick_check` and puts it in the place of the old one, since nobody else has that"
    " open; in place it does what the command does."
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
