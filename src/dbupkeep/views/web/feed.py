"""News of the ledger for whoever listens, as server-sent events: `GET /api/v1/events/stream?run=ID&after=SEQ`.

What a stream carries, a JSON document on one `data:` line each:

- with `id: SEQ` and without a name (a browser's `onmessage`): one event of the ledger as `documents.event_document`
  writes it, `{seq, at, event, job_id, parent_id, correlation_id, data}`; in order, none left out and none twice. SEQ is
  what `Last-Event-ID` (a browser sends it by itself) or `?after=` begins after, also at another start of the service.
  With neither, a stream begins with what happens next: a page that was made at event SEQ (`Reader.newest` before it
  read anything else) asks for `?after=SEQ`.
- `event: progress`, without an id: what runs at this moment, `{jobs: [{id, parent_id, correlation_id, status, started_at,
  progress{current, total, unit, fraction, source, stage}, children{...} of a parent}]}`, upper ones first; at the
  beginning, then at most every half second and only when it is other than before. What is not in it does not run.
  It is no event: whoever misses one has missed nothing.
- a comment after `QUIET` seconds of silence.

One thread looks into the ledger for all streams, while there are any, and keeps the newest events at hand. A stream
remembers nothing but its place. What is no longer at hand it reads from the ledger, so a slow one costs no memory.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from fastapi.sse import format_sse_event
from msgspec import Struct, field

from dbupkeep.clock import Clock
from dbupkeep.documents import Document, event_document
from dbupkeep.errors import LedgerError
from dbupkeep.events import Recorded
from dbupkeep.ledger import Reader
from dbupkeep.views.web.now import Now
from dbupkeep.views.web.ring import Entry, Ring

LOOK = 0.25
"""Seconds between looks into the ledger, while somebody listens."""

PROGRESS = 0.5
"""Seconds between two looks at what runs."""

QUIET = 15.0
"""Seconds of silence after which a comment shows that the line is alive, and who listens is asked for once more."""

AGAIN = 1000
"""Milliseconds after which a browser that lost its stream asks again."""

PAGE = 200
"""Events that are read in one go."""

READERS = 4
"""Streams that read the ledger at a time; their threads are of their own, so that no request waits for them."""


class _Listener(Struct, eq=False):
    """An open stream, as the thread sees it."""

    loop: asyncio.AbstractEventLoop
    news: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    def wake(self) -> None:
        """Have it look; from any thread."""
        with suppress(RuntimeError):  # its loop has ended, and with it the stream
            self.loop.call_soon_threadsafe(self.news.set)


class Feed:
    """Tells streams what happens."""

    def __init__(self, reader: Reader, clock: Clock, *, quiet: float = QUIET) -> None:
        """Begin with nobody to tell; the thread starts with the first stream."""
        self._reader = reader
        self._clock = clock
        self._quiet = quiet
        self._listeners: set[_Listener] = set()
        self._wanted = threading.Condition()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._ring = Ring()
        self._rested = True  # nobody listened, so what is at hand is of long ago
        self._progress: Mapping[str, bytes] | None = None  # by run; "": of all
        self._progress_at = 0.0
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="dbupkeep-reader")

    def begin(self, after: int | None) -> int:
        """The place of a new stream that was told up to `after`; None: that is told from now on. Raises `LedgerError`."""
        newest = self._reader.newest()
        # A higher number is of an event that was pruned since, or of a ledger that was set back.
        return newest if after is None else min(after, newest)

    async def follow(self, place: int, run: str = "") -> AsyncGenerator[bytes]:
        """What a stream of all events, or of one run's, sends from a place on, until the feed is closed."""
        yield format_sse_event(retry=AGAIN)
        told = b""
        with self._listening() as listener:
            while not listener.ended:
                listener.news.clear()
                try:
                    messages, place = await self._next(place, run)
                except LedgerError:  # the browser asks again, and then is told by a status
                    return
                progress = told if self._progress is None else self._progress.get(run, NOTHING)
                if progress != told:
                    told = progress
                    messages = [*messages, progress]
                if messages:
                    yield b"".join(messages)
                elif not await self._news_of(listener):
                    yield format_sse_event(comment="quiet")

    def close(self) -> None:
        """End all streams; safe to repeat."""
        self._closing.set()
        with self._wanted:
            self._wanted.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    async def _next(self, place: int, run: str) -> tuple[list[bytes], int]:
        found = self._ring.after(place, run)
        if found is not None:
            return found
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, place, run)

    def _read(self, place: int, run: str) -> tuple[list[bytes], int]:
        """The same from the ledger."""
        head = self._ring.head  # all up to here can be read already
        events = self._reader.events(place, correlation_id=run, limit=PAGE)
        last = events[-1].seq if events else place
        return [_entry(each).message for each in events], last if len(events) == PAGE else max(last, head)

    async def _news_of(self, listener: _Listener) -> bool:
        """Wait for news; False when there were none for long."""
        try:
            async with asyncio.timeout(self._quiet):
                await listener.news.wait()
        except TimeoutError:
            return False
        return True

    @contextmanager
    def _listening(self) -> Iterator[_Listener]:
        listener = _Listener(loop=asyncio.get_running_loop())
        with self._wanted:
            listener.ended = self._closing.is_set()
            self._listeners.add(listener)
            if self._thread is None and not listener.ended:
                self._thread = threading.Thread(target=self._serve, name="dbupkeep-feed", daemon=True)
                self._thread.start()
            self._wanted.notify_all()
        try:
            yield listener
        finally:
            with self._wanted:
                self._listeners.discard(listener)

    def _serve(self) -> None:
        """The thread: look while somebody listens. When it ends, for whatever reason, all streams do."""
        try:
            while self._somebody_listens():
                more = False
                with suppress(LedgerError):  # the next look may find it well
                    more = self._look()
                if not more:
                    self._closing.wait(LOOK)
        finally:
            with self._wanted:
                self._thread = None
                for listener in self._listeners:
                    listener.ended = True
                    listener.wake()

    def _somebody_listens(self) -> bool:
        """Wait until somebody does; False at the end."""
        with self._wanted:
            if not self._listeners:
                self._rested, self._progress = True, None
                self._wanted.wait_for(lambda: self._listeners or self._closing.is_set())
            return not self._closing.is_set()

    def _look(self) -> bool:
        """Take what is new to hand, and wake all streams if there is any; whether there may be more at once."""
        if self._rested:
            newest = self._reader.newest()
            self._ring, self._rested = Ring(floor=newest, head=newest), False
        events = self._reader.events(self._ring.head, limit=PAGE)
        if events:
            self._ring = self._ring.plus([_entry(each) for each in events])
        if self._look_at_progress() or events:
            with self._wanted:
                for listener in self._listeners:
                    listener.wake()
        return len(events) == PAGE

    def _look_at_progress(self) -> bool:
        """Look what runs, if it is time to; whether that is other than before."""
        now = self._clock.monotonic()
        if self._progress is not None and now < self._progress_at + PROGRESS:
            return False
        self._progress_at, before = now, self._progress
        by_run = Now.look(self._reader).by_run()
        everything = [job for jobs in by_run.values() for job in jobs]
        self._progress = {run: _progress(jobs) for run, jobs in {**by_run, "": everything}.items()}
        return self._progress != before


def _entry(recorded: Recorded) -> Entry:
    message = _message(event_document(recorded), id=str(recorded.seq))
    return Entry(seq=recorded.seq, run=recorded.correlation_id, message=message)


def _message(document: Document, *, event: str | None = None, id: str | None = None) -> bytes:
    return format_sse_event(data_str=json.dumps(document, separators=(",", ":")), event=event, id=id)


def _progress(jobs: Sequence[Document]) -> bytes:
    return _message({"jobs": jobs}, event="progress")


NOTHING = _progress(())
"""That nothing runs."""
