"""What a crowd that looks at the service costs the workers: claims with nobody there, and with streams and a flood."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Figures
from benchmarks.place import Place, product
from benchmarks.tracking import NoEngine, timed
from dbupkeep.app import App
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.operations import Operation

STREAMS = 200
ASKING = 8
"""Connections that ask again as soon as they are answered."""

TOKEN = "a-token-of-a-benchmark-of-no-use"  # noqa: S105 - of a service that is gone in a minute

ABOUT = (
    "One worker process, 1,000 children whose work is nothing a run, and a service with API and page in a process of its own, on the"
    f" same ledger. In turns: nobody looks; {STREAMS} event streams; the streams and {ASKING} connections that ask as fast as they"
    " are answered. The crowd, which would be on other machines, runs on this one at the lowest priority. A claim is all between the end of one job and the"
    " begin of the next; ratios are taken inside a round."
)


@dataclass(frozen=True, kw_only=True)
class Round:
    """The 99th percentiles of claims in milliseconds, and what the crowd saw."""

    quiet: float
    streams: float
    flood: float
    wall: Mapping[str, float]
    seen: Mapping[str, Any]


def run(place: Place) -> Iterator[Figures]:
    """Yield one table."""
    place.forget()
    place.state.mkdir(parents=True)
    count = 1000 if place.full else 300
    environment = {**os.environ, **place.environment, "DBUPKEEP_TOKEN": TOKEN}
    with _service(place, environment) as url:
        rounds = [_round(place, url, environment, count) for _ in range(place.rounds or (5 if place.full else 2))]
    yield Figures(title=f"Claims while {STREAMS} streams and a flood look on", rows=_rows(rounds), note=ABOUT)


def _rows(rounds: list[Round]) -> list[tuple[str, float, str, float | None]]:
    def median(values: list[float]) -> float:
        return statistics.median(values)

    flood = [each.seen["answers"] for each in rounds]
    return [
        ("claim, 99th percentile, nobody looks", median([each.quiet for each in rounds]), "ms", None),
        ("the same, 200 streams", median([each.streams for each in rounds]), "ms", None),
        ("the same, 200 streams and the flood", median([each.flood for each in rounds]), "ms", None),
        ("ratio, streams", median([each.streams / each.quiet for each in rounds]), "", 2),
        ("ratio, streams and flood", median([each.flood / each.quiet for each in rounds]), "", 2),
        ("its highest of the rounds", max(each.flood / each.quiet for each in rounds), "", None),
        ("wall clock of a run, ratio with the flood", median([each.wall["flood"] / each.wall["quiet"] for each in rounds]), "", None),
        ("answers 200 a round of the flood", median([float(each.get("200", 0)) for each in flood]), "", None),
        ("answers 429 a round of the flood", median([float(each.get("429", 0)) for each in flood]), "", None),
        ("events that a stream got a round", median([each.seen["events"] / STREAMS for each in rounds]), "", None),
    ]  # fmt: skip


def _round(place: Place, url: str, environment: Mapping[str, str], count: int) -> Round:
    wall: dict[str, float] = {}

    def late(name: str) -> float:
        began = time.perf_counter()
        claims = _claims(place, count)
        wall[name] = time.perf_counter() - began
        return 1000 * sorted(claims)[len(claims) * 99 // 100]

    quiet = late("quiet")
    with _crowd(url, environment, asking=0):
        streams = late("streams")
    with _crowd(url, environment, asking=ASKING) as seen:
        flood = late("flood")
    assert seen["broken"] == 0, f"{seen['broken']} of the crowd's connections broke"
    assert seen["events"] >= STREAMS * count, f"the streams got {seen['events']} events"
    return Round(quiet=quiet, streams=streams, flood=flood, wall=wall, seen=seen)


def _claims(place: Place, count: int) -> list[float]:
    engine = NoEngine(count=count, operations={Operation.VACUUM: "nothing"}, defaults={})
    app = App(str(place.state / "ledger.db"), load_engine=lambda _: engine, isolate=False)  # type: ignore[arg-type, return-value]
    claims = timed(app)
    step = Step(name="nothing", targets=(Target(name="x", url="none://x", parallel=8),), operations=(Operation.VACUUM,))
    app.databases.create_parent_job(step, JobDefinition(name="x", steps=(step,)))
    app.drain()
    app.close()
    return claims


@contextmanager
def _service(place: Place, environment: Mapping[str, str]) -> Iterator[str]:
    command = product("serve", "--workers", "0", "--port", "0", "--ledger", str(place.state / "ledger.db"))
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://\S+", line):
                break
        else:
            raise SystemExit("the service did not tell its address")
        try:
            yield found[0]
        finally:
            process.terminate()


@contextmanager
def _crowd(url: str, environment: Mapping[str, str], *, asking: int) -> Iterator[dict[str, Any]]:
    command = ["nice", "-n", "19", sys.executable, "-m", "benchmarks.crowd", url, str(STREAMS), str(asking)]
    seen: dict[str, Any] = {}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the crowd did not come in"
        try:
            yield seen
        finally:
            process.stdin.write("\n")
            process.stdin.flush()
            seen.update(json.loads(process.stdout.readline()))
