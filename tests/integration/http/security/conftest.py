"""The guarded site on a ledger of the test, served by the real server; and a client that sends exactly what it is told."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from dbupkeep.access import Access, Role
from dbupkeep.app import App
from dbupkeep.clock import SystemClock
from dbupkeep.config import Config
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.testing.scripted import ScriptedEngine
from dbupkeep.views.site import guarded, make_site
from dbupkeep.views.web.desk import Desk
from dbupkeep.views.web.forgery import csrf_of
from dbupkeep.views.web.gate import COOKIE, Gate
from dbupkeep.views.web.hosts import Hosts
from dbupkeep.views.web.limits import Limits, Rate
from dbupkeep.views.web.server import Server, listen

WIDE = Rate(burst=1_000_000, each_second=1_000_000)
"""No limit, for tests of something else."""

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Sequence[Header]  # names in lower case
    body: bytes

    def header(self, name: str) -> str:
        return next((value for known, value in self.headers if known == name), "")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Asks the server over a connection of its own each time."""

    port: int
    tokens: dict[str, str] = field(default_factory=dict, repr=False)  # by role

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def raw(self, request: bytes, *, until: bytes = b"") -> bytes:
        """What comes back for these bytes, until the end or until it holds `until`."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=30)) as connection:
            connection.sendall(request)
            answer = b""
            while part := connection.recv(65536):
                answer += part
                if until and until in answer:
                    break
            return answer

    def ask(
        self,
        method: str,
        path: str,
        *headers: Header,
        body: bytes = b"",
        host: str | None = None,
        role: str = "",
        until: bytes = b"",
    ) -> Answer:
        """Ask; `host` None is the server's own, `role` sends the token of that role."""
        sent = [("Host", f"127.0.0.1:{self.port}" if host is None else host), ("Connection", "close"), *headers]
        if role:
            sent.append(("Authorization", f"Bearer {self.tokens[role]}"))
        if body or method == "POST":
            sent.append(("Content-Length", str(len(body))))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent), "", ""]
        head, _, rest = self.raw("\r\n".join(lines).encode("latin-1") + body, until=until).partition(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")
        found = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in fields)]
        return Answer(int(status.split()[1]), found, rest)

    def get(self, path: str, *headers: Header, role: str = "", host: str | None = None) -> Answer:
        return self.ask("GET", path, *headers, role=role, host=host)

    def post(self, path: str, *headers: Header, role: str = "", **form: str) -> Answer:
        """Send a form."""
        body = urlencode(form).encode()
        kind = ("Content-Type", "application/x-www-form-urlencoded")
        return self.ask("POST", path, kind, *headers, body=body, role=role)

    def log_in(self, role: str = "admin") -> Browser:
        answer = self.post("/login", ("Origin", self.origin), token=self.tokens[role])
        assert answer.status == 303, answer.body
        name, _, value = answer.header("set-cookie").partition(";")[0].partition("=")
        assert name == COOKIE
        return Browser(client=self, session=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """A browser that is logged in."""

    client: Client
    session: str

    @property
    def cookie(self) -> Header:
        return ("Cookie", f"theme=dark; {COOKIE}={self.session}")

    @property
    def csrf(self) -> str:
        return csrf_of(self.session)


Serve = Callable[..., Client]
"""Serves the site with the guard as it is asked for: limits, hosts, https, root_path."""


class ShiftedClock(SystemClock):
    """The machine's clocks, some time later."""

    def __init__(self) -> None:
        self.later = timedelta()

    def now(self) -> datetime:  # type: ignore[explicit-override] # as the class it stands in for
        return super().now() + self.later

    def monotonic(self) -> float:  # type: ignore[explicit-override] # as above
        return super().monotonic() + self.later.total_seconds()


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
def app(tmp_path: Path, clock: ShiftedClock) -> Iterator[App]:
    engine = ScriptedEngine()
    made = App(str(tmp_path / "ledger.db"), clock=clock, load_engine=lambda scheme: engine, isolate=False)
    yield made
    made.close()


@pytest.fixture
def access(app: App) -> Access:
    return Access(reader=app.reader, lifecycle=app.lifecycle, clock=app.clock)


@pytest.fixture
def config() -> Config:
    target = Target(name="a", url="scripted:///a")
    return Config(
        targets={"a": target}, jobs={"one": JobDefinition(name="one", steps=(Step(name="a", targets=(target,)),))}
    )


@pytest.fixture
def desk(app: App, config: Config) -> Iterator[Desk]:
    made = Desk(app=app, config=lambda: config)
    yield made
    made.close()


@pytest.fixture
def serve(app: App, access: Access, desk: Desk) -> Iterator[Serve]:
    servers: list[Server] = []

    def served(*, https: bool = False, root_path: str = "", limits: Limits | None = None, **guard: Any) -> Client:
        tokens = guard.pop("tokens", None) or {role.word: access.create(role.word, role, by="test") for role in Role}
        site = make_site(desk, guard.pop("gate", None) or Gate(access, app.clock), https=https)
        clock = app.clock
        wide = Limits(clock.monotonic, per_caller=WIDE, in_all=WIDE, strangers=WIDE, log_ins=WIDE)
        around = guarded(site, clock=clock, limits=limits or wide, hosts=guard.pop("hosts", None) or Hosts.of())
        for name, value in guard.items():
            setattr(around, name, value)
        place = listen(socket.AF_INET, "127.0.0.1", 0)
        servers.append(Server(around, place, root_path=root_path))
        return Client(port=place.getsockname()[1], tokens=tokens)

    yield served
    desk.close()
    for server in servers:
        server.close()


@pytest.fixture
def client(serve: Serve) -> Client:
    return serve()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until something holds, or says that it does not come to hold."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline, "it does not come to hold"
            time.sleep(0.01)

    return wait


@pytest.fixture
def run(app: App, config: Config) -> str:
    """A run that has not begun."""
    return app.runs.create_run(config.job("one"))
