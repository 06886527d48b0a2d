"""How much one caller, and all together, may ask: cheap counts in memory, so that a flood costs next to nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

BODY = 64 * 1024
"""Bytes of a request's body."""

HEAD = 16 * 1024
"""Bytes of a request's headers."""

BODY_SECONDS = 10.0
"""How long a body may take to arrive."""

MOST_KNOWN = 10_000
"""Callers that are remembered; the one seen longest ago is forgotten."""


class Rate(Struct, frozen=True):
    """So many at once, and so many a second in the long run."""

    burst: float
    each_second: float


PER_CALLER = Rate(burst=300, each_second=60)
IN_ALL = Rate(burst=600, each_second=150)
STRANGERS = Rate(burst=60, each_second=5)
"""Requests of one address without a valid token: what guesses, or was never let in."""
STRANGERS_IN_ALL = Rate(burst=300, each_second=50)
LOG_INS = Rate(burst=5, each_second=0.2)
"""Attempts of one address to log in."""
LOG_INS_IN_ALL = Rate(burst=20, each_second=1)

STREAMS = 256
"""Event streams at a time."""
STREAMS_PER_CALLER = 224


class Buckets:
    """A count for each key that fills up again with time."""

    def __init__(self, rate: Rate, now: Callable[[], float]) -> None:
        """Read time, in seconds that never go back, from `now`."""
        self._rate = rate
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str = "") -> float:
        """Take one; 0.0 when it was there, else the seconds after which there will be one."""
        now = self._now()
        left, since = self._left.pop(key, (self._rate.burst, now))
        left = min(self._rate.burst, left + (now - since) * self._rate.each_second)
        taken = left >= 1
        self._left[key] = (left - taken, now)
        if len(self._left) > MOST_KNOWN:
            self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) / self._rate.each_second


class Limits:
    """All limits of one site. Used on one event loop only, so nothing is locked."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        per_caller: Rate = PER_CALLER,
        in_all: Rate = IN_ALL,
        strangers: Rate = STRANGERS,
        log_ins: Rate = LOG_INS,
    ) -> None:
        """Read time, in seconds that never go back, from `now`."""
        self._callers = Buckets(per_caller, now)
        self._all = Buckets(in_all, now)
        self._strangers = Buckets(strangers, now)
        self._strangers_in_all = Buckets(max(strangers, STRANGERS_IN_ALL, key=_burst), now)
        self._log_ins = Buckets(log_ins, now)
        self._log_ins_in_all = Buckets(max(log_ins, LOG_INS_IN_ALL, key=_burst), now)
        self._streams: dict[str, int] = {}

    def request(self, caller: str) -> float:
        """Count a request of a known caller; seconds to wait, 0.0: none."""
        return self._callers.take(caller) or self._all.take()

    def stranger(self, address: str) -> float:
        """Count a request of nobody who is known. It does not draw on what is there for known callers."""
        return self._strangers.take(address) or self._strangers_in_all.take()

    def log_in(self, address: str) -> float:
        """Count an attempt to log in."""
        return self._log_ins.take(address) or self._log_ins_in_all.take()

    def open_stream(self, caller: str) -> bool:
        """Count an event stream, if there may be one more."""
        if sum(self._streams.values()) >= STREAMS or self._streams.get(caller, 0) >= STREAMS_PER_CALLER:
            return False
        self._streams[caller] = self._streams.get(caller, 0) + 1
        return True

    def close_stream(self, caller: str) -> None:
        """An event stream has ended."""
        self._streams[caller] -= 1
        if not self._streams[caller]:
            del self._streams[caller]


def _burst(rate: Rate) -> float:
    return rate.burst
