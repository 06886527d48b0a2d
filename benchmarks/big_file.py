"""One big file: REINDEX and ANALYZE, against the sqlite3 command doing the same work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import databases
from benchmarks.harness import Comparison, Variant, compare, settle
from benchmarks.place import Place, bare, product, shell

LIMIT = "PRAGMA analysis_limit = 400"

ABOUT = "One file of {size:,} bytes with 6 tables and 18 indexes, of which {free:.0%} is free; {mode}, page cache warm."


def run(place: Place) -> Iterator[Comparison]:
    """Yield a comparison for each operation."""
    prepared = place.folder / "prepared.db"
    databases.make_big(prepared, 1_000_000_000 if place.full else 100_000_000)
    rounds = place.rounds or 5
    about = ABOUT.format(size=prepared.stat().st_size, free=databases.free_share(prepared), mode="rollback journal")
    yield compare("REINDEX of one big file", reindex(place, prepared), rounds=rounds, note=about + REINDEX)
    yield compare("ANALYZE of one big file, limit 400", analyze(place, prepared), rounds=rounds, note=about + ANALYZE)


REINDEX = (
    " One row is missing in each index before, and none afterwards. dbupkeep checks each table after its indexes are"
    " rebuilt, so the same work of the command includes `PRAGMA integrity_check`."
)
ANALYZE = (
    " Other work where the library is built with STAT4, as that of dbupkeep is: with a limit it writes no samples either,"
    " but it counts every index exactly (reading all of its leaf pages), where a library without STAT4 guesses."
)


def reindex(place: Place, prepared: Path) -> Sequence[Variant]:
    """Every index is complete again."""
    check = "PRAGMA integrity_check"
    return variants(
        place,
        prepared,
        {
            "sqlite3 REINDEX": lambda file: shell(file, "REINDEX"),
            "sqlite3 REINDEX; integrity_check": lambda file: shell(file, "REINDEX", check),
            "dbupkeep run --operations reindex": lambda file: run_of(file, "reindex"),
            "bare apsw REINDEX": lambda file: bare(file, "REINDEX"),
            "bare apsw REINDEX; integrity_check": lambda file: bare(file, "REINDEX", check),
        },
        check=databases.check_reindexed,
        spoil=databases.plant,
    )


def analyze(place: Place, prepared: Path) -> Sequence[Variant]:
    """There are statistics."""
    return variants(
        place,
        prepared,
        {
            "sqlite3 ANALYZE": lambda file: shell(file, LIMIT, "ANALYZE"),
            "dbupkeep run --operations analyze": lambda file: run_of(file, "analyze"),
            "bare apsw ANALYZE": lambda file: bare(file, LIMIT, "ANALYZE"),
            "sqlite3 ANALYZE without a limit": lambda file: shell(file, "ANALYZE"),
        },
        check=databases.check_analyzed,
    )


def run_of(file: Path, operations: str, *, force: bool = True) -> list[str]:
    """Our command for these operations."""
    return product("run", str(file), "--operations", operations, *(["--force"] if force else []))


def variants(
    place: Place,
    prepared: Path,
    commands: dict[str, Callable[[Path], list[str]]],
    *,
    check: Callable[[Path], None],
    spoil: Callable[[Path], None] | None = None,
) -> list[Variant]:
    """Variants of work on a fresh copy, which `check` looks at afterwards."""
    file = place.folder / "work.db"

    def prepare() -> None:
        place.forget()
        databases.copy(prepared, file)
        if spoil:
            spoil(file)
        settle(file)

    return [
        Variant(
            name=name, command=make(file), prepare=prepare, check=lambda: check(file), environment=place.environment
        )
        for name, make in commands.items()
    ]
