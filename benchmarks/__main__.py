"""`python -m benchmarks [NAME...]`: run benchmarks, print their tables, and keep them in benchmarks/results."""

from __future__ import annotations

import argparse
import compileall
import json
import os
import tempfile
from importlib import import_module
from pathlib import Path

import dbupkeep
from benchmarks import machine
from benchmarks.place import Place

NAMES = ("tracking", "startup", "big_file", "big_vacuum", "fleet", "handlers", "postgresql", "many_tables", "service")
RESULTS = Path(__file__).with_name("results")
PACKAGE = Path(dbupkeep.__file__).parent


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(NAMES)}; all when left out")
    parser.add_argument(
        "--size", choices=("small", "full"), default="small", help="full is what results are quoted for"
    )
    parser.add_argument("--rounds", type=int, help="how often each variant runs")
    parser.add_argument(
        "--folder", type=Path, help="work there (a disk with a few GB); a temporary folder when left out"
    )
    asked = parser.parse_args()
    unknown = set(asked.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    compileall.compile_dir(PACKAGE, quiet=1)  # as an installed one is
    for name in asked.names or NAMES:
        with tempfile.TemporaryDirectory(prefix="dbupkeep-bench-", dir=asked.folder) as folder:
            place = Place(folder=Path(folder), full=asked.size == "full", rounds=asked.rounds)
            benchmark(name, place, asked.size)


def benchmark(name: str, place: Place, size: str) -> None:
    """Run one, print it, and keep it; a small run is only printed."""
    found = {**machine.facts(), "size": size}
    title = f"# {name.replace('_', ' ')}, {size}\n\n{machine.line(found)}\n"
    print(title)
    lines, documents = [title], []
    for result in import_module(f"benchmarks.{name}").run(place):
        text = "\n".join(result.lines())
        print(text, flush=True)
        lines.append(text)
        documents.append(result.document())
    found["load_after"] = round(os.getloadavg()[0], 2)
    if place.full:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")
        (RESULTS / f"{name}.json").write_text(
            json.dumps({**found, "results": documents}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
