"""The site on a ledger of the test, served by the real server, its caller known; and jobs to look at."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.app import App
from dbupkeep.config import Config
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.testing.scripted import ScriptedEngine
from dbupkeep.views.site import make_site
from dbupkeep.views.web.desk import Desk
from dbupkeep.views.web.roles import Caller, Role
from dbupkeep.views.web.server import Server, listen


class Known:
    """Stands where the guard does: everybody is this caller."""

    def __init__(self, site: Any, caller: Caller) -> None:
        self.site = site
        self.caller = caller

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        scope.setdefault("state", {})["caller"] = self.caller
        await self.site(scope, receive, send)


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def app(tmp_path: Path, engine: ScriptedEngine) -> Iterator[App]:
    made = App(str(tmp_path / "ledger.db"), load_engine=lambda scheme: engine, isolate=False)
    yield made
    made.close()


@pytest.fixture
def config() -> Config:
    targets = {name: Target(name=name, url=f"scripted:///{name}") for name in ("a", "b")}
    jobs = {
        "nightly": JobDefinition(name="nightly", steps=(Step(name="all", targets=(targets["a"], targets["b"])),)),
        "one": JobDefinition(name="one", steps=(Step(name="a", targets=(targets["a"],)),)),
    }
    return Config(file="config.toml", targets=targets, jobs=jobs)


@pytest.fixture
def desk(app: App, config: Config) -> Iterator[Desk]:
    made = Desk(app=app, config=lambda: config)
    yield made
    made.close()


@pytest.fixture
def site(desk: Desk) -> Any:
    return make_site(desk, None)  # type: ignore[arg-type] # nobody is asked who they are


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]  # by names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def link(self) -> str:
        """Where the next page is; empty on the last one."""
        target, _, relation = self.headers.get("link", "").partition("; ")
        return target.strip("<>") if relation == 'rel="next"' else ""


@dataclass(slots=True)
class Client:
    """Asks a server on this machine."""

    port: int
    headers: Mapping[str, str]

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Ask; underscores in names of headers stand for hyphens, and a body that is no bytes is sent as JSON."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        with closing(self.connect()) as connection:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self("POST", path, body, **headers)


@pytest.fixture
def caller() -> Caller:
    return Caller(name="token test", role=Role.ADMIN)


@pytest.fixture
def client(site: Any, desk: Desk, caller: Caller) -> Iterator[Client]:
    """Calls as an administrator."""
    place = listen(socket.AF_INET, "127.0.0.1", 0)
    server = Server(Known(site, caller), place)  # type: ignore[arg-type] # stands in for the guard
    yield Client(place.getsockname()[1], {})
    desk.close()
    server.close()


def run_of(app: App, config: Config, name: str = "one", *, drain: bool = True) -> str:
    """A run of a job of the configuration; with `drain` it has ended."""
    run_id = app.runs.create_run(config.job(name))
    if drain:
        app.drain()
    return run_id


def found(documents: Any, **wanted: object) -> list[Mapping[str, Any]]:
    """Those documents that have these values."""
    return [each for each in documents if wanted.items() <= each.items()]
