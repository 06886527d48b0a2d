"""The API on a shared ledger: two services give and make the same."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from dbupkeep.app import App
from dbupkeep.config import Config
from dbupkeep.ledger import JobQuery
from dbupkeep.testing.pair_kit import together
from dbupkeep.testing.scripted import ScriptedEngine
from dbupkeep.views.site import make_site
from dbupkeep.views.web.desk import Desk
from dbupkeep.views.web.feed import Feed
from dbupkeep.views.web.roles import Caller
from dbupkeep.views.web.server import Server, listen
from tests.integration.http.api.conftest import Answer, Client, Known, run_of
from tests.integration.http.api.test_feed import all_of, events_of, first, happen, is_event, taken
from tests.plugins.postgresql import Database

pytestmark = pytest.mark.engine("postgresql")

API = "/api/v1"


@pytest.fixture
def app(newest_database: Database, engine: ScriptedEngine) -> Iterator[App]:
    made = App(newest_database.url, load_engine=lambda _: engine, isolate=False)
    yield made
    made.close()


@pytest.fixture
def other(newest_database: Database, engine: ScriptedEngine, config: Config, caller: Caller) -> Iterator[Client]:
    """Another service on the same ledger."""
    app = App(newest_database.url, load_engine=lambda _: engine, isolate=False)
    desk = Desk(app=app, config=lambda: config)
    place = listen(socket.AF_INET, "127.0.0.1", 0)
    site: Any = Known(make_site(desk, None), caller)  # type: ignore[arg-type] # nobody is asked who they are
    server = Server(site, place)
    yield Client(place.getsockname()[1], {})
    desk.close()
    server.close()
    app.close()


def test_of_requests_with_one_key_to_two_services_one_makes_a_run(client: Client, other: Client, app: App) -> None:
    def ask(service: Client) -> Callable[[], Answer]:
        return lambda: service.post(f"{API}/runs", {"definition": "one"}, Idempotency_Key="at-once")

    answers = together(*(ask((client, other)[number % 2]) for number in range(8)))
    assert len({answer.json["id"] for answer in answers if isinstance(answer, Answer)}) == 1
    assert [answer.status for answer in answers if isinstance(answer, Answer)] == [202] * 8
    assert len(app.reader.jobs(JobQuery(roots=True)).jobs) == 1


def test_both_services_give_the_same(client: Client, other: Client, app: App, config: Config) -> None:
    run_id = run_of(app, config, "nightly")
    tags = {}
    for path in (
        "runs", f"runs/{run_id}", f"runs/{run_id}/report", f"jobs/{run_id}/children?limit=2", f"jobs/{run_id}/logs", "jobs?limit=3",
        "events?limit=5", "history?limit=2", "targets", "targets/b", "history?target=b", "definitions/nightly", "workers",
    ):  # fmt: skip
        first, second = client.get(f"{API}/{path}"), other.get(f"{API}/{path}")
        assert (first.status, first.json, first.headers["etag"]) == (200, second.json, second.headers["etag"])
        tags[path] = first.headers["etag"]
        assert other.get(f"{API}/{path}", If_None_Match=tags[path]).status == 304
    seen: list[Any] = []
    path = f"{API}/history?limit=2"
    while path:
        page = (client, other)[len(seen) % 4 // 2].get(path)
        seen += page.json["measurements"]
        path = page.link
    assert seen == client.get(f"{API}/history?limit=500").json["measurements"]
    assert other.post(f"{API}/jobs/{run_id}/cancel", If_Match=tags[f"runs/{run_id}"]).status == 200
    assert client.get("/healthz").status == 200


def test_a_stream_has_what_another_process_wrote(app: App, newest_database: Database) -> None:
    writer = App(newest_database.url)
    feed = Feed(app.reader, app.clock)
    before = happen(writer, 3)

    async def main() -> None:
        async with aclosing(feed.follow(feed.begin(0))) as stream:
            await first(stream)
            got = events_of(await taken(stream, is_event(before)))
            newest = await asyncio.to_thread(happen, writer, 3)
            got += events_of(await taken(stream, is_event(newest)))
            assert got == all_of(app)

    asyncio.run(main())
    feed.close()
    writer.close()
