"""What a service tells the outside, by real processes and sockets: metrics, pings, webhooks, health; and kill -9 in between."""

from __future__ import annotations

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
from dbupkeep.jobs import Job
from dbupkeep.ledger import JobQuery
from dbupkeep.testing.pair_kit import eventually

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
