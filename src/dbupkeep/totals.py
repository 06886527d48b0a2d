"""Running totals of all that ever happened on a ledger: what counters are made of. Pure.

Runs are pruned, and counters must never go back: so each event is counted once, into a document that stays. It is plain
JSON: for each family the value by its labels, which are one key (`["sqlite","vacuum","completed"]`).
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import Any

from dbupkeep.jobs import JobStatus
from dbupkeep.results import Reckoned

NAME = "totals"
"""Of the follower that keeps them."""

SECONDS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0)
"""Upper bounds of the buckets of durations: a statement of a small table to a rebuild of half a night."""

MOST = 1000
"""Series that one family of states (last success, size, age) has at most; what was not seen for longest gives way."""

STOP_LIMIT = 2**31 - 1 - 3_000_000
"""Transactions after which PostgreSQL takes no more: it stops three million before they would wrap around."""

Labels = tuple[str, ...]


class Totals:
    """Reads and adds to the document that it is given, in place."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def add(self, family: str, labels: Labels = (), amount: float = 1) -> None:
        """Count; also nothing, so that a series is there before its first increase, which nobody would see otherwise."""
        series = self._family(family)
        key = _key(labels)
        series[key] = series.get(key, 0) + amount

    def observe(self, family: str, labels: Labels, seconds: float) -> None:
        """Take one value into a histogram."""
        fresh = {"buckets": [0] * (len(SECONDS) + 1), "sum": 0.0}
        kept = self._family(family).setdefault(_key(labels), fresh)
        kept["buckets"][bisect_left(SECONDS, seconds)] += 1
        kept["sum"] += seconds

    def state(self, family: str, labels: Labels, value: float, at: datetime) -> None:
        """Keep how something is now, unless something newer is known of it."""
        series, key = self._family(family), _key(labels)
        seen = at.timestamp()
        if key in series and series[key]["at"] > seen:
            return
        series[key] = {"value": value, "at": seen}
        if len(series) > MOST:
            del series[min(series, key=lambda each: series[each]["at"])]

    def forget(self, family: str, labels: Labels) -> None:
        """Keep a state no longer: it is not known any more."""
        self._family(family).pop(_key(labels), None)

    def ended(self, end: Reckoned) -> None:
        """Count an operation that has ended."""
        kind = (end.engine, end.operation)
        for status in JobStatus:
            if status.ended:
                self.add("operations", (*kind, status.value), end.status is status)
        self.add("deferred_often", kind, 0)
        self.add("reclaimed", kind, end.given_back)
        self.add("ineffective", kind, end.ineffective)
        self.add("overrun", (), end.overrun)
        if end.blocking is not None:
            self.add("blocking", (end.engine,), end.blocking)
        if end.seconds is not None:
            self.observe("durations", kind, end.seconds)
        if end.lock_wait is not None:
            self.observe("lock_waits", (end.engine,), end.lock_wait)

    def counts(self, family: str) -> Iterator[tuple[Labels, float]]:
        """A family of counters."""
        yield from ((_labels(key), float(value)) for key, value in sorted(self._known(family).items()))

    def histograms(self, family: str) -> Iterator[tuple[Labels, Sequence[tuple[str, float]], float]]:
        """A family of histograms: the cumulated buckets by upper bound, `+Inf` last, and the sum."""
        for key, kept in sorted(self._known(family).items()):
            total, buckets = 0.0, []
            for bound, count in zip([*map(str, SECONDS), "+Inf"], kept["buckets"], strict=True):
                total += count
                buckets.append((bound, total))
            yield _labels(key), buckets, kept["sum"]

    def states(self, family: str) -> Iterator[tuple[Labels, float]]:
        """A family of states."""
        yield from ((_labels(key), float(kept["value"])) for key, kept in sorted(self._known(family).items()))

    def _family(self, name: str) -> MutableMapping[str, Any]:
        found: MutableMapping[str, Any] = self.document.setdefault(name, {})
        return found

    def _known(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.document.get(name, {})
        return found


def _key(labels: Labels) -> str:
    return json.dumps(labels, ensure_ascii=False, separators=(",", ":"))


def _labels(key: str) -> Labels:
    return tuple(json.loads(key))
