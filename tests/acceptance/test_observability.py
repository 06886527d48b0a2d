"""What a service tells the outside, by real processes and sockets: metrics, pings, webhooks, health; and kill -9 in between."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from prometheus_client import parser

from dbupkeep.app import App
from dbupkeep.jobs import Job, JobStatus
from dbupkeep.ledger import JobQuery
from dbupkeep.testing.pair_kit import eventually
from tests.plugins.receivers import Receiver

pytestmark = pytest.mark.slow

TOKEN = "t" * 40

CONFIG = """
version = 1
[targets.a]
url = "scripted:///a"
{more}
[jobs.nightly]
{job}
[[jobs.nightly.steps]]
targets = ["a"]
operations = ["vacuum"]
"""


class Service:
    """A configuration, a ledger, and the services that were started on them."""

    def __init__(self, cli: Any, script: Any, folder: Path) -> None:
        self.cli, self.script, self.folder = cli, script, folder
        self.config, self.ledger = folder / "config.toml", folder / "ledger.db"
        cli.environ.update(DBUPKEEP_LEDGER=str(self.ledger), DBUPKEEP_CONFIG=str(self.config), DBUPKEEP_TOKEN=TOKEN)
        self.app = App(str(self.ledger))
        self.url = ""

    def write(self, *, job: str = "", more: str = "") -> None:
        draft = self.folder / "draft.toml"
        draft.write_text(CONFIG.format(job=job, more=more))
        draft.rename(self.config)

    def serve(self, *arguments: str, **environ: str) -> Any:
        service = self.cli.start("serve", "--port", "0", "--lease", "1", *arguments, **environ)
        seen = []
        for line in service.process.stderr:
            seen.append(line)
            if found := re.search(r"http://[\d.]+:\d+", line):
                self.url = found[0]
            if "Serving" in line:
                return service
        raise AssertionError(seen)

    def kill(self, service: Any) -> None:
        """Kill a service and its workers, as when a machine fails."""
        children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
        for pid in (service.process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        service.end()

    def end(self, service: Any) -> None:
        service.signal(signal.SIGTERM)
        assert service.end().code == 0

    def get(self, path: str, token: str = TOKEN) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.url + path, headers=headers)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - ours
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def run(self) -> None:
        """Have the job run, in whatever process there is."""
        assert self.cli("run", "nightly", "--detach").code == 0

    def runs(self) -> list[Job]:
        return list(self.app.reader.jobs(JobQuery(roots=True, newest_first=False)).jobs)

    def ended(self, count: int) -> list[Job]:
        def so_many() -> list[Job]:
            found = self.runs()
            return found if len([job for job in found if job.status.ended]) >= count else []

        return eventually(f"{count} runs have ended", so_many)


@pytest.fixture
def served(cli: Any, script: Any, tmp_path: Path) -> Iterator[Service]:
    made = Service(cli, script, tmp_path)
    yield made
    script.let("vacuum")  # so that workers whose service is killed with the test come to their end
    made.app.close()


def samples(text: str) -> dict[str, float]:
    return {
        sample.name + str(sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_want_a_token_and_counters_survive_kill_9_and_pruning(served: Service) -> None:
    served.script.let("vacuum")
    served.write()
    first = served.serve()
    assert served.get("/metrics", token="")[0] == 401
    served.run()
    served.ended(1)

    def runs() -> float:
        status, text = served.get("/metrics")
        assert status == 200
        return samples(text).get("dbupkeep_runs_total[('outcome', 'done')]", 0.0)

    eventually("the run is counted", lambda: runs() == 1)
    served.run()
    served.ended(2)
    served.kill(first)
    second = served.serve()
    eventually("both are counted", lambda: runs() == 2)
    assert served.cli("prune", "--older-than", "0s").code == 0
    assert runs() == 2
    served.end(second)


TOLD = """
[notify.ops]
webhook = "{url}/hook"
secret = "env:HOOK_SECRET"
on = ["ended", "failed", "recovered"]
private = true
"""

PINGED = 'notifications = ["ops"]\nhealthcheck = "{url}/ping"\nhealthcheck_private = true'


def test_after_kill_9_in_the_middle_of_a_delivery_every_message_arrives_once_by_its_id(
    served: Service, receiver: Receiver
) -> None:
    """The receiver has the request and does not answer; the service is killed; the next one sends it again, and the rest."""
    served.cli.environ["HOOK_SECRET"] = "whsec_" + "a" * 32
    served.script.let("vacuum")
    served.write(more=TOLD.format(url=receiver.url), job=PINGED.format(url=receiver.url))
    first = served.serve()
    eventually("it begins", lambda: served.app.reader.get("follower", "ping:nightly"))
    receiver.answers.clear()
    served.run()
    eventually("a request is under way", lambda: len(receiver.received) >= 2)
    served.ended(1)
    served.kill(first)
    served.run()  # while no service runs: it is carried out by the next one
    hanging = len(receiver.received)
    receiver.answers.set()
    second = served.serve()
    runs = [run.id for run in served.ended(2)]
    pings = [f"/ping/start?rid={runs[0]}", f"/ping?rid={runs[0]}", f"/ping/start?rid={runs[1]}", f"/ping?rid={runs[1]}"]

    def answered(path: str) -> list[str]:
        return [each for each in receiver.paths[hanging:] if each.startswith(path)]

    eventually("all pings came, in order", lambda: answered("/ping") == pings)
    eventually("all messages came", lambda: len(answered("/hook")) == 2)
    hooks = [each for each in receiver.received if each.path == "/hook"]
    ids = [each.headers["webhook-id"] for each in hooks]
    assert len(set(ids)) == 2  # the one under way came again, with the same id
    assert [json.loads(each.body)["data"]["run_id"] for each in hooks[-2:]] == runs
    served.end(second)


def test_a_receiver_that_is_down_costs_workers_nothing_and_gets_all_when_it_is_back(
    served: Service, receiver: Receiver
) -> None:
    served.cli.environ["HOOK_SECRET"] = "whsec_" + "a" * 32
    served.script.let("vacuum")
    receiver.status = 503
    served.write(more=TOLD.format(url=receiver.url), job=PINGED.format(url=receiver.url))
    service = served.serve()
    eventually("it begins", lambda: served.app.reader.get("follower", "notify:ops"))
    served.run()
    served.run()
    runs = served.ended(2)
    assert [run.outcome for run in runs] == ["done", "done"]
    eventually("it was tried", lambda: "/hook" in receiver.paths)

    def failing() -> bool:
        return 'dbupkeep_follower_failing_seconds{follower="notify:ops"}' in served.get("/metrics")[1]

    eventually("metrics say so", failing)
    receiver.status = 200
    known = len(receiver.received)

    def delivered() -> bool:
        hooks = [each for each in receiver.received[known:] if each.path == "/hook"]
        return [json.loads(each.body)["data"]["run_id"] for each in hooks] == [run.id for run in runs]

    eventually("both messages came, in order", delivered)
    served.end(service)


def test_health_by_command_for_people_containers_and_nagios(served: Service) -> None:
    served.script.let("vacuum", said="it broke")
    served.write(job='every = "1h"')
    down = served.cli("health", "--nagios")
    assert (down.code, down.out[:17]) == (2, "DBUPKEEP CRITICAL")
    assert served.cli("health", "--service").code == 1
    service = served.serve()
    served.ended(1)
    assert served.cli("health", "--service").code == 0
    sick = served.cli("health")
    assert sick.code == 1
    assert "nightly: its last run ended failed; it never succeeded" in sick.out
    told = served.cli("health", "--json", "--deep").json
    assert told["status"] == "warning"
    assert {"ledger", "scheduler", "workers", "success"} <= {check["name"] for check in told["checks"]}
    assert served.cli("health", "--nagios").code == 1
    served.script.let("vacuum")
    assert served.cli("run", "nightly").code == 0
    well = served.cli("health", "--nagios")
    assert well.out.startswith("DBUPKEEP OK")
    assert "'success nightly'=" in well.out
    served.end(service)
    unusable = served.cli("health", "--nagios", "--ledger", "/dev/null/ledger.db")
    assert (unusable.code, unusable.out[:16]) == (3, "DBUPKEEP UNKNOWN")


def test_a_test_message_says_whether_it_arrived(served: Service, receiver: Receiver) -> None:
    served.cli.environ["HOOK_SECRET"] = "whsec_" + "a" * 32
    served.write(more=TOLD.format(url=receiver.url), job=PINGED.format(url=receiver.url))
    done = served.cli("notify")
    assert (done.code, sorted(done.out.split("\n"))[1:]) == (
        0,
        ["✓ notify:ops: delivered", "✓ ping:nightly: delivered"],
    )
    assert receiver.paths[0].startswith("/ping/log?rid=")
    assert json.loads(receiver.received[1].body)["data"]["title"] == "A test of dbupkeep"
    receiver.status = 403
    failed = served.cli("notify", "ops", "--json")
    assert failed.code == 1
    assert failed.json == {
        "receivers": [{"name": "notify:ops", "delivered": False, "reason": "the receiver answered 403"}]
    }
    unknown = served.cli("notify", "opps")
    assert unknown.code == 2
    assert "there is nightly, ops" in unknown.err


def test_a_receiver_that_is_added_while_it_runs_is_told_from_then_on(served: Service, receiver: Receiver) -> None:
    served.cli.environ["HOOK_SECRET"] = "whsec_" + "a" * 32
    served.script.let("vacuum")
    served.write()
    service = served.serve()
    served.run()
    served.ended(1)
    served.write(more=TOLD.format(url=receiver.url), job='notifications = ["ops"]')
    eventually("it has a place", lambda: served.app.reader.get("follower", "notify:ops"))
    served.run()
    last = served.ended(2)[-1]
    eventually("it is told", lambda: receiver.received)
    assert [json.loads(each.body)["data"]["run_id"] for each in receiver.received] == [last.id]
    served.end(service)


def test_a_stop_tells_how_what_ran_has_ended(served: Service, receiver: Receiver) -> None:
    """The service waits for what runs, and its end is pinged before it leaves."""
    served.write(job=f'healthcheck = "{receiver.url}/ping"\nhealthcheck_private = true')
    service = served.serve()
    eventually("it begins", lambda: served.app.reader.get("follower", "ping:nightly"))
    served.run()
    vacuum = JobQuery(types=("database_maintenance_operation",), statuses=(JobStatus.RUNNING,))
    eventually("it has begun", lambda: served.app.reader.jobs(vacuum).jobs)
    service.signal(signal.SIGTERM)
    for line in service.process.stderr:
        if "Ending after what runs now" in line:
            break
    served.script.let("vacuum")
    assert service.end().code == 0
    assert [path.partition("?")[0] for path in receiver.paths] == ["/ping/start", "/ping"]
