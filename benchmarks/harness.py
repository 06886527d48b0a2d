"""Runs variants of the same work side by side: interleaved, in rotating order, each from the same untimed start.

Only ratios count. Each is taken inside a round (variant / peer, both run within seconds of each other), and the median
over rounds is given with its range. A variant that did other work than it says stops the benchmark.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one run took: seconds of wall clock, and of CPU in it and all its children."""

    wall: float
    cpu: float


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to do the work."""

    name: str
    command: Sequence[str]
    prepare: Callable[[], None]  # untimed: the same start for each
    check: Callable[[], None]  # untimed: raises when the work was not done
    environment: Mapping[str, str] = field(default_factory=dict)
    exits: Sequence[int] = (0,)  # codes that mean success


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All rounds of one piece of work; the first variant is the peer."""

    title: str
    rounds: Sequence[Mapping[str, Cost]]
    note: str = ""

    @property
    def names(self) -> list[str]:
        """The variants, peer first."""
        return list(self.rounds[0])

    def ratios(self, name: str, of: str = "wall") -> list[float]:
        """Variant / peer inside each round."""
        peer = self.names[0]
        return [float(getattr(each[name], of) / max(1e-9, getattr(each[peer], of))) for each in self.rounds]

    def seconds(self, name: str, of: str = "wall") -> float:
        """The median."""
        return float(statistics.median(getattr(each[name], of) for each in self.rounds))

    def document(self) -> dict[str, object]:
        """For the JSON file."""
        return {
            "title": self.title,
            "note": self.note,
            "rounds": len(self.rounds),
            "variants": [
                {
                    "name": name,
                    **{
                        f"{of}_{key}": value
                        for of in ("wall", "cpu")
                        for key, value in (
                            ("seconds", round(self.seconds(name, of), 4)),
                            ("ratio", round(statistics.median(self.ratios(name, of)), 3)),
                            ("ratio_range", [round(edge(self.ratios(name, of)), 3) for edge in (min, max)]),
                        )
                    },
                }
                for name in self.names
            ],
        }

    def lines(self) -> list[str]:
        """A Markdown table."""
        out = [
            f"### {self.title}",
            "",
            *([self.note, ""] if self.note else []),
            f"| {len(self.rounds)} rounds | wall ratio | CPU ratio | wall s | CPU s |",
            "|---|---|---|---|---|",
        ]
        for name in self.names:
            row = [_ratio(self.ratios(name, of)) for of in ("wall", "cpu")]
            row += [f"{self.seconds(name, of):.3f}" for of in ("wall", "cpu")]
            shown = name.replace("|", r"\|")  # a pipe of a shell is no column of a table
            out.append(f"| {shown} | {' | '.join(row)} |")
        return [*out, ""]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Numbers that have no peer, each with its budget where there is one."""

    title: str
    rows: Sequence[tuple[str, float, str, float | None]]  # what, value, unit, budget
    note: str = ""

    def document(self) -> dict[str, object]:
        """For the JSON file."""
        rows = [dict(zip(("what", "value", "unit", "budget"), row, strict=True)) for row in self.rows]
        return {"title": self.title, "note": self.note, "figures": rows}

    def lines(self) -> list[str]:
        """A Markdown table."""
        out = [f"### {self.title}", "", *([self.note, ""] if self.note else [])]
        out += ["| what | measured | budget | |", "|---|---|---|---|"]
        for what, value, unit, budget in self.rows:
            verdict = "" if budget is None else ("met" if value < budget else "**missed**")
            out.append(
                f"| {what} | {value:.3g} {unit} | {'' if budget is None else f'{budget:g} {unit}'} | {verdict} |"
            )
        return [*out, ""]


def compare(title: str, variants: Sequence[Variant], *, rounds: int, note: str = "") -> Comparison:
    """Run all variants once a round; each round begins with another one. A first, untimed run warms each up."""
    for variant in variants:
        _measure(variant)
    done = []
    for number in range(rounds):
        turn = number % len(variants)
        costs = {variant.name: _measure(variant) for variant in (*variants[turn:], *variants[:turn])}
        done.append({variant.name: costs[variant.name] for variant in variants})
    return Comparison(title=title, rounds=done, note=note)


def _measure(variant: Variant) -> Cost:
    variant.prepare()
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            variant.command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={**os.environ, **variant.environment},
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in variant.exits:
            said.seek(0)
            raise SystemExit(f"{variant.name} ended with {process.returncode}:\n{said.read().decode()[-2000:]}")
    try:
        variant.check()
    except AssertionError as error:
        raise SystemExit(f"{variant.name} did other work than it says: {error}") from error
    return Cost(wall=wall, cpu=used.ru_utime + used.ru_stime)


def settle(*paths: Path) -> None:
    """Have everything written back, and these files in the page cache."""
    os.sync()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def _ratio(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
