"""History to expectation: how long, how much space given back, and where each number comes from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property

from msgspec import Struct, field
from msgspec.structs import replace

from dbupkeep.facts import Value
from dbupkeep.operations import Operation
from dbupkeep.plans import Source

RECENT = 5
"""How many past runs an estimate looks at: enough for a median, few enough to follow a changed machine."""


OF_MEMBERS = "of_members"
"""The value of a group's measurement that holds those of its members, by name, as JSON.

As far as they are known, `before` and `bytes` are the sizes before and after, and `predicted` is the predicted gain.
"""


class Measurement(Struct, frozen=True, kw_only=True):
    """What one finished operation took and gave. Kept when its job is pruned."""

    at: datetime
    engine: str
    target: str
    object: str
    operation: Operation
    method: str
    seconds: float
    work_bytes: int  # what the time is spent on: bytes rewritten or read
    bytes_before: int
    bytes_after: int
    predicted_gain: int | None = None
    predicted_seconds: float | None = None
    effective: str = "unknown"
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def gain(self) -> int:
        """Bytes given back."""
        return self.bytes_before - self.bytes_after

    @property
    def parts(self) -> Iterator[Measurement]:
        """What it says of each member of a group: sizes as far as they are known, and no times."""
        members = self.values.get(OF_MEMBERS)
        if not members:
            return
        each: Mapping[str, Mapping[str, Value]] = json.loads(str(members))
        for name, values in each.items():
            size, predicted = int(values.get("bytes") or 0), values.get("predicted")
            yield replace(
                self, object=name, seconds=0.0, work_bytes=0, bytes_before=int(values.get("before") or size),
                bytes_after=size, predicted_gain=None if predicted is None else int(predicted), predicted_seconds=None,
                values=values,
            )  # fmt: skip


class History(Struct, frozen=True, kw_only=True, dict=True):
    """Past measurements, newest first: of this target, and of others of the same engine for their rates."""

    own: Sequence[Measurement] = ()
    others: Sequence[Measurement] = ()

    @cached_property
    def _newest(self) -> Mapping[tuple[Operation, str], Measurement]:
        """By object, made once: a plan asks for each of thousands."""
        return {(part.operation, part.object): part for m in reversed(self.own) for part in (m, *m.parts)}

    def last(self, operation: Operation, object: str = "") -> Measurement | None:
        """The newest run of an operation on an object of this target, alone or as a member of a group."""
        return self._newest.get((operation, object))

    def seconds(
        self, operation: Operation, work_bytes: int, *, object: str = "", default_rate: float | None = None
    ) -> tuple[float | None, Source]:
        """Expected seconds for so many bytes of work, from own runs, else others' rate, else the engine's default."""
        own = _rate(m for m in self.own if m.operation is operation and m.object == object)
        if own:
            return work_bytes / own, Source.HISTORY
        other = _rate(m for m in self.others if m.operation is operation) or default_rate
        if other:
            return work_bytes / other, Source.ESTIMATED
        return None, Source.UNKNOWN

    def cooling_off(
        self, operation: Operation, now: datetime, period: timedelta, *, object: str = ""
    ) -> Measurement | None:
        """The run that gained less than half of what was predicted, if it is recent enough to believe again."""
        last = self.last(operation, object)
        if last is None or now - last.at >= period or last.predicted_gain is None:
            return None
        return last if last.gain < last.predicted_gain / 2 else None


def median(values: Sequence[float]) -> float:
    """The middle of some values, at least one; the one of `statistics` takes longer to import than a survey takes."""
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _rate(measurements: Iterable[Measurement]) -> float | None:
    rates = [m.work_bytes / m.seconds for m in measurements if m.seconds > 0 and m.work_bytes > 0][:RECENT]
    return median(rates) if rates else None
