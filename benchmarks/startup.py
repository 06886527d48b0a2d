"""What a command costs before it does anything."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks import databases
from benchmarks.harness import Comparison, Figures, Variant, compare
from benchmarks.place import Place, product

BUDGETS = {"dbupkeep --version": 0.060, "dbupkeep jobs": 0.250}
"""CPU seconds."""


def run(place: Place) -> Iterator[Comparison | Figures]:
    """Yield one comparison, and its CPU seconds against the budgets."""
    file = place.folder / "small.db"
    databases.make_big(file, 2_000_000)
    place.forget()
    commands = {
        "python3 -c pass": [sys.executable, "-c", "pass"],
        "python3, import apsw": [sys.executable, "-c", "import apsw"],
        "dbupkeep --version": product("--version"),
        "dbupkeep jobs": product("jobs"),
        "dbupkeep plan (one small file)": product("plan", str(file)),
        "dbupkeep run (one small file, nothing due)": product("run", str(file), "--operations", "vacuum", "--set", "vacuum.min_share=0.99"),
    }  # fmt: skip
    variants = [
        Variant(name=name, command=command, prepare=_nothing, check=_nothing, environment=place.environment)
        for name, command in commands.items()
    ]
    compared = compare("Start-up", variants, rounds=place.rounds or (20 if place.full else 5))
    yield compared
    rows = [(name, 1000 * compared.seconds(name, "cpu"), "ms CPU", 1000 * budget) for name, budget in BUDGETS.items()]
    yield Figures(title="Start-up against its budgets", rows=rows)


def _nothing() -> None:
    """Every start is the same."""
