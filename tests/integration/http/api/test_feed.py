"""The feed of events: nothing lost, nothing twice, at whatever pace a stream is read."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from typing_extensions import override

from dbupkeep.app import App
from dbupkeep.clock import SystemClock
from dbupkeep.documents import event_document
from dbupkeep.progress import measured
from dbupkeep.testing.pair_kit import eventually, family, next_delivery
from dbupkeep.views.web.desk import Desk
from dbupkeep.views.web.feed import PROGRESS, Feed
from dbupkeep.views.web.ring import AT_ONCE, SIZE
from tests.integration.http.api.conftest import Client

PATIENCE = 30.0


@pytest.fixture
def feed(app: App) -> Iterator[Feed]:
    made = Feed(app.reader, SystemClock())
    yield made
    made.close()


async def messages(stream: AsyncIterator[bytes]) -> AsyncIterator[dict[str, str]]:
    """Each message as its fields."""
    async for chunk in stream:
        for message in chunk.decode().split("\n\n"):
            if message:
                yield dict(line.split(": ", 1) for line in message.splitlines() if not line.startswith(":"))


async def taken(stream: AsyncIterator[bytes], enough: Callable[[dict[str, str]], bool]) -> list[dict[str, str]]:
    """Messages up to the first that is enough."""
    got = []
    async with asyncio.timeout(PATIENCE):
        async for message in messages(stream):
            got.append(message)
            if enough(message):
                return got
    raise AssertionError(f"the stream ended: {got[-3:]}")


def events_of(got: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [json.loads(message["data"]) for message in got if "id" in message]


def is_event(seq: int) -> Callable[[dict[str, str]], bool]:
    return lambda message: message.get("id") == str(seq)


def happen(app: App, times: int = 1) -> int:
    """Have runs come and go; the number of the last event."""
    for _ in range(times):
        new = family("a")
        app.lifecycle.submit(new.submission)
        app.lifecycle.cancel(new.parent.id)
    return app.reader.newest()


def happen_much(app: App) -> int:
    """Have more happen than is kept at hand; the number of the last event."""
    new = family(*(f"{n}" for n in range(SIZE // 2 + 10)))
    app.lifecycle.submit(new.submission)
    app.lifecycle.cancel(new.parent.id)
    return app.reader.newest()


def all_of(app: App, after: int = 0, run: str = "") -> list[dict[str, Any]]:
    found = app.reader.events(after, correlation_id=run, limit=100_000)
    return [json.loads(json.dumps(event_document(each))) for each in found]


async def first(stream: AsyncIterator[bytes]) -> None:
    """The greeting; from then on it is known where the stream begins."""
    assert await anext(stream) == b"retry: 1000\n\n"


def test_a_stream_begins_where_it_is_told_and_goes_on_with_what_happens(app: App, feed: Feed) -> None:
    happen(app, 3)
    middle = app.reader.newest() - 4

    async def main() -> None:
        async with aclosing(feed.follow(feed.begin(middle))) as stream:
            await first(stream)
            got = await taken(stream, is_event(app.reader.newest()))
            assert events_of(got) == all_of(app, middle)
            last = app.reader.newest()
            newest = await asyncio.to_thread(happen, app)
            assert events_of(await taken(stream, is_event(newest))) == all_of(app, last)

    asyncio.run(main())


def test_without_a_number_a_stream_begins_now(app: App, feed: Feed) -> None:
    before = happen(app)

    async def main() -> None:
        async with aclosing(feed.follow(feed.begin(None))) as stream:
            await first(stream)
            newest = happen(app)
            assert events_of(await taken(stream, is_event(newest))) == all_of(app, before)

    asyncio.run(main())


def test_a_stream_of_one_run_has_its_events_alone(app: App, feed: Feed) -> None:
    mine = family("mine")
    app.lifecycle.submit(mine.submission)

    async def main() -> None:
        async with aclosing(feed.follow(feed.begin(0), mine.parent.id)) as stream:
            await first(stream)
            happen(app, 2)
            app.lifecycle.cancel(mine.parent.id)
            newest = app.reader.events(correlation_id=mine.parent.id)[-1].seq
            happen(app, 2)
            assert events_of(await taken(stream, is_event(newest))) == all_of(app, 0, mine.parent.id)

    asyncio.run(main())


@pytest.mark.parametrize("of_one_run", [False, True])
def test_a_slow_stream_misses_nothing_when_the_newest_events_have_gone_by(
    app: App, feed: Feed, *, of_one_run: bool
) -> None:
    mine = family(*(f"{n}" for n in range(AT_ONCE)), slots=2)
    app.lifecycle.submit(mine.submission)
    run = mine.parent.id if of_one_run else ""

    async def main() -> None:
        async with aclosing(feed.follow(feed.begin(0), run)) as slow, aclosing(feed.follow(feed.begin(None))) as quick:
            await first(slow)
            await first(quick)
            app.lifecycle.cancel(mine.parent.id)
            last = await asyncio.to_thread(happen_much, app)
            await taken(quick, is_event(last))  # so the newest ones at hand are these
            newest = all_of(app, 0, run)[-1]["seq"]
            assert len(all_of(app)) > SIZE
            assert events_of(await taken(slow, is_event(newest))) == all_of(app, 0, run)

    asyncio.run(main())


def test_a_number_that_no_event_has_yet_is_where_the_next_one_begins(app: App, feed: Feed) -> None:
    """Of events that were pruned, or of a ledger that was set back to a copy."""
    last = happen(app)

    async def main() -> None:
        async with aclosing(feed.follow(feed.begin(last + 1000))) as stream:
            await first(stream)
            newest = happen(app)
            assert events_of(await taken(stream, is_event(newest))) == all_of(app, last)

    asyncio.run(main())


def test_what_is_written_while_a_stream_begins_is_neither_lost_nor_told_twice(app: App, feed: Feed) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            happen(app)

    async def one(after: int) -> None:
        async with aclosing(feed.follow(feed.begin(after))) as stream:
            got = events_of(await taken(stream, is_event(after + 60)))
            assert [event["seq"] for event in got] == list(range(after + 1, got[-1]["seq"] + 1))

    async def main() -> None:
        await asyncio.gather(*(one(max(0, feed.begin(None) - 40 + n)) for n in range(20)))

    happen(app, 20)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        asyncio.run(main())
    finally:
        stop.set()
        writer.join()


def test_what_runs_is_told_without_a_number_and_when_it_is_other_than_before(app: App, feed: Feed) -> None:
    new = family("a", "b", slots=2)
    app.lifecycle.submit(new.submission)
    begun = [app.lifecycle.begin(next_delivery(child), "w") for child in new.children]

    def tells(fraction: float | None) -> Callable[[dict[str, str]], bool]:
        def enough(message: dict[str, str]) -> bool:
            jobs = json.loads(message["data"])["jobs"] if message.get("event") == "progress" else []
            return any(job["id"] == new.children[1].id and job["progress"]["fraction"] == fraction for job in jobs)

        return enough

    async def main() -> None:
        async with aclosing(feed.follow(feed.begin(None), new.parent.id)) as stream:
            message = (await taken(stream, tells(None)))[-1]
            assert "id" not in message
            jobs = json.loads(message["data"])["jobs"]
            assert [job["id"] for job in jobs] == [new.parent.id, *(child.id for child in new.children)]
            assert jobs[0]["children"]["running"] == 2
            assert begun[1] is not None
            app.ledger.report(begun[1].id, 1, measured(60, 100, "pages"))
            jobs = json.loads((await taken(stream, tells(0.6)))[-1]["data"])["jobs"]
            assert 0.2 < jobs[0]["progress"]["fraction"] < 0.4  # of the parent: half of the work at 60 %
            app.lifecycle.cancel(new.parent.id)

    asyncio.run(main())


def test_many_streams_are_served_by_one_look(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, events = [0], app.reader.events

    def counted(*places: int, **which: Any) -> Any:
        looks[0] += 1
        return events(*places, **which)

    monkeypatch.setattr(app.reader, "events", counted)
    feed, count = Feed(app.reader, SystemClock()), 200

    async def main() -> None:
        streams = [feed.follow(feed.begin(None)) for _ in range(count)]
        for stream in streams:
            await first(stream)
            await taken(stream, lambda message: message.get("event") == "progress")  # it has caught up
        looks[0] = 0
        newest = await asyncio.to_thread(happen, app, 3)
        wanted = events_of(await taken(streams[0], is_event(newest)))
        for got in await asyncio.gather(*(taken(stream, is_event(newest)) for stream in streams[1:])):
            assert events_of(got) == wanted
        assert looks[0] < count / 2
        for stream in streams:
            await stream.aclose()

    asyncio.run(main())
    feed.close()


class Still(SystemClock):
    """Stands until a test moves it."""

    seconds = 1000.0

    @override
    def monotonic(self) -> float:
        return self.seconds


def test_how_far_work_is_is_told_twice_a_second_at_most(app: App) -> None:
    clock, new = Still(), family("a")
    feed = Feed(app.reader, clock)
    app.lifecycle.submit(new.submission)
    begun = app.lifecycle.begin(next_delivery(new.children[0]), "w")
    assert begun is not None

    def is_progress(message: dict[str, str]) -> bool:
        return message.get("event") == "progress"

    async def main() -> None:
        async with aclosing(feed.follow(feed.begin(None))) as stream:
            await first(stream)
            await taken(stream, is_progress)
            for done in (10, 20, 30):
                app.ledger.report(begun.id, 1, measured(done, 100, "pages"))
                newest = await asyncio.to_thread(happen, app)  # so that the feed has looked once more
                assert not [each for each in await taken(stream, is_event(newest)) if is_progress(each)]
            clock.seconds += PROGRESS
            (told,) = await taken(stream, is_progress)
            assert [job["progress"]["fraction"] for job in json.loads(told["data"])["jobs"]][-1] == 0.3

    asyncio.run(main())
    feed.close()


def test_silence_is_broken_by_a_comment(app: App) -> None:
    feed = Feed(app.reader, SystemClock(), quiet=0.05)

    async def main() -> None:
        async with aclosing(feed.follow(feed.begin(None))) as stream, asyncio.timeout(PATIENCE):
            await first(stream)
            while await anext(stream) != b": quiet\n\n":
                pass

    asyncio.run(main())
    feed.close()


def test_closing_ends_all_streams_and_the_thread_and_later_ones_end_at_once(app: App, feed: Feed) -> None:
    async def main() -> None:
        streams = [feed.follow(feed.begin(None)) for _ in range(3)]
        for stream in streams:
            await first(stream)
        reading = [asyncio.create_task(taken(stream, lambda message: False)) for stream in streams]
        await asyncio.to_thread(happen, app)
        await asyncio.to_thread(feed.close)
        for result in await asyncio.gather(*reading, return_exceptions=True):
            assert "the stream ended" in str(result)
        assert [chunk async for chunk in feed.follow(0)] == [b"retry: 1000\n\n"]

    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if thread.name == "dbupkeep-feed"]


def test_what_happened_while_nobody_listened_is_told_to_who_asks_for_it(app: App, feed: Feed) -> None:
    async def main(after: int | None, times: int) -> None:
        async with aclosing(feed.follow(feed.begin(after))) as stream:
            await first(stream)
            before = app.reader.newest() if after is None else after
            newest = await asyncio.to_thread(happen, app, times)
            assert events_of(await taken(stream, is_event(newest))) == all_of(app, before)

    asyncio.run(main(None, 1))
    before = app.reader.newest()
    happen_much(app)  # while the thread rests
    asyncio.run(main(before, 1))


def test_who_went_away_is_forgotten_also_who_had_stopped_reading(client: Client, desk: Desk, app: App) -> None:
    sockets = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(6)]
    for each in sockets:
        each.sendall(b"GET /api/v1/events/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    eventually("all listen", lambda: len(desk.feed._listeners) == len(sockets))
    for _ in range(3):  # megabytes that nobody reads: more than there is room for between here and there
        happen_much(app)
    assert len(desk.feed._listeners) == len(sockets)
    for each in sockets:
        each.close()
    eventually("nobody listens", lambda: not desk.feed._listeners)
    assert client.get("/healthz").status == 200
