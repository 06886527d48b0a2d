"""The API of a real service: from a request to the work that it asks for, and events that survive kill -9 of it all."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.app import App
from dbupkeep.documents import event_document
from dbupkeep.testing.pair_kit import eventually

pytestmark = pytest.mark.slow

TOKEN = "a-token-that-the-test-gives"  # noqa: S105 - as it says

CONFIG = """
version = 1
[targets.a]
url = "{url}"
[jobs.nightly]
[[jobs.nightly.steps]]
targets = ["a"]
operations = ["vacuum"]
"""


class Service:
    """A service on a ledger of its own, killed and started again on the same port."""

    def __init__(self, cli: Any, folder: Path, url: str) -> None:
        self.cli, self.folder = cli, folder
        (folder / "config.toml").write_text(CONFIG.format(url=url))
        cli.environ.update(
            DBUPKEEP_LEDGER=str(folder / "ledger.db"), DBUPKEEP_CONFIG=str(folder / "config.toml"), DBUPKEEP_TOKEN=TOKEN
        )
        self.app = App(str(folder / "ledger.db"))
        self.port = 0

    def start(self) -> None:
        self.process = self.cli.start("serve", "--port", str(self.port), "--lease", "1").process
        for line in self.process.stderr:
            if "API and page" in line:
                self.port = int(line.rpartition(":")[2])
                return
        raise AssertionError("the service did not start")

    def kill(self) -> None:
        """The service and its workers, at once."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        with closing(self.connect()) as connection:
            sent = None if body is None else json.dumps(body)
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request(method, f"/api/v1/{path}", sent, headers)
            response = connection.getresponse()
            assert response.status < 300, response.read()
            return json.loads(response.read())


@dataclass(slots=True)
class Browser:
    """Listens as a browser does: comes back by itself, with the number of the last event that it got."""

    service: Service
    path: str
    got: list[dict[str, Any]] = field(default_factory=list)
    progress: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def listen(self) -> None:
        last = ""
        while not self.stop.is_set():
            with suppress(OSError, http.client.HTTPException), closing(self.service.connect()) as connection:
                headers = {"Authorization": f"Bearer {TOKEN}", **({"Last-Event-ID": last} if last else {})}
                connection.request("GET", self.path, headers=headers)
                response = connection.getresponse()
                self.connections += response.status == 200
                message: dict[str, str] = {}
                for raw in response:
                    name, _, value = raw.decode().rstrip("\n").partition(": ")
                    if name:
                        message[name] = value
                        continue
                    last = self._take(message) or last
                    message = {}
            self.stop.wait(0.05)

    def _take(self, message: dict[str, str]) -> str:
        if message.get("event") == "progress":
            self.progress.append(json.loads(message["data"]))
        elif "data" in message:
            self.got.append(json.loads(message["data"]))
        return message.get("id", "")

    def attempts(self) -> int:
        """How often an operation was begun."""
        return max(
            (each["data"]["attempt"] for each in list(self.got) if each["event"] == "job_started"),
            default=0,
        )


@pytest.fixture
def served(cli: Any, script: Any, tmp_path: Path) -> Iterator[Service]:
    made = Service(cli, tmp_path, "scripted:///a")
    yield made
    script.let("vacuum")
    made.app.close()


def test_a_stream_loses_nothing_and_repeats_nothing_when_all_is_killed_while_a_run_goes_on(
    served: Service, script: Any
) -> None:
    served.start()
    run_id = served.ask("POST", "runs", {"definition": "nightly"})["id"]
    browsers = [Browser(served, f"/api/v1/events/stream?{query}") for query in ("after=0", f"after=0&run={run_id}")]
    listening = [threading.Thread(target=browser.listen) for browser in browsers]
    for thread in listening:
        thread.start()
    try:
        for attempts in (1, 2):
            eventually("the operation runs", lambda: browsers[0].attempts() == attempts)  # noqa: B023 - asked at once
            served.kill()
            served.start()
        script.let("vacuum")
        for browser in browsers:
            eventually("the run has ended", lambda: browser.got[-1]["job_id"] == run_id)  # noqa: B023 - as above
            eventually("nothing runs any more", lambda: browser.progress[-1] == {"jobs": []})  # noqa: B023
    finally:
        for browser in browsers:
            browser.stop.set()
        os.kill(served.process.pid, signal.SIGTERM)
        for thread in listening:
            thread.join()
    events = [event_document(each) for each in served.app.reader.events(limit=10_000)]
    assert [each["event"] for each in events][-1] == "parent_settled"
    for browser in browsers:
        assert browser.got == json.loads(json.dumps(events))
        assert browser.connections >= 3
        assert any(job["status"] == "running" for each in browser.progress for job in each["jobs"])


def test_a_database_is_maintained_by_requests_alone(cli: Any, bloated: Path, tmp_path: Path) -> None:
    service = Service(cli, tmp_path, f"sqlite://{bloated}")
    service.start()
    before = bloated.stat().st_size
    plan = service.ask("POST", "plans", {"targets": ["a"], "operations": ["vacuum"]})
    assert [item["decision"] for item in plan["jobs"]] == ["run"]
    run_id = service.ask("POST", "runs", {"plan": plan["id"]})["id"]
    eventually("the run has ended", lambda: service.ask("GET", f"jobs/{run_id}")["outcome"] == "done")
    assert bloated.stat().st_size < before / 2
    assert service.ask("GET", f"runs/{run_id}/report")["given_back"] > 0
    (target,) = service.ask("GET", "targets")["targets"]
    assert (target["databases"], target["last_status"]) == (1, "completed")
    (sample,) = service.ask("GET", "history?target=a")["measurements"]
    assert sample["operation"] == "vacuum"
    assert service.ask("GET", "workers")["workers"][0]["alive"]
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) == 0
    service.app.close()
