"""Refused attempts in the audit trail: each kind of them once a minute, with how many there were, so that none floods it."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from msgspec.structs import replace

from dbupkeep.audit import Act
from dbupkeep.errors import LedgerError
from dbupkeep.views.web.limits import Buckets, Rate

EVERY = 60.0
"""Seconds between two entries of one kind."""

IN_ALL = Rate(burst=20, each_second=0.5)

MOST_KNOWN = 1000

log = logging.getLogger(__name__)


class Denials:
    """Used on one event loop; writes on a thread, and nobody waits for it."""

    def __init__(self, record: Callable[[Act], None], now: Callable[[], float]) -> None:
        """Write with `record`, which may take its time; read seconds that never go back from `now`."""
        self._record = record
        self._now = now
        self._seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        self._all = Buckets(IN_ALL, now)
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, act: Act) -> None:
        """Write it, or count it for the next entry of its kind."""
        key, now = (act.who, act.what), self._now()
        at, since = self._seen.pop(key, (now - EVERY, 0))
        if now - at < EVERY or self._all.take():
            self._seen[key] = (at, since + 1)
        else:
            self._seen[key] = (now, 0)
            counted = replace(act, detail={**act.detail, "more_before": since}) if since else act
            task = asyncio.get_running_loop().create_task(self._write(counted))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        if len(self._seen) > MOST_KNOWN:
            self._seen.popitem(last=False)

    async def _write(self, act: Act) -> None:
        try:
            await asyncio.to_thread(self._record, act)
        except LedgerError as error:
            log.warning("a refused attempt could not be recorded", extra={"reason": error.message, "who": act.who})
