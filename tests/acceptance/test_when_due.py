"""`when_due` with a real service and a real file: nothing is written until the file is worth a VACUUM, then a run is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from dbupkeep.app import App
from dbupkeep.jobs import Job
from dbupkeep.ledger import JobQuery
from dbupkeep.testing.pair_kit import eventually

pytestmark = pytest.mark.slow

CONFIG = """
version = 1
[targets.app]
url = "{url}"
[policies.eager.vacuum]
min_bytes = 1
min_share = "10%"
[jobs.packing]
when_due = "{interval}"
policy = "eager"
[[jobs.packing.steps]]
targets = ["app"]
operations = ["vacuum"]
"""


class Place:
    def __init__(self, cli: Any, folder: Path) -> None:
        self.cli, self.file, self.config = cli, folder / "app.db", folder / "config.toml"
        cli.environ.update(DBUPKEEP_LEDGER=str(folder / "ledger.db"), DBUPKEEP_CONFIG=str(self.config))
        self.app = App(str(folder / "ledger.db"))

    def write(self, *, interval: str = "200ms", url: str = "") -> None:
        draft = self.config.with_name("draft.toml")
        draft.write_text(CONFIG.format(url=url or f"sqlite://{self.file}", interval=interval))
        draft.rename(self.config)

    def sql(self, *statements: str) -> None:
        connection = apsw.Connection(str(self.file))
        for statement in statements:
            connection.execute(statement)
        connection.close()

    def runs(self) -> list[Job]:
        return list(self.app.reader.jobs(JobQuery(roots=True)).jobs)

    def told(self) -> dict[str, Any]:
        (job,) = self.cli("schedule", "--json").json["jobs"]
        return dict(job)


@pytest.fixture
def place(cli: Any, tmp_path: Path) -> Iterator[Place]:
    made = Place(cli, tmp_path)
    made.sql(
        "CREATE TABLE t (x)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
        " INSERT INTO t SELECT randomblob(2000) FROM n",
    )
    yield made
    made.app.close()


def test_a_file_that_becomes_due_while_the_service_runs_is_packed(place: Place) -> None:
    place.write()
    service = place.cli.start("serve", "--port", "0", "--lease", "1")
    first = eventually("it has looked", lambda: place.told()["looked"])
    assert (first["words"], first["faults"]) == ("nothing was due: 1 database", [])
    eventually("it looks again", lambda: place.told()["looked"]["at"] > first["at"])
    assert place.runs() == []
    before = place.file.stat().st_size
    place.sql("DELETE FROM t WHERE rowid > 200")
    eventually("a run has ended", lambda: any(run.outcome == "done" for run in place.runs()))
    assert place.file.stat().st_size < before / 4
    eventually("nothing is due any more", lambda: place.told()["looked"]["due"] == 0)
    assert len(place.runs()) == 1
    text = place.cli("schedule").out
    assert "packing · when something is due, looked at every" in text
    assert "nothing was due: 1 database" in text
    assert "looks" in text
    service.signal(signal.SIGTERM)
    assert service.end().code == 0


def test_a_changed_configuration_is_looked_at_anew_and_a_fault_is_said(place: Place) -> None:
    place.write(interval="1d")
    service = place.cli.start("serve", "--port", "0", "--lease", "1")
    eventually("it has looked", lambda: place.told()["looked"])
    place.write(interval="300ms", url=f"sqlite://{place.file}.gone")
    found = eventually("it says why it could not look", lambda: (place.told()["looked"] or {}).get("faults"))
    assert found
    assert "app.db.gone" in found[0]
    assert "could not look: " in place.cli("schedule").out
    assert "could not be seen" in place.cli("health").out
    assert place.runs() == []
    service.signal(signal.SIGTERM)
    assert service.end().code == 0
