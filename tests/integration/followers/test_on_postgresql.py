"""Followers on a shared ledger, and what a real server says in metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dbupkeep.app import App
from dbupkeep.config import Config
from dbupkeep.definitions import JobDefinition, Policy, Step, Target
from dbupkeep.following import Following
from dbupkeep.operations import parse
from dbupkeep.outbox import Post
from dbupkeep.testing.pair_kit import eventually
from dbupkeep.testing.scripted import ScriptedEngine
from dbupkeep.totals import STOP_LIMIT
from dbupkeep.views.metrics import exposition
from tests.plugins.postgresql import Database

pytestmark = pytest.mark.engine("postgresql")


@pytest.fixture
def open_app(newest_database: Database) -> Iterator[Any]:
    opened: list[App] = []

    def make() -> App:
        app = App(newest_database.url, load_engine=lambda _: ScriptedEngine(), isolate=False)
        opened.append(app)
        return app

    yield make
    for app in opened:
        app.close()


def run(app: App) -> None:
    step = Step(name="1", targets=(Target(name="a", url="scripted:///a"),), operations=parse(["vacuum"]))
    app.runs.create_run(JobDefinition(name="nightly", steps=(step,)))
    app.drain()


def test_of_two_services_on_a_shared_ledger_one_delivers_each_message_once(open_app: Any, notes: Any) -> None:
    apps = [open_app(), open_app()]
    heard = [notes(), notes()]
    services = []
    for app, follower in zip(apps, heard, strict=True):
        service = Following(reader=app.reader, lifecycle=app.lifecycle, clock=app.clock)
        service.use([follower])
        service.start()
        services.append(service)
    eventually("one has the turn", lambda: any(service.holding() for service in services))
    for _ in range(3):
        run(apps[0])
    eventually("all came", lambda: len(heard[0].delivered) + len(heard[1].delivered) == 6)
    first = next(number for number, service in enumerate(services) if service.holding())
    services[first].close()
    run(apps[0])
    eventually("the other goes on", lambda: heard[1 - first].texts == ["run 7", "run 8"])
    services[1 - first].close()
    assert heard[first].texts == [f"run {number + 1}" for number in range(6)]
    assert apps[0].reader.backlog().pending == 0


def test_a_server_says_how_far_the_wraparound_is_and_how_long_locks_were_waited_for(
    bench: Any, newest_database: Database
) -> None:
    newest_database.execute("create table t (a int)", "insert into t select generate_series(1, 100)")
    app = App(str(bench.path), isolate=False)
    bench.opened.append(app)
    step = Step(
        name="1", targets=(Target(name="shop", url=newest_database.url),), operations=parse(["vacuum"]),
        policy=Policy(force=True),
    )  # fmt: skip
    app.runs.create_run(JobDefinition(name="nightly", steps=(step,)))
    app.drain()
    for follower in app.followers(Config()):
        at = Post(follower, reader=app.reader, lifecycle=app.lifecycle, clock=app.clock)
        while at.step(app.reader.newest(), lambda: True):
            pass
        at.save()
    text = exposition(app, Config())[0].decode()
    (line,) = [
        line for line in text.splitlines() if line.startswith('dbupkeep_wraparound_transactions_left{target="shop"}')
    ]
    assert 0 < float(line.split()[-1]) <= STOP_LIMIT
    assert 'dbupkeep_lock_wait_seconds_count{engine="postgresql"}' in text
    assert 'dbupkeep_operations_total{engine="postgresql",operation="vacuum",outcome="completed"}' in text
    assert 'dbupkeep_last_success_timestamp_seconds{job="nightly",target="shop"}' in text
