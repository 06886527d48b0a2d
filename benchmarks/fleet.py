"""A folder of small files: all due, one in twenty due, none due, against find and xargs with the sqlite3 command."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import databases
from benchmarks.harness import Comparison, Variant, compare, settle
from benchmarks.place import Place, product

LOOK = "PRAGMA page_count; PRAGMA freelist_count"


def run(place: Place) -> Iterator[Comparison]:
    """Yield a comparison for each share of due files."""
    count = 1000 if place.full else 100
    rounds = place.rounds or 5
    for title, bloated in (("all", 1.0), ("one in twenty", 0.05)):
        prepared = place.folder / f"fleet-{bloated}"
        databases.make_fleet(prepared, count, bloated=bloated)
        note = _about(prepared)
        yield compare(f"VACUUM in a folder, {title} due", due(place, prepared, bloated), rounds=rounds, note=note)
    shutil.rmtree(place.folder / "work", ignore_errors=True)
    for number in (count, 10 * count):
        prepared = place.folder / f"fleet-none-{number}"
        databases.make_fleet(prepared, number, bloated=0.0)
        title = f"{number:,} files, none due"
        yield compare(title, idle(place, prepared), rounds=rounds, note=_about(prepared))


def due(place: Place, prepared: Path, share: float) -> Sequence[Variant]:
    """The peer rewrites every file; dbupkeep those of which a quarter is free."""
    folder = place.folder / "work"
    bloated = {path.name for path in prepared.iterdir() if databases.free_share(path) >= 0.25}
    assert len(bloated) == round(share * len(list(prepared.iterdir()))), f"{len(bloated)} files are due"

    def prepare() -> None:
        place.forget()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(prepared, folder)
        settle(*folder.iterdir())

    def check() -> None:
        for path in folder.iterdir():
            assert path.name not in bloated or not databases.free_share(path), f"{path.name} was not rewritten"
        for path in sorted(folder.iterdir())[:20]:
            databases.check_sound(path)

    return _variants(
        place,
        {
            "find | xargs -P2 sqlite3 VACUUM": _xargs(folder, "sqlite3 {} VACUUM"),
            "dbupkeep run --operations vacuum": product(*_ask(folder, "vacuum")),
        },
        prepare,
        check,
    )


def idle(place: Place, folder: Path) -> Sequence[Variant]:
    """Nobody writes anything."""
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    settle(*before)

    def check() -> None:
        assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before, "a file was changed"

    look = _xargs(folder, f"sqlite3 -readonly {{}} '{LOOK}'")
    return _variants(
        place,
        {
            "find | xargs -P2 sqlite3, two pragmas": look,
            "dbupkeep run --operations vacuum": product(*_ask(folder, "vacuum")),
            "dbupkeep run (all three)": product(*_ask(folder, "vacuum,analyze,reindex")),
        },
        place.forget,
        check,
    )


def _ask(folder: Path, operations: str) -> list[str]:
    """The default threshold of a quarter; without the one of 16 pages, so that the smallest files are due too."""
    found = [str(folder), "--pattern", "*.db"]
    return ["run", *found, "--operations", operations, "--set", "vacuum.fleet_min_pages=1"]


def _variants(
    place: Place, commands: dict[str, list[str]], prepare: Callable[[], None], check: Callable[[], None]
) -> list[Variant]:
    return [
        Variant(name=name, command=command, prepare=prepare, check=check, environment=place.environment)
        for name, command in commands.items()
    ]


def _xargs(folder: Path, command: str) -> list[str]:
    return ["sh", "-c", f"find {folder} -name '*.db' -print0 | xargs -0 -P2 -I{{}} {command}"]


def _about(folder: Path) -> str:
    sizes = [path.stat().st_size for path in folder.iterdir()]
    return (
        f"{len(sizes):,} files of {min(sizes):,} to {max(sizes):,} bytes, {sum(sizes) // len(sizes):,} in the mean; page"
        " cache warm. The whole command is timed: start-up, ledger and report included."
    )
