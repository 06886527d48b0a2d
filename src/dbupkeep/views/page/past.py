"""What past operations add up to: bytes given back by each run, sizes over time, how right predictions were. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from msgspec import Struct

from dbupkeep.estimates import Measurement
from dbupkeep.jobs import Job
from dbupkeep.operations import Operation
from dbupkeep.views import words
from dbupkeep.views.pictures.gains import Bar
from dbupkeep.views.pictures.scatter import Point
from dbupkeep.views.pictures.sparkline import sparkline
from dbupkeep.views.pictures.svg import Svg

DAY = 86400.0

REWRITES = (Operation.VACUUM, Operation.OPTIMIZE)
"""Operations that give space back, so that its coming back can be seen."""

SHORTEST = 0.001
"""Seconds; what is shorter says nothing of a prediction."""


class Tally(Struct, frozen=True, kw_only=True):
    """One run, and what came of it."""

    run: Job
    gained: int
    total: int | None  # bytes of all that was ever maintained, then; before its first time as big as at that time

    def bar(self, href: str, *, days: bool) -> Bar:
        """For the picture; labelled by its day, or else by its time."""
        at = (self.run.started_at or self.run.created_at).astimezone()
        total = f"{words.size(self.total)} in all then" if self.total is not None else ""
        note = words.listed(
            [words.name(self.run.name), f"{at:%a %d %b %H:%M}", f"{words.size(self.gained)} given back", total]
        )
        return Bar(
            label=f"{at:%d %b}" if days else f"{at:%H:%M}", note=note, gained=self.gained, total=self.total, href=href
        )


class Regrowth(Struct, frozen=True, kw_only=True):
    """How fast what was given back is taken again."""

    target: str
    object: str
    each_day: float  # bytes
    days: float | None  # until the last gain is gone again; None where it does not come back
    size: int  # bytes, after the last time
    sizes: Sequence[tuple[float, float]]  # (seconds, bytes), before and after each time

    @property
    def name(self) -> str:
        """What people call it."""
        return " ".join(filter(None, (words.place(self.target), self.object)))

    @property
    def picture(self) -> Svg:
        """Its size over time."""
        return sparkline(self.sizes, title=f"size of {self.name}")


def tallies(runs: Iterable[Job], samples: Sequence[Measurement], gained: Callable[[Job], int]) -> Sequence[Tally]:
    """The runs in the order of their ends, each with what it gave back, and how big all was then.

    `samples` are of any order; what runs go on are left out, and so are those that ended before the oldest sample.
    """
    oldest_first = sorted(samples, key=lambda sample: sample.at)
    if not oldest_first:
        return []
    sizes, found, done = _first_sizes(oldest_first), list[Tally](), 0
    ended = [run for run in runs if run.finished_at and run.finished_at >= oldest_first[0].at]
    for run in sorted(ended, key=_end):
        while done < len(oldest_first) and oldest_first[done].at <= _end(run):
            sample = oldest_first[done]
            if (sample.target, sample.object) in sizes and _counts(sample):
                sizes[sample.target, sample.object] = sample.bytes_after
            done += 1
        found.append(Tally(run=run, gained=gained(run), total=sum(sizes.values()) if sizes else None))
    return found


def gained_on(samples: Iterable[Measurement], target: str) -> Callable[[Job], int]:
    """What a run gave back on one database, as far as was measured while it went on."""
    own = [sample for sample in samples if sample.target == target]
    return lambda run: sum(sample.gain for sample in own if _start(run) <= sample.at <= _end(run))


def points(samples: Iterable[Measurement], *, of: str) -> Sequence[Point]:
    """Predicted against actual `seconds` or `bytes`, where both are known."""
    found = []
    for sample in samples:
        predicted, actual = (
            (sample.predicted_seconds, sample.seconds) if of == "seconds" else (sample.predicted_gain, sample.gain)
        )
        least = SHORTEST if of == "seconds" else 1
        if predicted is not None and predicted >= least and actual >= least:
            found.append(_point(sample, float(predicted), float(actual), of))
    return found


def off_by(found: Sequence[Point]) -> float | None:
    """By which factor half of the predictions were wrong at most."""
    wrong = sorted(max(point.predicted / point.actual, point.actual / point.predicted) for point in found)
    return wrong[len(wrong) // 2] if wrong else None


def regrowths(samples: Iterable[Measurement]) -> Sequence[Regrowth]:
    """What grows back, fastest first: of everything that was rewritten at least twice."""
    by_object: dict[tuple[str, str], list[Measurement]] = {}
    for sample in sorted(samples, key=lambda each: each.at):
        if sample.operation in REWRITES:
            by_object.setdefault((sample.target, sample.object), []).append(sample)
    found = [_regrowth(times) for times in by_object.values() if len(times) > 1]
    return sorted((each for each in found if each.each_day > 0), key=lambda each: -each.each_day)


def _regrowth(times: Sequence[Measurement]) -> Regrowth:
    grown = sum(max(0, after.bytes_before - before.bytes_after) for before, after in pairwise(times))
    passed = (times[-1].at - times[0].at).total_seconds() / DAY
    each_day = grown / passed if passed > 0 else 0.0
    last_gain = times[-1].gain
    return Regrowth(
        target=times[-1].target,
        object=times[-1].object,
        each_day=each_day,
        days=last_gain / each_day if each_day > 0 and last_gain > 0 else None,
        size=times[-1].bytes_after,
        sizes=list(_sizes(times)),
    )


def _sizes(times: Iterable[Measurement]) -> Iterator[tuple[float, float]]:
    for sample in times:
        at = sample.at.timestamp()
        yield at - sample.seconds, float(sample.bytes_before)
        yield at, float(sample.bytes_after)


def _point(sample: Measurement, predicted: float, actual: float, of: str) -> Point:
    told = words.duration if of == "seconds" else words.size
    name = " ".join(filter(None, (sample.operation.value, words.place(sample.target), sample.object)))
    note = words.listed(
        [
            words.name(name),
            f"predicted {told(predicted)}",
            f"took {told(actual)}" if of == "seconds" else f"gave back {told(actual)}",
        ]
    )
    return Point(predicted=predicted, actual=actual, kind=sample.operation.value, note=note)


def _first_sizes(oldest_first: Iterable[Measurement]) -> dict[tuple[str, str], int]:
    """How big everything was before it was first worked on, so that the sum does not grow by what comes to be known."""
    sizes: dict[tuple[str, str], int] = {}
    whole = set()
    for sample in oldest_first:
        if _counts(sample):
            sizes.setdefault((sample.target, sample.object), sample.bytes_before)
            whole |= {sample.target} if not sample.object else set()
    return {(target, object): size for (target, object), size in sizes.items() if not object or target not in whole}


def _counts(sample: Measurement) -> bool:
    """Whether its bytes are those of a database, or else of a table with all that belongs to it."""
    return not sample.object or sample.operation in REWRITES


def _start(run: Job) -> datetime:
    return run.started_at or run.created_at


def _end(run: Job) -> datetime:
    return run.finished_at or _start(run)
